"""When a store takes no bytes for a while, and when it does again."""

from __future__ import annotations

import pytest

from tests.unit.decorators.failing_store import KEY, FailingStore, put, read
from tintype.adapters.decorators.circuit_breaker import CircuitBreaker
from tintype.adapters.decorators.read_only import ReadOnly
from tintype.adapters.decorators.state_watch import StateWatch
from tintype.domain.errors import StoreFullError, StoreReadOnlyError, StoreTimeoutError
from tintype.ports.image_store import StoreMode, StoreState
from tintype.runtime.clock import SystemClock

LATE = StoreTimeoutError("late")


class Breaking:
    """A breaker around a store that fails, and the time that it goes by."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.inner = FailingStore()
        self.store = CircuitBreaker(
            self.inner, SystemClock(), failures=3, within_s=60, probe_after_s=10, monotonic=lambda: self.now
        )

    async def fail(self, times: int, error: Exception = LATE) -> None:
        for _ in range(times):
            self.inner.failures = [error]
            with pytest.raises(type(error)):
                await self.store.open_write(KEY)


async def test_writes_that_fail_in_a_row_make_it_read_only() -> None:
    breaking = Breaking()
    await put(breaking.store, b"kept")
    await breaking.fail(3)
    assert breaking.store.state.mode is StoreMode.READ_ONLY
    assert breaking.store.state.reason == "STORE_TIMEOUT"
    breaking.inner.calls.clear()
    with pytest.raises(StoreReadOnlyError):
        await breaking.store.open_write(KEY, replace=True)
    assert breaking.inner.calls == []
    assert await read(breaking.store) == b"kept"


async def test_failures_that_are_not_in_a_row_or_not_within_the_time_do_not() -> None:
    breaking = Breaking()
    await breaking.fail(2)
    await put(breaking.store, b"between")
    await breaking.fail(2)
    breaking.now += 61
    await breaking.fail(2)
    assert breaking.store.state.mode is StoreMode.READ_WRITE


async def test_one_write_counts_once_however_often_it_fails() -> None:
    breaking = Breaking()
    writer = await breaking.store.open_write(KEY)
    for _ in range(5):
        breaking.inner.failures = [LATE]
        with pytest.raises(StoreTimeoutError):
            await writer.append(b"x")
    assert breaking.store.state.mode is StoreMode.READ_WRITE


async def test_a_full_store_is_not_broken() -> None:
    breaking = Breaking()
    await breaking.fail(5, StoreFullError("full"))
    assert breaking.store.state.mode is StoreMode.READ_WRITE


async def test_a_check_that_succeeds_puts_it_back() -> None:
    breaking = Breaking()
    await breaking.fail(3)
    await breaking.store.check()
    assert breaking.store.state.mode is StoreMode.READ_WRITE
    await put(breaking.store, b"again")


async def test_after_a_while_one_write_looks_whether_it_is_well() -> None:
    breaking = Breaking()
    await breaking.fail(3)
    breaking.now += 11
    breaking.inner.calls.clear()
    breaking.inner.failures = [LATE]
    for _ in range(2):
        with pytest.raises(StoreReadOnlyError):
            await breaking.store.open_write(KEY)
    assert breaking.inner.calls == ["check"]
    breaking.now += 11
    await put(breaking.store, b"again")


async def test_a_store_can_be_set_read_only() -> None:
    inner = FailingStore()
    await put(inner, b"kept")
    store = ReadOnly(inner, SystemClock().now())
    assert store.state.mode is StoreMode.READ_ONLY
    with pytest.raises(StoreReadOnlyError):
        await store.open_write(KEY, replace=True)
    assert await read(store) == b"kept"
    await store.delete(KEY)


async def test_each_change_of_state_is_told_once() -> None:
    told: list[tuple[str, StoreMode, str]] = []

    def tell(name: str, state: StoreState) -> None:
        told.append((name, state.mode, state.reason))

    breaking = Breaking()
    store = StateWatch(breaking.store, tell)
    for _ in range(3):
        breaking.inner.failures = [LATE]
        with pytest.raises(StoreTimeoutError):
            await store.open_write(KEY)
    for _ in range(2):
        with pytest.raises(StoreReadOnlyError):
            await store.open_write(KEY)
    await store.check()
    await store.check()
    assert told == [("main", StoreMode.READ_ONLY, "STORE_TIMEOUT"), ("main", StoreMode.READ_WRITE, "")]
