"""A span for every call to a store, for whoever collects traces; without an OpenTelemetry SDK they cost little.

A stream is one span, from its beginning to its end, and so is a write, from its opening to its commit or its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import TypeVar

from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, get_tracer

from tintype.adapters.decorators.delegation import DelegatingStore, DelegatingWriter, end
from tintype.domain.errors import TintypeError
from tintype.ports.image_store import BlobWriter, DirectLocation, Finding, ImageStore, StoredBlob, StoreSpace

R = TypeVar("R")

STORE = "tintype.store"
KEY = "tintype.key"
OFFSET = "tintype.offset"
BYTES = "tintype.bytes"
ERROR = "error.type"


class Tracing(DelegatingStore):
    """A store whose calls are spans named ``store CALL``, of a caller's span where it has one."""

    def __init__(self, inner: ImageStore, tracer: Tracer | None = None) -> None:
        super().__init__(inner)
        self._tracer = tracer or get_tracer("tintype.store")

    async def open_write(self, key: str, *, resume: bool = False, replace: bool = False) -> BlobWriter:
        """Begin a staged write, or go on with an interrupted one."""
        span = self._span("write", key)
        try:
            writer = await self._inner.open_write(key, resume=resume, replace=replace)
        except BaseException as exc:
            _finish(span, exc)
            raise
        span.set_attribute(OFFSET, writer.offset)
        return _Writer(writer, span)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield committed bytes from ``offset``, ``length`` at most."""
        return self._read("read", key, offset, self._inner.read(key, offset=offset, length=length))

    def read_uncommitted(self, key: str) -> AsyncIterator[bytes]:
        """Yield the bytes of an unfinished write from the beginning."""
        return self._read("read_uncommitted", key, 0, self._inner.read_uncommitted(key))

    async def stat(self, key: str) -> StoredBlob:
        """What is under ``key``, committed or not."""
        return await self._trace(self._span("stat", key), self._inner.stat(key))

    async def delete(self, key: str) -> None:
        """Remove the bytes of ``key``, committed or not."""
        await self._trace(self._span("delete", key), self._inner.delete(key))

    async def check(self) -> None:
        """Find out whether the store can be written and read."""
        await self._trace(self._span("check"), self._inner.check())

    async def examine(self) -> Sequence[Finding]:
        """Look at everything that an operator should know before the store is trusted."""
        return await self._trace(self._span("examine"), self._inner.examine())

    async def space(self) -> StoreSpace | None:
        """How much room there is; ``None`` where there is no such thing."""
        return await self._trace(self._span("space"), self._inner.space())

    async def locate(self, key: str, *, expires_in_s: float) -> DirectLocation | None:
        """Where a compute service fetches or clones committed bytes by itself; the place is not told to the trace."""
        return await self._trace(self._span("locate", key), self._inner.locate(key, expires_in_s=expires_in_s))

    def _span(self, call: str, key: str = "", offset: int = 0) -> Span:
        attributes: dict[str, str | int] = {STORE: self.name}
        if key:
            attributes[KEY] = key[:200]
        if offset:
            attributes[OFFSET] = offset
        return self._tracer.start_span(f"store {call}", kind=SpanKind.CLIENT, attributes=attributes)

    async def _trace(self, span: Span, call: Awaitable[R]) -> R:
        try:
            found = await call
        except BaseException as exc:
            _finish(span, exc)
            raise
        span.end()
        return found

    async def _read(self, call: str, key: str, offset: int, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        span = self._span(call, key, offset)
        size = 0
        failure: BaseException | None = None
        try:
            async for piece in pieces:
                size += len(piece)
                yield piece
        except BaseException as exc:
            failure = exc
            raise
        finally:
            span.set_attribute(BYTES, size)
            _finish(span, failure)
            await end(pieces)


class _Writer(DelegatingWriter):
    def __init__(self, inner: BlobWriter, span: Span) -> None:
        super().__init__(inner)
        self._span = span

    async def append(self, data: bytes | memoryview) -> None:
        """Write behind what is there."""
        try:
            await self._inner.append(data)
        except TintypeError as exc:
            self._span.add_event("append failed", {ERROR: exc.reason})
            raise

    async def commit(self, *, size: int, digests: Mapping[str, str]) -> None:
        """Make the bytes durable and visible."""
        await self._end_with("committed", self._inner.commit(size=size, digests=digests))

    async def abort(self) -> None:
        """Remove what was written."""
        await self._end_with("aborted", self._inner.abort())

    async def close(self) -> None:
        """Stop writing, and keep the bytes."""
        await self._end_with("closed", self._inner.close())

    async def _end_with(self, event: str, call: Awaitable[None]) -> None:
        """A write may end twice, with a commit that failed and then an abort: the first is its span's end."""
        if self._span.is_recording():
            self._span.set_attribute(BYTES, self._inner.offset)
        try:
            await call
        except BaseException as exc:
            _finish(self._span, exc)
            raise
        if self._span.is_recording():
            self._span.add_event(event)
            self._span.end()


def _finish(span: Span, error: BaseException | None) -> None:
    """End the span; an error's reason is told, and not its text, which may name what a trace should not."""
    if not span.is_recording():
        return
    if error is not None and not isinstance(error, asyncio.CancelledError | GeneratorExit):
        reason = error.reason if isinstance(error, TintypeError) else TintypeError.reason
        span.set_attribute(ERROR, reason)
        span.set_status(Status(StatusCode.ERROR, reason))
    span.end()
