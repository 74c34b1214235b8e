"""The lock of the one writer that a file may have: an open file description lock on one byte far behind every image.

The kernel lets go of it when its holder is killed. Others can ask whether it is held without taking it, so that who
lists the store is never in a writer's way. Over NFS the server keeps it (NFSv4, or lockd with NFSv3), unless the mount
says ``nolock`` or ``local_lock``. It is a single byte because qemu-img locks bytes of its own at the beginning.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

_FLOCK = "hhqqi0q"  # struct flock: type, whence, start, length, pid
_FIRST, _LENGTH = 1 << 62, 1


def take_write_lock(descriptor: int) -> None:
    """Take it; it is held until the last descriptor of this opening is closed.

    Raises:
        BlockingIOError: somebody else has it.
        OSError: the file system has no locks.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, _FIRST, _LENGTH, 0))
    except OSError as exc:
        if exc.errno in (errno.EAGAIN, errno.EACCES):  # POSIX allows either
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from exc
        raise


def is_write_locked(descriptor: int) -> bool:
    """Whether another opening of the file holds it."""
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, _FIRST, _LENGTH, 0)
    answer: int = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked))[0]
    return answer != fcntl.F_UNLCK
