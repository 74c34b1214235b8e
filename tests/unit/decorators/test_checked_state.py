"""What a check finds is the store's state."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.decorators.failing_store import FailingStore
from tintype.adapters.decorators.checked_state import CheckedState
from tintype.adapters.decorators.read_only import ReadOnly
from tintype.domain.errors import (
    StoreAccessDeniedError,
    StoreFullError,
    StoreMissingError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from tintype.ports.image_store import StoreMode
from tintype.testing.clock import FakeClock

LOST = StoreMissingError("the bucket is gone")


class Failing(FailingStore):
    """A store whose checks fail, or hang."""

    error: Exception | None = None
    hangs = False

    async def check(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.error:
            raise self.error


@pytest.mark.parametrize(
    ("error", "mode"),
    [
        (LOST, StoreMode.AWAY),
        (StoreUnavailableError("cut off"), StoreMode.AWAY),
        (StoreAccessDeniedError("no right to write"), StoreMode.READ_ONLY),
    ],
)
async def test_a_failed_check_is_the_state_until_one_succeeds(error: StoreUnavailableError, mode: StoreMode) -> None:
    inner, clock = Failing(), FakeClock()
    store = CheckedState(inner, clock)
    assert store.state.mode is StoreMode.READ_WRITE
    inner.error = error
    began = clock.now()
    for _ in range(2):
        with pytest.raises(type(error)):
            await store.check()
        assert (store.state.mode, store.state.reason, store.state.message) == (mode, error.reason, error.message)
        assert store.state.since == began
        clock.advance(10)
    inner.error = None
    await store.check()
    assert (store.state.mode, store.state.since) == (StoreMode.READ_WRITE, clock.now())


async def test_a_check_that_hangs_has_failed() -> None:
    inner = Failing()
    inner.hangs = True
    store = CheckedState(inner, FakeClock(), check_s=0.01)
    with pytest.raises(StoreTimeoutError):
        await store.check()
    assert (store.state.mode, store.state.reason) == (StoreMode.AWAY, "STORE_TIMEOUT")


async def test_a_full_store_is_not_away() -> None:
    inner = Failing()
    inner.error = StoreFullError("no room")
    store = CheckedState(inner, FakeClock())
    with pytest.raises(StoreFullError):
        await store.check()
    assert store.state.mode is StoreMode.READ_WRITE


async def test_what_a_store_knows_of_itself_goes_before_what_a_check_found() -> None:
    inner, clock = Failing(), FakeClock()
    store = CheckedState(ReadOnly(inner, clock.now()), clock)
    inner.error = LOST
    with pytest.raises(StoreMissingError):
        await store.check()
    assert store.state.mode is StoreMode.READ_ONLY
