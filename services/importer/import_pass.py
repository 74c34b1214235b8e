"""One pass over bytes that are imported: where they come compressed, they are decompressed on their way into the store.

What came and what is stored are different bytes then. Of what came, all digests are taken and announced sizes and
digests are compared with it, since that is what its publisher signed; of what is stored, the site's digest. It owns the
choice, which the first bytes make, and the order of the two; each of them is an ordinary :class:`OnePass` or less.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import structlog

from services.importer.expectations import Expectations
from services.importer.lanes import Digests, Lane
from services.importer.one_pass import OnePass, require_announced, require_room
from tintype.domain.errors import TintypeError
from tintype.domain.values import Blob, Fact, Received
from tintype.inspect.compression.decompressor import SNIFF_SIZE, Decompressor
from tintype.inspect.compression.inspector import COMPRESSION, COMPRESSION_SOURCE
from tintype.inspect.compression.kinds import DECOMPRESSIBLE, compression_of
from tintype.ports.image_store import BlobWriter

log = structlog.get_logger(__name__)

OpenWriter = Callable[[], Awaitable[BlobWriter]]


class ImportPass:
    """Takes the bytes in order, as :class:`OnePass` does, and chooses by the first of them how they are taken."""

    def __init__(
        self, expectations: Expectations, writer: BlobWriter, open_decompressed: OpenWriter | None = None
    ) -> None:
        """Without ``open_decompressed`` the writer gets the bytes to store, decompressed if need be.

        With it, the writer gets the bytes as they come, so that an interrupted upload can be gone on with: its client
        counts in those. What is stored goes to the writer that ``open_decompressed`` opens anew for each pass.
        """
        self._expectations = expectations
        self._writer = writer
        self._open_decompressed = open_decompressed
        self._head: list[tuple[bytes | memoryview, bool]] = []
        self._head_size = 0
        self._choosing: asyncio.Future[None] | None = None
        self._candidate: OnePass | DecompressingPass | None = None
        self._chosen: OnePass | DecompressingPass | None = None

    @property
    def offset(self) -> int:
        """How many bytes were taken, as they came."""
        return self._chosen.offset if self._chosen else self._head_size

    @property
    def received(self) -> Received | None:
        """What came, where it was decompressed; after :meth:`finish`."""
        return self._chosen.received if self._chosen else None

    async def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes; ``data`` must not change afterwards.

        Raises:
            TintypeError: as :meth:`OnePass.feed`, and what is wrong with compressed bytes.
        """
        await self._take(data, is_new=True)

    async def replay(self, data: bytes | memoryview) -> None:
        """Take bytes that the writer has already, after an interruption.

        Raises:
            TintypeError: as for :meth:`feed`.
        """
        await self._take(data, is_new=False)

    async def flush(self) -> None:
        """Wait until all that was taken is hashed and written.

        Raises:
            TintypeError: as for :meth:`feed`.
        """
        await (await self._choice()).flush()

    async def finish(self, store: str) -> Blob:
        """Check all bytes, commit those that are to be stored, and say what they are.

        Raises:
            TintypeError: as :meth:`OnePass.finish`, and what is wrong with compressed bytes.
        """
        return await (await self._choice()).finish(store)

    async def abort(self) -> None:
        """Give up, and remove what was written. Safe to call twice."""
        if self._choosing:
            await asyncio.wait([self._choosing])
        await (self._candidate or self._writer).abort()

    async def close(self) -> None:
        """Stop, and keep what was taken, to go on with another pass."""
        try:
            await self._choice()
        except TintypeError as exc:  # whoever fed it has met this too
            log.info("pass was closed with nothing decompressed", reason=exc.reason)
        await (self._candidate or self._writer).close()

    async def _take(self, data: bytes | memoryview, *, is_new: bool) -> None:
        if self._choosing:
            await _hand_over(await self._choice(), data, is_new)
            return
        require_room(self._expectations, self._head_size + len(data))
        self._head.append((data, is_new))
        self._head_size += len(data)
        if self._head_size >= SNIFF_SIZE:
            await self._choice()

    async def _choice(self) -> OnePass | DecompressingPass:
        if self._choosing is None:
            self._choosing = asyncio.ensure_future(self._choose())
        await asyncio.shield(self._choosing)  # whoever is cancelled meanwhile leaves it whole
        assert self._chosen is not None
        return self._chosen

    async def _choose(self) -> None:
        kind = compression_of(b"".join(bytes(data[:SNIFF_SIZE]) for data, _ in self._head))
        candidate = await self._decompressing(kind) if kind in DECOMPRESSIBLE else self._plain()
        self._candidate = candidate
        for data, is_new in self._head:
            await _hand_over(candidate, data, is_new)
        self._head.clear()
        self._chosen = candidate

    def _plain(self) -> OnePass:
        return OnePass(self._expectations, self._writer)

    async def _decompressing(self, kind: str) -> DecompressingPass:
        if self._open_decompressed is None:
            return DecompressingPass(kind, self._expectations, self._writer)
        return DecompressingPass(kind, self._expectations, await self._open_decompressed(), keep=self._writer)


