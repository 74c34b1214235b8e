"""What is repeated, and what is not."""

from __future__ import annotations

import pytest

from tests.unit.decorators.failing_store import KEY, FailingStore, put, read
from tintype.adapters.decorators.retry import LONGEST_DELAY_S, Patience, Retry
from tintype.domain.errors import (
    BlobDamagedError,
    StoreAccessDeniedError,
    StoreFullError,
    StoreMissingError,
    StoreReadOnlyError,
    StoreUnavailableError,
)

AWAY = StoreUnavailableError("away")


class Waits:
    def __init__(self) -> None:
        self.slept: list[float] = []
        self.retried: list[str] = []

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)

    def around(self, store: FailingStore, attempts: int = 4) -> Retry:
        patience = Patience(attempts, sleep=self.sleep, chance=lambda: 1.0, on_retry=self.retried.append)
        return Retry(store, patience)


async def test_an_opening_is_tried_as_often_as_is_set_with_growing_waits() -> None:
    waits, inner = Waits(), FailingStore([AWAY] * 20)
    with pytest.raises(StoreUnavailableError):
        await waits.around(inner, attempts=9).open_write(KEY)
    assert inner.calls == ["open_write"] * 9
    assert waits.slept == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, LONGEST_DELAY_S, LONGEST_DELAY_S]
    assert waits.retried == ["open_write"] * 8


@pytest.mark.parametrize(
    "error",
    [
        StoreReadOnlyError("x"),
        StoreAccessDeniedError("x"),
        StoreMissingError("x"),
        StoreFullError("x"),
        BlobDamagedError("x"),
    ],
)
async def test_what_does_not_pass_is_not_tried_again(error: Exception) -> None:
    inner = FailingStore([error])
    with pytest.raises(type(error)):
        await Waits().around(inner).open_write(KEY)
    assert inner.calls == ["open_write"]


async def test_an_append_that_took_nothing_is_repeated() -> None:
    inner = FailingStore()
    store = Waits().around(inner)
    writer = await store.open_write(KEY)
    inner.failures = [AWAY, AWAY]
    await writer.append(b"once")
    await writer.commit(size=4, digests={})
    assert await read(store) == b"once"


async def test_an_append_that_took_some_is_not_repeated() -> None:
    inner = FailingStore()
    inner.takes_before_failing = 1
    writer = await Waits().around(inner).open_write(KEY)
    inner.failures = [AWAY]
    with pytest.raises(StoreUnavailableError):
        await writer.append(b"once")
    assert writer.offset == 1


async def test_a_commit_is_never_repeated() -> None:
    inner = FailingStore()
    writer = await Waits().around(inner).open_write(KEY)
    inner.failures = [AWAY]
    with pytest.raises(StoreUnavailableError):
        await writer.commit(size=0, digests={})
    assert inner.calls == ["open_write", "commit"]


async def test_a_read_goes_on_where_it_broke_off() -> None:
    inner = FailingStore()
    store = Waits().around(inner)
    await put(store, b"0123456789abcdef")
    inner.calls.clear()
    inner.failures = [AWAY, AWAY]
    inner.pieces_before_failing = 1
    assert await read(store, 1, 14) == b"123456789abcde"
    assert inner.calls == ["read 1+14", "read 5+10", "read 9+6"]


async def test_progress_is_what_a_read_is_patient_for() -> None:
    inner = FailingStore()
    store = Waits().around(inner, attempts=2)
    await put(store, b"0123456789abcdef")
    inner.failures = [AWAY, AWAY, AWAY]
    inner.pieces_before_failing = 1
    assert await read(store) == b"0123456789abcdef"
    inner.failures = [AWAY, AWAY]
    inner.pieces_before_failing = 0
    with pytest.raises(StoreUnavailableError):
        await read(store)
