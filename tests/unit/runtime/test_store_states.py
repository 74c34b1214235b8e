"""Changes of stores' states are told, whatever the log does meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from tintype.adapters.memory.store_states import MemoryStoreStateLog
from tintype.domain.errors import EventLogUnavailableError
from tintype.ports.image_store import StoreMode, StoreState
from tintype.ports.store_states import StoreStateChanged
from tintype.runtime import store_states
from tintype.runtime.store_states import StoreStateTeller

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
WORKS = StoreState(StoreMode.READ_WRITE, NOON)
STALE = StoreState(StoreMode.READ_ONLY, NOON, "STORE_MOUNT_STALE", "it is stale")
AWAY = StoreState(StoreMode.AWAY, NOON, "STORE_UNAVAILABLE", "it is away")


class Log(MemoryStoreStateLog):
    """A log that fails so often before it takes a change."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self.failures = failures
        self.took = asyncio.Event()

    async def append(self, change: StoreStateChanged) -> None:
        if self.failures:
            self.failures -= 1
            raise EventLogUnavailableError("away")
        await super().append(change)
        self.took.set()

    async def taken(self, count: int) -> list[StoreStateChanged]:
        async with asyncio.timeout(10):
            while len(self.changes) < count:
                self.took.clear()
                await self.took.wait()
        return self.changes


@asynccontextmanager
async def telling(teller: StoreStateTeller, log: Log) -> AsyncIterator[None]:
    task = asyncio.create_task(teller.run(log))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def changed(store: str, state: StoreState) -> StoreStateChanged:
    return StoreStateChanged(store, state, "importer", "host-1")


async def test_each_change_is_told_with_who_saw_it() -> None:
    teller, log = StoreStateTeller("importer", host="host-1"), Log()
    async with telling(teller, log):
        teller.note("main", STALE)
        await log.taken(1)
        teller.note("main", WORKS)
        assert await log.taken(2) == [changed("main", STALE), changed("main", WORKS)]


async def test_what_was_noted_before_the_log_was_there_is_told() -> None:
    teller, log = StoreStateTeller("importer", host="host-1"), Log()
    teller.note("main", STALE)
    async with telling(teller, log):
        assert await log.taken(1) == [changed("main", STALE)]


async def test_a_log_that_is_away_loses_no_store_and_gets_the_newest_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_states, "_FIRST_DELAY_S", 0.01)
    teller, log = StoreStateTeller("importer", host="host-1"), Log(failures=3)
    teller.note("main", STALE)
    teller.note("second", AWAY)
    teller.note("main", AWAY)
    async with telling(teller, log):
        assert await log.taken(2) == [changed("main", AWAY), changed("second", AWAY)]
