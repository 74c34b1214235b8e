"""Whoever wants to know is told when a store's state changes: what makes an event or an alert of it. It is logged, too.

The state is looked at after each call. Services check their stores every few seconds, so that no change stays unseen,
one that the store found out by itself included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import structlog

from tintype.adapters.decorators.delegation import DelegatingStore, DelegatingWriter
from tintype.ports.image_store import BlobWriter, ImageStore, StoreMode, StoreSpace, StoreState

OnState = Callable[[str, StoreState], None]
"""Gets a store's name and its new state; it must neither block nor raise."""

log = structlog.get_logger(__name__)


def tell_nobody(name: str, state: StoreState) -> None:
    """Tell nobody but the log."""


def _log_state(name: str, state: StoreState) -> None:
    if state.mode is StoreMode.READ_WRITE:
        log.info("store works", store=name, since=state.since.isoformat())
    else:
        log.error("store does not work fully", store=name, mode=state.mode, reason=state.reason, error=state.message)


class StateWatch(DelegatingStore):
    """A store whose changes of state are told to ``on_state``; at first, that it does not work, if so."""

    def __init__(self, inner: ImageStore, on_state: OnState) -> None:
        super().__init__(inner)
        self._on_state = on_state
        self._told = (StoreMode.READ_WRITE, "")
        self.look()

    def look(self) -> None:
        """Tell of the state if it is another one than was told."""
        state = self._inner.state
        found = (state.mode, "" if state.mode is StoreMode.READ_WRITE else state.reason)
        if found != self._told:
            self._told = found
            _log_state(self.name, state)
            self._on_state(self.name, state)

    async def open_write(self, key: str, *, resume: bool = False, replace: bool = False) -> BlobWriter:
        """Begin a staged write, or go on with an interrupted one."""
        with self.looking():
            writer = await self._inner.open_write(key, resume=resume, replace=replace)
        return _Writer(writer, self)

    async def check(self) -> None:
        """Find out whether the store can be written and read."""
        with self.looking():
            await self._inner.check()

    async def space(self) -> StoreSpace | None:
        """How much room there is; ``None`` where there is no such thing."""
        with self.looking():
            return await self._inner.space()

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look at the state after a call, whatever became of it."""
        try:
            yield
        finally:
            self.look()


class _Writer(DelegatingWriter):
    def __init__(self, inner: BlobWriter, store: StateWatch) -> None:
        super().__init__(inner)
        self._store = store

    async def append(self, data: bytes | memoryview) -> None:
        """Write behind what is there."""
        with self._store.looking():
            await self._inner.append(data)

    async def commit(self, *, size: int, digests: Mapping[str, str]) -> None:
        """Make the bytes durable and visible."""
        with self._store.looking():
            await self._inner.commit(size=size, digests=digests)
