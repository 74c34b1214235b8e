"""Every call to a store has a deadline, and nobody waits for one that hangs.

A call that is late is cancelled, and left alone: a thread in the kernel ends when the kernel lets it. What it was about
stays as it should be: nothing else is done with its writer before it has ended, a writer that it opened too late is
closed, and a stream that it was reading is ended behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import structlog

from tintype.adapters.decorators.delegation import DelegatingStore, DelegatingWriter, end
from tintype.domain.errors import StoreTimeoutError, TintypeError
from tintype.ports.image_store import BlobWriter, DirectLocation, Finding, ImageStore, StoredBlob, StoreSpace

R = TypeVar("R")

log = structlog.get_logger(__name__)

SLOWEST_BYTES_S = 16 * 1024 * 1024
"""What takes longer the larger a blob is, such as making all of it durable, has this much more time: 1 s for 16 MiB."""

LONG = 10
"""What takes longer without its size being known, a deletion or an examination, has so many times the usual time."""


class Deadlines(DelegatingStore):
    """A store each of whose calls ends within ``timeout_s``, or fails; each piece of a stream is a call."""

    def __init__(self, inner: ImageStore, timeout_s: float) -> None:
        super().__init__(inner)
        self._calls = LateCalls(inner.name)
        self._timeout_s = timeout_s

    async def open_write(self, key: str, *, resume: bool = False, replace: bool = False) -> BlobWriter:
        """Begin a staged write, or go on with an interrupted one.

        Raises:
            StoreTimeoutError: it is not open in time; what is opened later is closed again.
        """
        opening = self._inner.open_write(key, resume=resume, replace=replace)
        writer = await self._calls.within(self._timeout_s, opening, undo=lambda opened: opened.close())
        return _Writer(writer, self._calls, self._timeout_s)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield committed bytes, each piece in time."""
        return self._stream(self._inner.read(key, offset=offset, length=length))

    def read_uncommitted(self, key: str) -> AsyncIterator[bytes]:
        """Yield the bytes of an unfinished write, each piece in time."""
        return self._stream(self._inner.read_uncommitted(key))

    async def stat(self, key: str) -> StoredBlob:
        """What is under ``key``, in time."""
        return await self._calls.within(self._timeout_s, self._inner.stat(key))

    async def delete(self, key: str) -> None:
        """Remove the bytes of ``key``, in a long time: they may be many."""
        await self._calls.within(LONG * self._timeout_s, self._inner.delete(key))

    def list(self, prefix: str = "") -> AsyncIterator[StoredBlob]:
        """Yield all that is stored, each in time."""
        return self._stream(self._inner.list(prefix))

    async def check(self) -> None:
        """Find out whether the store can be written and read, in time."""
        await self._calls.within(self._timeout_s, self._inner.check())

    async def examine(self) -> Sequence[Finding]:
        """Look at everything, in a long time."""
        return await self._calls.within(LONG * self._timeout_s, self._inner.examine())

    async def space(self) -> StoreSpace | None:
        """How much room there is, in time."""
        return await self._calls.within(self._timeout_s, self._inner.space())

    async def locate(self, key: str, *, expires_in_s: float) -> DirectLocation | None:
        """Where committed bytes are, in time."""
        return await self._calls.within(self._timeout_s, self._inner.locate(key, expires_in_s=expires_in_s))

    async def aclose(self) -> None:
        """End the store, once the calls that were late have ended, or some time has gone by."""
        await self._calls.wait(self._timeout_s)
        with suppress(StoreTimeoutError):
            await self._calls.within(self._timeout_s, self._inner.aclose())

    async def _stream(self, pieces: AsyncIterator[R]) -> AsyncIterator[R]:
        is_late = False
        try:
            while True:
                try:
                    piece = await self._calls.within(self._timeout_s, _next(pieces), after=lambda: end(pieces))
                except _EndOfStream:
                    return
                except (StoreTimeoutError, asyncio.CancelledError):
                    is_late = True  # the stream is ended behind the piece that it is busy with
                    raise
                yield piece
        finally:
            if not is_late:
                await end(pieces)


