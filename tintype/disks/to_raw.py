"""Writing a disk into a raw file: one pass that reads, decompresses, hashes and writes, in several threads.

Making the file, making it durable, and proving that the output is what was read, are the caller's.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

from tintype.disks.chunks import ChunkRun, hash_disk
from tintype.disks.disk import SECTOR_SIZE, Disk
from tintype.disks.guest_digest import seal
from tintype.domain.errors import AbandonedError, StoreFullError, StoreUnavailableError, TintypeError
from tintype.domain.values import GuestDigest

_BLOCK_SIZE = 4096
"""Zeros of this length stay a hole, at a multiple of it: as with qemu-img, whose output is no sparser then."""

_ZERO_BLOCK = bytes(_BLOCK_SIZE)
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_raw(
    disk: Disk,
    output: Path,
    *,
    threads: int = 2,
    on_progress: Callable[[float], None] | None = None,
    stop: threading.Event | None = None,
) -> GuestDigest:
    """Write ``disk`` into ``output``, a file that exists and is empty, and tell the digest of what was read.

    The output is sparse, and whole sectors long. Each of the ``threads`` needs a few MiB. ``on_progress`` gets
    fractions, rising to 1; setting ``stop`` from another thread ends the work. After a failure the output's content is
    undefined.

    Raises:
        RefusedContentError: the disk cannot be read.
        StoreFullError: there is no room for the output.
        StoreUnavailableError: the disk's file or the output failed, or the output is not as it should be.
        AbandonedError: ``stop`` was set.
    """
    size = disk.size

    def after_run(run: ChunkRun) -> None:
        if stop is not None and stop.is_set():
            raise AbandonedError("writing the raw disk was stopped")
        if on_progress is not None:
            on_progress(run.end / size)

    try:
        descriptor = _open_empty(output)
        try:
            os.ftruncate(descriptor, -(-size // SECTOR_SIZE) * SECTOR_SIZE)
            tree = hash_disk(
                disk,
                threads=threads,
                on_chunk=lambda offset, data: _write_data(descriptor, offset, data),
                after_run=after_run,
            )
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise _translated(exc) from exc
    return seal(tree, size)


def _open_empty(path: Path) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size:
        os.close(descriptor)
        raise StoreUnavailableError("the output is not an empty file")
    return descriptor


def _write_data(descriptor: int, offset: int, data: bytes) -> None:
    """Write all blocks that are not zeros, neighbours at once."""
    view = memoryview(data)
    begin = 0
    for position in range(0, len(data), _BLOCK_SIZE):
        if data.startswith(_ZERO_BLOCK, position):  # compares as memcmp does
            _write(descriptor, offset + begin, view[begin:position])
            begin = position + _BLOCK_SIZE
    _write(descriptor, offset + begin, view[begin:])


def _write(descriptor: int, offset: int, view: memoryview) -> None:
    while view:
        written = os.pwrite(descriptor, view, offset)
        offset, view = offset + written, view[written:]


def _translated(error: OSError) -> TintypeError:
    if error.errno in _NO_ROOM:
        return StoreFullError("there is no room for the raw disk")
    said = os.strerror(error.errno) if error.errno else "unknown error"
    return StoreUnavailableError(f"the raw disk cannot be written: {said}")
