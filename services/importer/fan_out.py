"""One write into several stores at once: every store gets the same bytes, in their order, from one pass over them.

Each store has a queue and a task of its own, so that none waits for another's hiccups, and only the slowest one's pace
counts. A store that fails, or that stands still while the others wait for it, drops out with its reason, and the others
go on; where all of them have to succeed, or none is left, the write fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from tintype.domain.errors import AlreadyExistsError, InternalError, StoreTimeoutError, TintypeError
from tintype.domain.events import FailedStore
from tintype.domain.image import failure_of
from tintype.domain.values import BlobRef
from tintype.ports.image_store import BlobWriter, ImageStore

log = structlog.get_logger(__name__)

PATIENCE_S = 30.0
"""For so long a store may stand still while the others wait for it."""

_QUEUED_PIECES = 4
"""So many pieces, of 4 MiB at most, one store may lag behind another: an upload has them in memory while one hangs."""

_leaving: set[asyncio.Task[None]] = set()


class Branch:
    """The write into one store. ``error`` is why it dropped out."""

    def __init__(self, store: ImageStore, writer: BlobWriter, *, patience_s: float | None = None) -> None:
        """``patience_s`` is for so long it may stand still: :data:`PATIENCE_S`, where nothing is said."""
        self.store = store
        self.writer = writer
        self.error: TintypeError | None = None
        self.is_committed = False
        self._patience_s = PATIENCE_S if patience_s is None else patience_s
        self._written = 0
        self._queue: asyncio.Queue[bytes | memoryview | None] = asyncio.Queue(_QUEUED_PIECES)
        self._task = asyncio.create_task(self._run(), name=f"write {writer.key} into {store.name}")

    def put_now(self, data: bytes | memoryview) -> bool:
        """As :meth:`put`, where that need not wait: ``False`` where it does."""
        if self.error is None:
            try:
                self._queue.put_nowait(data)
            except asyncio.QueueFull:
                return False
        return True

    async def put(self, data: bytes | memoryview | None) -> None:
        """Write ``data`` soon, behind what was put before; of a store that has dropped out, never."""
        while self.error is None:
            written = self._written
            try:
                async with asyncio.timeout(self._patience_s):
                    await self._queue.put(data)
                return
            except TimeoutError:
                self._drop_if_still(written)

    async def settle(self) -> None:
        """Wait until all that was put is written, or the store has dropped out; nothing more is put."""
        if not self._task.done():
            await self.put(None)
        while self.error is None and not self._task.done():
            written = self._written
            await asyncio.wait([self._task], timeout=self._patience_s)
            if not self._task.done():
                self._drop_if_still(written)

    async def commit(self, size: int, digests: Mapping[str, str]) -> None:
        """Make the bytes visible in this store, or drop out."""
        try:
            await self.writer.commit(size=size, digests=digests)
            self.is_committed = True
        except TintypeError as exc:
            self._drop(exc)
        except Exception as exc:
            self._drop(self._crashed(exc))

    async def keep(self) -> None:
        """Stop, and keep what was written."""
        await self.settle()
        if self.error is None and not self.is_committed:
            await self.writer.close()

    async def give_up(self) -> None:
        """Stop, and remove what was written, but what is committed."""
        await self.settle()
        if self.error is None and not self.is_committed:
            await self.writer.abort()

    async def remove(self) -> None:
        """Stop, and remove all that is under the key: what was written, and what was committed, now or before."""
        await self.give_up()
        if self.error is None:
            await self.store.delete(self.writer.key)

    async def _run(self) -> None:
        while (data := await self._queue.get()) is not None and self.error is None:
            try:
                await self.writer.append(data)
                self._written += 1
            except TintypeError as exc:
                self._drop(exc)
            except Exception as exc:
                self._drop(self._crashed(exc))

    def _crashed(self, exc: Exception) -> InternalError:
        log.exception("write crashed", store=self.store.name, key=self.writer.key)
        return InternalError(f"store {self.store.name!r} failed unexpectedly: {type(exc).__name__}")

    def _drop_if_still(self, written: int) -> None:
        if self._written == written and self.error is None:
            self._drop(StoreTimeoutError(f"store {self.store.name!r} took no bytes for {self._patience_s:g} s"))

    def _drop(self, error: TintypeError) -> None:
        if self.error is not None:  # it was dropped while its last call was under way, and that has ended now
            return
        self.error = error
        log.warning(
            "store drops out of a write",
            store=self.store.name,
            key=self.writer.key,
            reason=error.reason,
            error=str(error),
        )
        leaving = asyncio.create_task(self._leave(), name=f"remove {self.writer.key} from {self.store.name}")
        _leaving.add(leaving)
        leaving.add_done_callback(_leaving.discard)

    async def _leave(self) -> None:
        """Remove what was written, once the store is done with its last call; nobody waits for that."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)
        await asyncio.wait([self._task])
        try:
            await self.writer.abort()
        except Exception as exc:  # what is left is swept
            log.warning("what was written is left for the sweep", store=self.store.name, error=str(exc)[:200])


