"""Reading what a conversion wrote: its size, its digest, its inspection, and the guest's disk inside of it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from services.converter.plan import SourceDisk
from services.converter.watched import Tell, both, watched
from tintype.disks.byte_file import ByteFile
from tintype.disks.guest_digest import digest_of
from tintype.disks.opening import open_disk
from tintype.domain.errors import BlobDamagedError, StoreUnavailableError, TruncatedError
from tintype.domain.values import STRONG_DIGESTS, Blob, DiskFormat, GuestDigest
from tintype.inspect import Inspection, Inspector


@dataclass(frozen=True, slots=True)
class Examined:
    """What is in a file; ``guest_digest`` is that of the disk which a guest sees."""

    size: int
    digest_hex: str
    inspection: Inspection
    guest_digest: GuestDigest


async def examine(
    path: Path, disk_format: DiskFormat, algorithm: str, on_progress: Callable[[int, int], None]
) -> Examined:
    """Hash and inspect a file, and the disk in it, at the same time. ``on_progress`` gets bytes done and bytes in all.

    Raises:
        RefusedContentError: the file is not a safe image of that format.
        StoreUnavailableError: it cannot be read.
    """
    # The commit will wait for the disk: let it begin while the processor hashes.
    flushing = asyncio.ensure_future(asyncio.to_thread(_begin_flush, path))
    try:
        size = (await asyncio.to_thread(path.stat)).st_size
        (digest_hex, inspection), disk = await both(
            watched(lambda tell: _examine(path, disk_format, algorithm, tell), lambda done: on_progress(done, size)),
            guest_digest(path, SourceDisk(disk_format)),
        )
        return Examined(size, digest_hex, inspection, disk)
    except OSError as exc:
        raise StoreUnavailableError(f"the converted image cannot be read: {exc.strerror}") from exc
    finally:
        await asyncio.wait([flushing])


async def guest_digest(path: Path, disk: SourceDisk, on_progress: Tell = lambda _: None) -> GuestDigest:
    """The digest of the guest's disk in a file. ``on_progress`` gets bytes of the disk.

    Raises:
        RefusedContentError: the disk cannot be read whole.
    """

    def work(tell: Tell) -> GuestDigest:
        with open_disk(path, disk.disk_format, offset=disk.offset, length=disk.length) as opened:
            return digest_of(opened, on_progress=lambda part: tell(int(part * opened.size)))

    return await watched(work, on_progress)


async def require_staged(path: Path, staged: Blob) -> None:
    """Check that a file holds the very bytes that were staged: those that a publisher has signed.

    Raises:
        BlobDamagedError: it holds others.
        StoreUnavailableError: it cannot be read.
    """
    damaged = BlobDamagedError(f"the bytes at {staged.ref.key} are not those that were staged")
    algorithm = next((each for each in STRONG_DIGESTS if each in staged.digests), None)
    if algorithm is None:
        raise BlobDamagedError(f"no digest was taken of the bytes at {staged.ref.key} that would prove anything")
    try:
        found = await watched(lambda tell: _digest(path, algorithm, tell), lambda _: None)
    except TruncatedError:
        raise damaged from None
    except OSError as exc:
        raise StoreUnavailableError(f"the staged bytes cannot be read: {exc.strerror}") from exc
    if found != staged.digests[algorithm]:
        raise damaged


def _digest(path: Path, algorithm: str, tell: Tell) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    done = 0
    with ByteFile(path) as file:
        for piece in file.pieces():
            digest.update(piece)
            done += len(piece)
            tell(done)
    return digest.hexdigest()


def _begin_flush(path: Path) -> None:
    # What fails here fails again, and is told, when the writer commits: its descriptor has been open all along.
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)


def _examine(path: Path, disk_format: DiskFormat, algorithm: str, tell: Tell) -> tuple[str, Inspection]:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    inspector = Inspector(disk_format)
    done = 0
    for piece in _pieces(path):
        digest.update(piece)
        inspector.feed(piece)
        done += len(piece)
        tell(done)
    return digest.hexdigest(), inspector.finish()


def _pieces(path: Path) -> Iterator[memoryview]:
    try:
        with ByteFile(path) as file:
            yield from file.pieces()
    except TruncatedError as exc:  # our own output, so that it is no fault of the image
        raise StoreUnavailableError("the converted image became shorter while it was read") from exc
