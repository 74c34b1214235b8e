"""One write into several stores: the same bytes in each, and a store that fails, or hangs, holds up no other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.importer.fan_out import Branch, FanOutWriter, all_left
from tests.unit.importer.failing_store import FailingStore
from tintype.domain.errors import (
    AlreadyExistsError,
    StoreDeviceError,
    StoreFullError,
    StoreUnavailableError,
    TintypeError,
)
from tintype.testing.events import an_id, an_image_id

KEY = f"{an_image_id()}/{an_id('operation')}/source"
PIECES = [random.Random(index).randbytes(1000) for index in range(20)]
DATA = b"".join(PIECES)
EVERYTHING = 1 << 40
PATIENCE_S = 0.5


@pytest.fixture
def stores() -> list[FailingStore]:
    return [FailingStore(name) for name in ("one", "two", "three")]


async def fan_out(
    stores: list[FailingStore], *, all_must_succeed: bool = False, patience_s: float | None = None, **options: object
) -> FanOutWriter:
    branches = [Branch(store, await store.open_write(KEY), patience_s=patience_s) for store in stores]
    unopened: dict[str, TintypeError] = options.pop("unopened", {})  # type: ignore[assignment]
    return FanOutWriter(branches, unopened, all_must_succeed=all_must_succeed, **options)  # type: ignore[arg-type]


async def write(writer: FanOutWriter, pieces: list[bytes] = PIECES) -> None:
    for piece in pieces:
        await writer.append(piece)


async def write_and_commit(writer: FanOutWriter) -> None:
    await write(writer)
    await writer.commit(size=len(DATA), digests={})


def failed(writer: FanOutWriter) -> dict[str, str]:
    return {each.store: each.failure.reason for each in writer.failed()}


async def left() -> None:
    await all_left(5)


async def test_all_stores_get_identical_bytes(stores: list[FailingStore]) -> None:
    writer = await fan_out(stores)
    await write(writer)
    assert all(store.content() == {} for store in stores)  # not before the commit
    await writer.commit(size=len(DATA), digests={})
    assert all(store.content() == {KEY: DATA} for store in stores)
    assert [ref.store for ref in writer.committed()] == ["one", "two", "three"]
    assert (writer.failed(), writer.offset, writer.key, writer.local_path) == ((), len(DATA), KEY, None)


@pytest.mark.parametrize("call", ["append", "commit"])
@pytest.mark.parametrize(
    ("error", "reason"),
    [(StoreFullError("full"), "STORE_FULL"), (StoreDeviceError("eio"), "STORE_DEVICE"), (OSError("x"), "INTERNAL")],
)
async def test_a_store_that_fails_drops_out_with_its_reason_and_the_others_go_on(
    stores: list[FailingStore], call: str, error: Exception, reason: str
) -> None:
    stores[0].fails[call], stores[0].takes = error, 4500
    writer = await fan_out(stores)
    await write_and_commit(writer)
    assert failed(writer) == {"one": getattr(type(error), "reason", reason)}
    assert [ref.store for ref in writer.committed()] == ["two", "three"]
    assert [store.content() for store in stores] == [{}, {KEY: DATA}, {KEY: DATA}]
    await left()
    assert stores[0].is_empty()


async def test_a_store_that_could_not_be_begun_in_is_told(stores: list[FailingStore]) -> None:
    writer = await fan_out(stores[:1], unopened={"far": StoreUnavailableError("away")})
    await write_and_commit(writer)
    assert failed(writer) == {"far": "STORE_UNAVAILABLE"}


@pytest.mark.parametrize("hanging", [1, 2])
async def test_stores_that_hang_are_dropped_and_waited_for_no_longer_than_one(
    stores: list[FailingStore], hanging: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for store in stores[:hanging]:
        store.hangs = True
    expired, waiting, most_waiting, timeout = 0, 0, 0, asyncio.timeout

    @asynccontextmanager
    async def counted(delay: float | None) -> AsyncIterator[None]:
        nonlocal expired, waiting, most_waiting
        waiting += 1
        most_waiting = max(most_waiting, waiting)
        try:
            async with timeout(delay):
                yield
        except TimeoutError:
            expired += 1
            raise
        finally:
            waiting -= 1

    monkeypatch.setattr(asyncio, "timeout", counted)
    writer = await fan_out(stores, patience_s=PATIENCE_S)
    await write(writer)
    assert failed(writer) == dict.fromkeys(["one", "two"][:hanging], "STORE_TIMEOUT")
    assert expired == hanging  # what has dropped out is not waited for again
    assert most_waiting >= hanging  # for all of them at once
    await writer.commit(size=len(DATA), digests={})
    assert stores[2].content() == {KEY: DATA}
    for store in stores[:hanging]:
        assert store.aborted == 0  # nothing is done with a writer that a call is still at
        store.hanging.set()
    await left()
    assert all(store.is_empty() and store.aborted == 1 for store in stores[:hanging])


async def test_a_store_that_hangs_at_the_last_piece_is_dropped(stores: list[FailingStore]) -> None:
    stores[1].hangs, stores[1].takes = True, len(DATA) - 1
    writer = await fan_out(stores, patience_s=PATIENCE_S)
    await write_and_commit(writer)
    assert failed(writer) == {"two": "STORE_TIMEOUT"}
    stores[1].hanging.set()
    await left()
    assert stores[1].is_empty()


async def test_a_late_failure_of_a_store_that_was_dropped_changes_nothing(stores: list[FailingStore]) -> None:
    stores[1].hangs = True
    writer = await fan_out(stores, patience_s=PATIENCE_S)
    await write(writer)
    # What the late call raises is not the reason: the store was given up before.
    stores[1].memory.uncommitted.clear()
    stores[1].hanging.set()
    await left()
    assert (failed(writer), stores[1].aborted) == ({"two": "STORE_TIMEOUT"}, 1)


async def test_a_store_that_is_only_slower_is_waited_for(stores: list[FailingStore]) -> None:
    writer = await fan_out(stores, patience_s=60)
    stores[0].hangs = True
    writing = asyncio.create_task(write_and_commit(writer))
    while len(stores[1].memory.uncommitted[KEY].data) < 4000:
        await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)
    # So much is in memory for the one that lags, and no more.
    assert len(stores[1].memory.uncommitted[KEY].data) <= 6 * 1000
    stores[0].hanging.set()
    await writing
    assert (failed(writer), stores[0].content()) == ({}, {KEY: DATA})


async def test_where_all_must_succeed_the_first_failure_ends_the_write_and_nothing_is_left(
    stores: list[FailingStore],
) -> None:
    stores[2].fails["append"], stores[2].takes = StoreFullError("no room in three"), 2500
    writer = await fan_out(stores, all_must_succeed=True)
    with pytest.raises(StoreFullError, match="three"):
        await write_and_commit(writer)
    await writer.abort()
    await left()
    assert all(store.is_empty() for store in stores)


async def test_where_all_must_succeed_what_the_others_committed_is_removed(stores: list[FailingStore]) -> None:
    stores[2].fails["commit"] = StoreDeviceError("three")
    writer = await fan_out(stores, all_must_succeed=True)
    with pytest.raises(StoreDeviceError, match="three"):
        await write_and_commit(writer)
    assert [bool(store.content()) for store in stores] == [True, True, False]
    await writer.abort()
    await writer.abort()  # safe to call twice
    await left()
    assert all(store.is_empty() for store in stores)


async def test_nothing_is_committed_anywhere_where_a_store_that_is_needed_has_failed_before(
    stores: list[FailingStore],
) -> None:
    stores[2].fails["append"], stores[2].takes = StoreFullError("three"), len(DATA) - 1
    writer = await fan_out(stores, all_must_succeed=True)
    with pytest.raises(StoreFullError):
        await write_and_commit(writer)
    assert all(store.content() == {} for store in stores)
    await writer.give_up()


async def test_where_all_must_succeed_a_store_that_could_not_be_begun_in_is_enough(stores: list[FailingStore]) -> None:
    writer = await fan_out(stores, all_must_succeed=True, unopened={"far": StoreUnavailableError("far")})
    with pytest.raises(StoreUnavailableError, match="far"):
        await writer.append(b"x")
    await writer.abort()


async def test_where_all_stores_fail_the_write_fails(stores: list[FailingStore]) -> None:
    for store in stores:
        store.fails["commit"] = StoreFullError(store.name)
    writer = await fan_out(stores)
    with pytest.raises(StoreFullError, match="one"):
        await write_and_commit(writer)
    assert not writer.is_alive
    await writer.abort()
    await left()
    assert all(store.is_empty() for store in stores)


async def test_where_there_is_no_store_at_all_the_write_fails() -> None:
    writer = FanOutWriter([], {"far": StoreUnavailableError("far")})
    with pytest.raises(StoreUnavailableError, match="far"):
        await writer.append(b"x")
    with pytest.raises(StoreUnavailableError, match="far"):
        await writer.commit(size=0, digests={})
    await writer.abort()


async def test_what_is_closed_is_kept_and_can_be_gone_on_with(stores: list[FailingStore]) -> None:
    writer = await fan_out(stores)
    await write(writer, PIECES[:7])
    await writer.close()
    for store in stores:
        resumed = await store.open_write(KEY, resume=True)  # nobody holds it any more
        assert resumed.offset == 7000
        await resumed.close()


async def test_a_store_that_does_not_let_it_keeps_no_other_from_being_rid_of_the_bytes(
    stores: list[FailingStore],
) -> None:
    stores[0].fails["abort"] = StoreUnavailableError("one")
    writer = await fan_out(stores)
    await write(writer)
    with pytest.raises(StoreUnavailableError, match="one"):
        await writer.abort()
    assert [store.is_empty() for store in stores] == [False, True, True]
    await writer.give_up()  # which tells nobody


async def test_a_crash_while_a_dropped_store_is_left_is_no_task_that_nobody_looks_at(
    stores: list[FailingStore],
) -> None:
    stores[0].fails |= {"append": StoreFullError("full"), "abort": OSError("broken")}
    writer = await fan_out(stores)
    await write_and_commit(writer)
    await left()
    assert failed(writer) == {"one": "STORE_FULL"}


async def test_a_store_that_never_answers_holds_up_no_stop(stores: list[FailingStore]) -> None:
    stores[0].hangs = True
    writer = await fan_out(stores, patience_s=PATIENCE_S)
    await write_and_commit(writer)
    leaving = [task for task in asyncio.all_tasks() if task.get_name().startswith("remove ")]
    assert len(leaving) == 1
    await all_left(0)
    assert leaving[0].done()


async def test_a_write_whose_caller_is_gone_is_ended_by_giving_it_up(stores: list[FailingStore]) -> None:
    stores[0].hangs = True
    writer = await fan_out(stores, patience_s=60)
    writing = asyncio.create_task(write(writer))
    for _ in range(50):
        await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    stores[0].hanging.set()
    await writer.give_up()
    assert all(store.is_empty() for store in stores)


async def test_a_committed_write_takes_no_more_bytes(stores: list[FailingStore]) -> None:
    writer = await fan_out(stores, is_whole=True)
    with pytest.raises(AlreadyExistsError):
        await writer.append(b"x")
    await writer.close()


async def test_the_bytes_of_the_leader_are_written_into_the_others_alone(stores: list[FailingStore]) -> None:
    begun = await stores[0].open_write(KEY)
    await begun.append(PIECES[0] + PIECES[1])
    await begun.close()
    leader = Branch(stores[0], await stores[0].open_write(KEY, resume=True))
    others = [Branch(store, await store.open_write(KEY)) for store in stores[1:]]
    writer = FanOutWriter([leader, *others], {}, offset=2000)

    async def pieces() -> AsyncIterator[bytes]:
        for piece in PIECES[:2]:
            yield piece

    assert [piece async for piece in writer.caught_up(pieces(), leader)] == PIECES[:2]
    await write(writer, PIECES[2:])
    await writer.commit(size=len(DATA), digests={})
    assert all(store.content() == {KEY: DATA} for store in stores)
