"""One pass over the bytes of an image: every hash, the inspection and the write at once, each in a thread of its own.

It owns the order and the bounds: how many bytes may come, how many are in flight, what is checked before the bytes are
committed. Where they come from is the matter of the sources and uploads; where they go is the writer's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from services.importer.expectations import Expectations
from services.importer.lanes import Digests, Lane
from tintype.disks.guest_digest import GuestDigester
from tintype.domain.errors import (
    DigestMismatchError,
    EmptyImageError,
    ImageTooLargeError,
    SizeMismatchError,
    StoreUnavailableError,
)
from tintype.domain.values import Blob, BlobRef, DiskFormat
from tintype.inspect import Inspector
from tintype.inspect.compression.inspector import CompressedInspector
from tintype.ports.image_store import BlobWriter

MAX_IN_FLIGHT_SIZE = 16 * 1024 * 1024
"""Bytes that were received, and that a hash or the disk has not finished with."""

BATCH_SIZE = 1024 * 1024
_MAX_BATCH_PIECES = 64
_MAX_IN_FLIGHT_BATCHES = 8


class OnePass:
    """Takes the bytes in order. Ends with :meth:`finish`, :meth:`abort` or :meth:`close`.

    A cancelled :meth:`feed` either took its piece whole or not at all, so that the pass can go on.
    """

    def __init__(self, expectations: Expectations, writer: BlobWriter) -> None:
        self._expectations = expectations
        self._writer = writer
        self._digests = Digests(expectations.algorithms)
        self._inspector = _inspector(expectations)
        self._inspection = Lane(self._inspector.feed)
        self._lanes = [*self._digests.lanes, self._inspection]
        self._guest_digester = _guest_digester(expectations)
        if self._guest_digester:
            self._lanes.append(Lane(self._guest_digester.update))
        self._write_turn = asyncio.Lock()
        self._batch: list[bytes | memoryview] = []
        self._batch_size = 0
        self._batch_is_new = True
        self._in_flight: deque[_Batch] = deque()
        self._in_flight_size = 0
        self._offset = 0
        self._failure: BaseException | None = None

    received: None = None
    """The bytes are stored as they come."""

    @property
    def offset(self) -> int:
        """How many bytes were taken."""
        return self._offset

    async def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes; ``data`` must not change afterwards.

        Raises:
            ImageTooLargeError: there are more than the site allows.
            SizeMismatchError: there are more than were announced.
            RefusedContentError: the inspection refuses them.
            StoreFullError, StoreUnavailableError: they cannot be written.
        """
        await self._take(data, is_new=True)

    async def replay(self, data: bytes | memoryview) -> None:
        """Take bytes that the writer has already, after an interruption.

        Raises:
            RefusedContentError: as for :meth:`feed`.
        """
        await self._take(data, is_new=False)

    async def flush(self) -> None:
        """Wait until all that was taken is hashed and written.

        Raises:
            TintypeError: as for :meth:`feed`.
        """
        self._submit()
        await self._settle(0)

    async def finish(self, store: str) -> Blob:
        """Check all bytes, commit them, and say what they are; ``store`` is the name of the writer's store.

        Raises:
            EmptyImageError: there was not one byte.
            SizeMismatchError: there are fewer than were announced.
            DigestMismatchError: they are not those that were announced.
            RefusedContentError: the inspection refuses them.
            StoreFullError, StoreUnavailableError, BlobDamagedError: they cannot be committed.
        """
        await self.flush()
        digests = self._digests.hex()
        require_announced(self._expectations, self._offset, digests)
        found = await self._inspection.run(self._inspector.finish)
        await self._writer.commit(size=self._offset, digests=digests)
        self._stop()
        return Blob(
            ref=BlobRef(store, self._writer.key),
            size=self._offset,
            digests=digests,
            disk_format=found.disk_format,
            virtual_size=found.virtual_size,
            facts=found.facts,
            guest_digest=self._guest_digester.digest() if self._guest_digester else None,
        )

    async def abort(self) -> None:
        """Give up, and remove what was written. Safe to call twice."""
        self._batch.clear()
        await self._drain()
        await self._writer.abort()

    async def close(self) -> None:
        """Stop, and keep what was taken, to go on with another pass."""
        self._submit()
        await self._drain()
        await self._writer.close()

    async def _take(self, data: bytes | memoryview, *, is_new: bool) -> None:
        size = len(data)
        require_room(self._expectations, self._offset + size)
        await self._settle(MAX_IN_FLIGHT_SIZE - BATCH_SIZE - size)
        if size == 0:
            return
        if self._batch_is_new is not is_new:
            self._submit()
            self._batch_is_new = is_new
        self._batch.append(data)
        self._batch_size += size
        self._offset += size
        if self._batch_size >= BATCH_SIZE or len(self._batch) >= _MAX_BATCH_PIECES:
            self._submit()

    def _submit(self) -> None:
        """Hand the collected pieces to the threads: each hand-over costs, so they go several at once."""
        if not self._batch:
            return
        batch = _Batch(self._batch_size, [lane.submit(self._batch) for lane in self._lanes])
        if self._batch_is_new:
            batch.work.append(asyncio.ensure_future(self._append(self._batch)))
        self._in_flight.append(batch)
        self._in_flight_size += self._batch_size
        self._batch, self._batch_size = [], 0

    async def _append(self, pieces: Sequence[bytes | memoryview]) -> None:
        async with self._write_turn:  # asyncio's locks are fair: the order of the pieces is kept
            for data in pieces:
                if self._failure is None:
                    try:
                        await self._writer.append(data)
                    except BaseException as exc:
                        self._failure = exc
                        raise

    async def _settle(self, most: int) -> None:
        """Wait until at most ``most`` bytes are in flight; raise what went wrong with any that are not."""
        while self._in_flight and (
            self._in_flight_size > max(0, most) or len(self._in_flight) >= _MAX_IN_FLIGHT_BATCHES
        ):
            oldest = self._in_flight[0]
            await asyncio.wait(oldest.work)  # and not gather, which would cancel them with its caller
            self._in_flight.popleft()
            self._in_flight_size -= oldest.size
            for done in oldest.work:
                if not done.cancelled() and (error := done.exception()):
                    self._failure = self._failure or error
        if self._failure:
            raise self._failure

    async def _drain(self) -> None:
        pending = [future for batch in self._in_flight for future in batch.work]
        if pending:
            await asyncio.wait(pending)
        for future in pending:
            if not future.cancelled():
                future.exception()  # seen: the pass is given up
        self._in_flight.clear()
        self._stop()

    def _stop(self) -> None:
        for lane in self._lanes:
            lane.close()


