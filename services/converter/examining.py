"""Reading what qemu-img wrote: its size, digest and inspection, in one pass and in bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tintype.domain.errors import StoreUnavailableError
from tintype.domain.values import DiskFormat
from tintype.inspect import Inspection, Inspector

PIECE_BYTES = 1024 * 1024
_ZEROS = bytes(PIECE_BYTES)


@dataclass(frozen=True, slots=True)
class Examined:
    """What is in a file."""

    size: int
    digest_hex: str
    inspection: Inspection


async def examine(
    path: Path, disk_format: DiskFormat, algorithm: str, on_progress: Callable[[int, int], None]
) -> Examined:
    """Hash and inspect a file in a thread. ``on_progress`` gets bytes done and bytes in all, in the event loop.

    Raises:
        RefusedContentError: the file is not a safe image of that format.
        StoreUnavailableError: it cannot be read.
    """
    loop = asyncio.get_running_loop()
    stop = threading.Event()
    # The commit will wait for the disk: let it begin while the processor hashes.
    flushing = asyncio.ensure_future(asyncio.to_thread(_begin_flush, path))

    def tell(done: int, total: int) -> None:
        loop.call_soon_threadsafe(on_progress, done, total)

    work = asyncio.ensure_future(asyncio.to_thread(_examine, path, disk_format, algorithm, tell, stop))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        # The thread reads a file that the caller is about to remove: see it end first.
        stop.set()
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # seen: a file that was read in part is seldom a whole image
        raise
    except OSError as exc:
        raise StoreUnavailableError(f"the converted image cannot be read: {exc.strerror}") from exc
    finally:
        await asyncio.wait([flushing])


def _begin_flush(path: Path) -> None:
    # What fails here fails again, and is told, when the writer commits: its descriptor has been open all along.
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)


def _examine(
    path: Path, disk_format: DiskFormat, algorithm: str, tell: Callable[[int, int], None], stop: threading.Event
) -> Examined:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    inspector = Inspector(disk_format)
    piece = bytearray(PIECE_BYTES)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        offset = hole_end = 0
        while offset < size and not stop.is_set():
            if offset >= hole_end:
                hole_end = _next_data(descriptor, offset, size)
            wanted = min(PIECE_BYTES, size - offset)
            if offset + wanted <= hole_end:
                view = memoryview(_ZEROS)[:wanted]  # a hole: hashed like all else, but never read
            else:
                count = os.preadv(descriptor, [memoryview(piece)[:wanted]], offset)
                if count == 0:
                    raise StoreUnavailableError("the converted image became shorter while it was read")
                view = memoryview(piece)[:count]
            digest.update(view)
            inspector.feed(view)
            offset += len(view)
            tell(offset, size)
        return Examined(size, digest.hexdigest(), inspector.finish())
    finally:
        os.close(descriptor)


def _next_data(descriptor: int, offset: int, size: int) -> int:
    """Where the next data begin: ``offset`` itself where there is no hole, or where holes cannot be seen."""
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as exc:
        if exc.errno == errno.ENXIO:  # nothing but a hole up to the end
            return size
        if exc.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            return offset
        raise
