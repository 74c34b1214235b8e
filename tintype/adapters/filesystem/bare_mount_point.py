"""Whether the directory beneath a mount could take files while the share is away.

While the share is mounted only a process that may mount (CAP_SYS_ADMIN) can look beneath it: a copy of the mount above,
without what is mounted in it (open_tree(2) with OPEN_TREE_CLONE), shows the bare directory. Others are told so.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import shlex
import stat
import struct
from collections.abc import Sequence
from pathlib import Path

from tintype.adapters.filesystem.mount_table import Mount, MountTable
from tintype.ports.image_store import Finding, Grade

NAME = "mount-point-unwritable"

_SYS_OPEN_TREE = 428  # the same on every architecture since Linux 5.2
_OPEN_TREE_CLONE = 1
_AT_FDCWD = -100
_FS_IOC_GETFLAGS = 0x80086601  # linux/fs.h, on 64 bits
_FS_IMMUTABLE = 0x10


def examined_mount_point(mount: Mount, table: MountTable) -> Sequence[Finding]:
    """What the mount point of a mounted share is beneath it. Blocks."""
    above = table.above(mount)
    if above is None or platform.system() != "Linux":
        return (_unseen(mount.mount_point, "the mount above it cannot be seen"),)
    try:
        tree = _clone(above.mount_point)
    except OSError as exc:
        return (_unseen(mount.mount_point, os.strerror(exc.errno or 0)),)
    try:
        beneath = mount.mount_point.relative_to(above.mount_point)
        descriptor = os.open(beneath, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=tree)
    except (OSError, ValueError):
        return (_unseen(mount.mount_point, "it cannot be opened"),)
    finally:
        os.close(tree)
    try:
        return (judged(mount.mount_point, descriptor),)
    finally:
        os.close(descriptor)


def judged(path: Path, bare: int) -> Finding:
    """Whether the service's user could write into the open bare directory."""
    mode = stat.S_IMODE(os.fstat(bare).st_mode)
    if _is_immutable(bare):
        return Finding(NAME, Grade.GOOD, "the bare mount point is immutable")
    quoted = shlex.quote(str(path))
    mend = f"While it is not mounted: chown root: {quoted} && chmod 0 {quoted} && chattr +i {quoted}"
    if os.geteuid() == 0:
        grade = Grade.BAD if mode & 0o222 else Grade.DOUBTFUL
        return Finding(NAME, grade, f"the bare mount point has mode {mode:04o}; root may write to it", mend)
    if os.access(".", os.W_OK, dir_fd=bare):
        return Finding(NAME, Grade.BAD, f"the service may write to the bare mount point (mode {mode:04o})", mend)
    return Finding(NAME, Grade.GOOD, f"the service may not write to the bare mount point (mode {mode:04o})")


def _unseen(path: Path, why: str) -> Finding:
    said = f"what is beneath the mount cannot be seen by this user ({why})"
    quoted = shlex.quote(str(path))
    return Finding(NAME, Grade.DOUBTFUL, said, f"Ask as root, or look at `ls -ld {quoted}` while it is not mounted.")


def _is_immutable(descriptor: int) -> bool:
    try:
        answer = fcntl.ioctl(descriptor, _FS_IOC_GETFLAGS, struct.pack("l", 0))
    except OSError:
        return False  # a file system without such flags
    return bool(struct.unpack("l", answer)[0] & _FS_IMMUTABLE)


def _clone(path: Path) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    opened = int(libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags))
    if opened < 0:
        number = ctypes.get_errno() or errno.ENOSYS
        raise OSError(number, os.strerror(number))
    return opened