@dataclass(slots=True)
class _Batch:
    size: int
    work: list[asyncio.Future[None]]


def require_room(expected: Expectations, total: int) -> None:
    """Check that so many bytes may come.

    Raises:
        ImageTooLargeError: they are more than the site allows.
        SizeMismatchError: they are more than were announced.
    """
    if total > expected.max_size:
        raise ImageTooLargeError(f"the image has more than {expected.max_size} bytes")
    if expected.size is not None and total > expected.size:
        raise SizeMismatchError(f"{expected.size} bytes were announced, and more came")


def require_announced(expected: Expectations, size: int, digests: Mapping[str, str]) -> None:
    """Check all that came against what was announced.

    Raises:
        EmptyImageError: there was not one byte.
        SizeMismatchError: there are fewer than were announced.
        DigestMismatchError: they are not those that were announced.
    """
    if size == 0:
        raise EmptyImageError("the image has no bytes")
    if expected.size is not None and size != expected.size:
        raise SizeMismatchError(f"{expected.size} bytes were announced, and {size} came")
    for wanted in (expected.digest, expected.listed_digest):
        if wanted and (found := digests[wanted.algorithm]) != wanted.hex:
            raise DigestMismatchError(f"the bytes have the digest {wanted.algorithm}:{found}, not {wanted}")


def _inspector(expected: Expectations) -> Inspector | CompressedInspector:
    inspector = Inspector(
        expected.disk_format,
        max_virtual_size=expected.max_virtual_size,
        max_allocation_ratio=expected.max_allocation_ratio,
    )
    return CompressedInspector(inspector, max_size=expected.max_size) if expected.is_compressed else inspector


def _guest_digester(expected: Expectations) -> GuestDigester | None:
    """Only a raw image is its disk; what was declared raw is that by the end, or refused."""
    return GuestDigester() if expected.disk_format is DiskFormat.RAW and not expected.is_compressed else None


class BytesPass(Protocol):
    """What takes the bytes of one image: :class:`OnePass`, or one that does something to them before."""

    @property
    def offset(self) -> int:
        """How many bytes were taken."""

    async def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""

    async def replay(self, data: bytes | memoryview) -> None:
        """Take bytes that the writer has already."""

    async def finish(self, store: str) -> Blob:
        """Check all bytes, and commit them."""

    async def abort(self) -> None:
        """Give up, and remove what was written."""


async def stage(
    one_pass: BytesPass, pieces: AsyncGenerator[bytes, None], store: str, progress: Callable[[int], None]
) -> Blob:
    """Take all ``pieces``, and finish; whatever goes wrong, nothing is left.

    Raises:
        TintypeError: what the source, the checks or the store raised.
    """
    try:
        async with aclosing(pieces) as source:
            async for piece in source:
                await one_pass.feed(piece)
                progress(one_pass.offset)
        return await one_pass.finish(store)
    except BaseException:
        await one_pass.abort()
        raise


async def replay(one_pass: BytesPass, pieces: AsyncIterator[bytes], written: int) -> None:
    """Take the ``written`` bytes that an interrupted write has left in the store.

    Raises:
        StoreUnavailableError: they are not what they should be; another try may find them.
    """
    async for piece in pieces:
        await one_pass.replay(piece)
    if one_pass.offset != written:
        raise StoreUnavailableError(f"an unfinished write has {written} bytes, and {one_pass.offset} were read")