class _Writer(DelegatingWriter):
    """A writer that nothing is done with while a late call is still at it."""

    def __init__(self, inner: BlobWriter, calls: LateCalls, timeout_s: float) -> None:
        super().__init__(inner)
        self._calls = calls
        self._timeout_s = timeout_s
        self._told = inner.offset
        self._late: set[asyncio.Future[Any]] = set()

    async def append(self, data: bytes | memoryview) -> None:
        """Write behind what is there, in time.

        Raises:
            StoreTimeoutError: it was not written in time; or an earlier append was, and nobody knows it.
        """
        is_begun = False

        async def append() -> None:
            nonlocal is_begun
            if self._inner.offset != self._told:
                raise StoreTimeoutError("bytes were written after their time: resume the write, or begin it anew")
            is_begun = True
            await self._inner.append(data)

        try:
            await self._run(self._timeout_s, append)
        except TintypeError:
            if is_begun and not self._late:  # it has ended: whoever is told of the failure can see how far it came
                self._told = self._inner.offset
            raise
        self._told = self._inner.offset

    async def commit(self, *, size: int, digests: Mapping[str, str]) -> None:
        """Make the bytes durable and visible, in a time that grows with them."""
        time_s = self._timeout_s + size / SLOWEST_BYTES_S
        await self._run(time_s, lambda: self._inner.commit(size=size, digests=digests))

    async def abort(self) -> None:
        """Remove what was written, as soon as no late call is at it any more."""
        await self._run(self._timeout_s + self.offset / SLOWEST_BYTES_S, self._inner.abort, is_end=True)

    async def close(self) -> None:
        """Stop writing, as soon as no late call is at it any more."""
        await self._run(self._timeout_s, self._inner.close, is_end=True)

    async def _run(self, timeout_s: float, call: Callable[[], Awaitable[None]], *, is_end: bool = False) -> None:
        earlier = frozenset(self._late)

        async def in_turn() -> None:
            if earlier:
                await asyncio.wait(earlier)
            await call()

        # The end of a write comes sooner or later, whoever still waits for it.
        await self._calls.within(timeout_s, in_turn(), late=self._remember, is_cancelled=not is_end)

    def _remember(self, call: asyncio.Future[Any]) -> None:
        self._late.add(call)
        call.add_done_callback(self._late.discard)


class LateCalls:
    """Calls under deadlines, and those that did not keep them."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._late: set[asyncio.Future[Any]] = set()

    async def within(
        self,
        timeout_s: float,
        call: Coroutine[Any, Any, R],
        *,
        undo: Callable[[R], Awaitable[None]] | None = None,
        after: Callable[[], Awaitable[None]] | None = None,
        late: Callable[[asyncio.Future[Any]], None] | None = None,
        is_cancelled: bool = True,
    ) -> R:
        """Wait for ``call``; when it is late, it is cancelled, and left to end.

        ``late`` gets what ends with it. What it came to is given to ``undo``, and then ``after`` is called.

        Raises:
            StoreTimeoutError: it did not end in time.
        """
        task = asyncio.ensure_future(call)
        try:
            # Not wait_for, which waits for what it cancels: a thread that hangs cannot be cancelled.
            await asyncio.wait([task], timeout=timeout_s)
        except asyncio.CancelledError:
            self._leave(task, undo, after, late, is_cancelled)
            raise
        if task.done():
            return task.result()
        self._leave(task, undo, after, late, is_cancelled)
        raise StoreTimeoutError(f"store {self._store!r} did not answer in {timeout_s:g} s")

    async def wait(self, timeout_s: float) -> None:
        """Wait until no late call is under way any more, or for ``timeout_s``."""
        if self._late:
            await asyncio.wait(self._late, timeout=timeout_s)

    def _leave(
        self,
        task: asyncio.Future[R],
        undo: Callable[[R], Awaitable[None]] | None,
        after: Callable[[], Awaitable[None]] | None,
        late: Callable[[asyncio.Future[Any]], None] | None,
        is_cancelled: bool,
    ) -> None:
        if is_cancelled:
            task.cancel()
        cleaning = asyncio.ensure_future(self._clean_up(task, undo, after))
        self._late.add(cleaning)
        cleaning.add_done_callback(self._late.discard)
        if late is not None:
            late(cleaning)

    async def _clean_up(
        self,
        task: asyncio.Future[R],
        undo: Callable[[R], Awaitable[None]] | None,
        after: Callable[[], Awaitable[None]] | None,
    ) -> None:
        await asyncio.wait([task])
        try:
            # Looking at the error is also what marks it as seen: nobody else will.
            if not task.cancelled() and task.exception() is None and undo is not None:
                await undo(task.result())
            if after is not None:
                await after()
        except TintypeError as exc:
            log.info("what a late call left was not cleared away", store=self._store, error=str(exc))


class _EndOfStream(Exception):
    """A stream has no further piece; StopAsyncIteration cannot be the outcome of a task."""


async def _next(pieces: AsyncIterator[R]) -> R:
    try:
        return await anext(pieces)
    except StopAsyncIteration:
        raise _EndOfStream from None