class DecompressingPass:
    """Takes compressed bytes in order, and stores what comes out of them."""

    def __init__(
        self, kind: str, expectations: Expectations, writer: BlobWriter, *, keep: BlobWriter | None = None
    ) -> None:
        """``keep`` is a writer that gets the bytes as they come; whoever opened it removes them in the end."""
        self._expectations = expectations
        self._kind = kind
        self._keep = keep
        self._decompressor = Decompressor(kind, max_size=expectations.max_size)
        self._decompressing = Lane(lambda _: None)
        self._digests = Digests(expectations.algorithms)
        stored = replace(
            expectations,
            algorithms=frozenset({expectations.stored_algorithm}),
            size=None,
            digest=None,
            listed_digest=None,
        )
        self._stored = OnePass(stored, writer)
        self._offset = 0
        self._work: asyncio.Future[None] | None = None
        self._is_interrupted = False
        self.received: Received | None = None

    @property
    def offset(self) -> int:
        """How many compressed bytes were taken."""
        return self._offset

    async def feed(self, data: bytes | memoryview) -> None:
        """As :meth:`ImportPass.feed`."""
        await self._take(data, self._keep)

    async def replay(self, data: bytes | memoryview) -> None:
        """As :meth:`ImportPass.replay`."""
        await self._take(data, None)

    async def flush(self) -> None:
        """As :meth:`ImportPass.flush`."""
        await self._settle()
        await self._stored.flush()

    async def finish(self, store: str) -> Blob:
        """As :meth:`ImportPass.finish`."""
        await self._settle()
        digests = self._digests.hex()
        require_announced(self._expectations, self._offset, digests)
        await self._decompressing.run(self._decompressor.finish)
        blob = await self._stored.finish(store)
        await self._stop()
        self.received = Received(self._offset, digests, self._kind)
        return replace(blob, facts={**blob.facts, COMPRESSION: Fact(self._kind, COMPRESSION_SOURCE)})

    async def abort(self) -> None:
        """As :meth:`ImportPass.abort`."""
        await self._interrupt()
        await self._stored.abort()
        if self._keep:
            await self._keep.abort()

    async def close(self) -> None:
        """As :meth:`ImportPass.close`; what came out is made again when it goes on."""
        await self._interrupt()
        await self._stored.abort()
        await self._stop()

    async def _take(self, data: bytes | memoryview, keep: BlobWriter | None) -> None:
        await self._settle()
        require_room(self._expectations, self._offset + len(data))
        self._offset += len(data)
        # Whoever is cancelled meanwhile has had its piece taken whole: little may come in, and much come out.
        self._work = asyncio.ensure_future(self._work_off(data, keep))
        await asyncio.shield(self._work)

    async def _work_off(self, data: bytes | memoryview, keep: BlobWriter | None) -> None:
        if keep:
            await keep.append(data)
        hashing = self._digests.submit([data])
        try:
            pieces = self._decompressor.feed(data)
            while not self._is_interrupted and (piece := await self._decompressing.run(lambda: _next(pieces))):
                await self._stored.feed(piece)
        finally:
            await asyncio.wait(hashing)

    async def _settle(self) -> None:
        if self._work:
            await asyncio.shield(self._work)

    async def _interrupt(self) -> None:
        self._is_interrupted = True
        if self._work:
            await asyncio.wait([self._work])
            if not self._work.cancelled():
                self._work.exception()  # seen: the pass is given up
        self._close_lanes()

    async def _stop(self) -> None:
        self._close_lanes()
        if self._keep:
            await self._keep.close()

    def _close_lanes(self) -> None:
        self._decompressing.close()
        self._digests.close()


async def _hand_over(taker: OnePass | DecompressingPass, data: bytes | memoryview, is_new: bool) -> None:
    await (taker.feed(data) if is_new else taker.replay(data))


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)