async def all_left(within_s: float) -> None:
    """Wait, for so long at most, until the stores that dropped out are rid of what was written to them."""
    here = asyncio.get_running_loop()
    if leaving := [task for task in _leaving if task.get_loop() is here]:
        _, late = await asyncio.wait(leaving, timeout=within_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


class FanOutWriter:
    """A :class:`~tintype.ports.image_store.BlobWriter` into several stores.

    ``unopened`` are stores that it could not even be begun in. With ``is_whole`` a store has all the bytes already.
    ``is_recorded`` tells whether the log knows the bytes, which then nobody but the sweep may remove.
    """

    def __init__(
        self,
        branches: Sequence[Branch],
        unopened: Mapping[str, TintypeError],
        *,
        offset: int = 0,
        is_whole: bool = False,
        all_must_succeed: bool = False,
        is_recorded: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self._branches = branches
        self._unopened = unopened
        self._offset = offset
        self._is_whole = is_whole
        self._all_must_succeed = all_must_succeed
        self._is_recorded = is_recorded

    @property
    def key(self) -> str:
        """What the bytes will be called, in every store."""
        return self._branches[0].writer.key

    @property
    def offset(self) -> int:
        """How many bytes have been appended; the stores may still be at the last of them."""
        return self._offset

    @property
    def local_path(self) -> Path | None:
        """There are several files, or none."""
        return None

    def committed(self) -> tuple[BlobRef, ...]:
        """Where the bytes are after :meth:`commit`."""
        return tuple(BlobRef(each.store.name, each.writer.key) for each in self._branches if each.is_committed)

    def failed(self) -> tuple[FailedStore, ...]:
        """The stores that could not take the bytes, and why."""
        dropped = {each.store.name: each.error for each in self._branches if each.error is not None}
        return tuple(FailedStore(name, failure_of(error)) for name, error in {**self._unopened, **dropped}.items())

    async def append(self, data: bytes | memoryview) -> None:
        """Write ``data`` into every store that has not failed.

        Raises:
            AlreadyExistsError: there can be no more of them.
            TintypeError: the failure of a store, where all have to succeed, or the first one's, where all have failed.
        """
        if self._is_whole:
            raise AlreadyExistsError("the upload has all its bytes already")
        self.require_alive()
        self._offset += len(data)
        await _put(self._branches, data)

    async def caught_up(self, pieces: AsyncIterator[bytes], leader: Branch) -> AsyncIterator[bytes]:
        """Yield the bytes that ``leader`` has already, and write them into all others."""
        others = [branch for branch in self._branches if branch is not leader]
        async for piece in pieces:
            await _put(others, piece)
            yield piece

    async def commit(self, *, size: int, digests: Mapping[str, str]) -> None:
        """Make the bytes visible in every store that has not failed.

        Raises:
            TintypeError: as for :meth:`append`. What is committed by then stays until :meth:`abort`.
        """
        await asyncio.gather(*(branch.settle() for branch in self._branches))
        self.require_alive()
        alive = [branch for branch in self._branches if branch.error is None]
        await asyncio.gather(*(branch.commit(size, digests) for branch in alive))
        self.require_alive()

    @property
    def is_alive(self) -> bool:
        """Whether there is a store that has not failed."""
        return any(branch.error is None for branch in self._branches)

    async def give_up(self) -> None:
        """Remove what is not committed; what cannot be removed now is swept."""
        with suppress(TintypeError):
            await _all(branch.give_up() for branch in self._branches)

    async def abort(self) -> None:
        """Remove what was written. Safe to call twice.

        What is committed stays, until it is swept, where another replica may have recorded it by now.

        Raises:
            TintypeError: a store does not let it; all others are rid of it.
        """
        may_remove = await self._may_remove()
        await _all(branch.remove() if may_remove else branch.give_up() for branch in self._branches)

    async def close(self) -> None:
        """Stop writing, and keep the bytes.

        Raises:
            TintypeError: a store failed; all others keep them.
        """
        await _all(branch.keep() for branch in self._branches)

    async def _may_remove(self) -> bool:
        if self._is_whole:
            return False
        if self._is_recorded is None or not any(branch.is_committed for branch in self._branches):
            return True
        try:
            return not await self._is_recorded()
        except TintypeError:
            return False

    def require_alive(self) -> None:
        """Check that enough stores are left.

        Raises:
            TintypeError: the failure of a store, where all have to succeed, or the first one's, where all have failed.
        """
        dropped = [branch.error for branch in self._branches if branch.error is not None]
        failures = [*self._unopened.values(), *dropped]
        if failures and (self._all_must_succeed or not self.is_alive):
            raise failures[0]


async def _put(branches: Sequence[Branch], data: bytes | memoryview) -> None:
    """Hand ``data`` to all, and wait for all that lag at once: several that hang are waited for as long as one."""
    if lagging := [branch for branch in branches if not branch.put_now(data)]:
        await asyncio.gather(*(branch.put(data) for branch in lagging))


async def _all(ends: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do all of them to their ends, and raise what the first of them raised."""
    for outcome in await asyncio.gather(*ends, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
