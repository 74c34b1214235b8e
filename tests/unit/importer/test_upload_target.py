"""Where an upload's bytes go, and what it goes on with: all copies are the same, whichever stores are away when."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from services.importer import fan_out
from services.importer.fan_out import FanOutWriter, all_left
from services.importer.upload_target import CommittedBytes, UploadTarget
from services.importer.upload_tokens import UploadToken
from tests.unit.importer.failing_store import FailingStore
from tintype.adapters.memory.store import MemoryWriter
from tintype.adapters.stores import Stores
from tintype.domain.errors import (
    AlreadyExistsError,
    StoreFullError,
    StoreNotFoundError,
    StoreReadOnlyError,
    StoreUnavailableError,
    UploadBusyError,
    UploadNotFoundError,
)
from tintype.domain.events import StagePurpose
from tintype.domain.values import DEFAULT_PLACEMENT, Blob, BlobRef, DiskFormat, Placement
from tintype.ports.image_store import BlobWriter
from tintype.testing.events import an_id, an_image_id

NAMES = ("one", "two", "three")
TOKEN = UploadToken(an_image_id(), an_id("nonce"), StagePurpose.UPLOAD, None, None, placement=Placement(NAMES))
KEY = TOKEN.key
OLD, NEW = b"old bytes ", b"NEW BYTES "


class Site:
    def __init__(self) -> None:
        self.store = {name: FailingStore(name) for name in NAMES}
        self.stores = Stores(self.store["one"], self.store)

    def target(
        self, placement: Placement = TOKEN.placement, purpose: StagePurpose = StagePurpose.UPLOAD
    ) -> UploadTarget:
        return UploadTarget(
            self.stores, UploadToken(TOKEN.image_id, TOKEN.nonce, purpose, None, None, placement=placement)
        )

    def restart(self) -> None:
        """The process is killed: its claims lapse, and its writes stay as they are."""
        for store in self.store.values():
            for held in store.memory.uncommitted.values():
                held.has_writer = False

    async def put(self, store: str, content: bytes, *, committed: bool = False) -> None:
        writer = await self.store[store].memory.open_write(KEY)
        await writer.append(content)
        await (writer.commit(size=len(content), digests={}) if committed else writer.close())

    def kept(self) -> dict[str, bytes]:
        return {
            name: bytes(held.data)
            for name, store in self.store.items()
            for held in (*store.memory.committed.values(), *store.memory.uncommitted.values())
        }

    def committed(self) -> dict[str, bytes]:
        return {name: content[KEY] for name, store in self.store.items() if (content := store.content())}


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(fan_out, "PATIENCE_S", 1.0)
    return Site()


async def opened(target: UploadTarget, *, create: bool = False) -> tuple[BlobWriter, bytes]:
    writer, pieces = await target.open(create=create)
    return writer, await read(pieces) if writer.offset else b""


async def read(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def finish(writer: BlobWriter, data: bytes = b"") -> None:
    if data:
        await writer.append(data)
    await writer.commit(size=writer.offset, digests={})


# --- one store ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("placement", [DEFAULT_PLACEMENT, Placement(("two",))])
async def test_an_upload_into_one_store_goes_to_that_stores_own_writer(site: Site, placement: Placement) -> None:
    begun, _ = await site.target(placement).open(create=True)
    assert not isinstance(begun, FanOutWriter)
    assert isinstance(begun._inner, MemoryWriter)  # type: ignore[attr-defined]
    await begun.append(OLD)
    await begun.close()
    resumed, before = await opened(site.target(placement))
    assert (isinstance(resumed, FanOutWriter), before) == (False, OLD)
    await finish(resumed)
    whole, _ = await opened(site.target(placement))
    assert isinstance(whole, CommittedBytes)


async def test_bytes_that_wait_for_an_import_go_into_the_first_store_alone(site: Site) -> None:
    target = site.target(purpose=StagePurpose.STAGE)
    writer, _ = await opened(target, create=True)
    assert not isinstance(writer, FanOutWriter)
    await finish(writer, OLD)
    assert site.committed() == {"one": OLD}
    written = target.written(Blob(BlobRef("one", KEY), len(OLD), {}, DiskFormat.RAW, len(OLD), {}))
    assert (written.placement, written.copies, written.failed) == (Placement(NAMES), (), ())


def test_an_unknown_store_is_refused(site: Site) -> None:
    with pytest.raises(StoreNotFoundError):
        site.target(Placement(("one", "four")))


# --- several stores -----------------------------------------------------------------------------------------------


async def test_several_stores_are_written_at_once_and_told(site: Site) -> None:
    site.store["one"].fails["open_write"] = StoreFullError("full")
    target = site.target()
    writer, _ = await opened(target, create=True)
    assert isinstance(writer, FanOutWriter)
    await finish(writer, OLD)
    written = target.written(Blob(BlobRef("one", KEY), len(OLD), {}, DiskFormat.RAW, len(OLD), {}))
    assert written.blob.ref == BlobRef("two", KEY)
    assert written.copies == (BlobRef("three", KEY),)
    assert [(each.store, each.failure.reason) for each in written.failed] == [("one", "STORE_FULL")]


@pytest.mark.parametrize("call", ["open_write", "stat"])
async def test_where_no_store_can_be_begun_in_the_first_ones_failure_is_told(site: Site, call: str) -> None:
    for store in site.store.values():
        store.fails[call] = StoreUnavailableError(f"{store.name} is away")
    with pytest.raises(StoreUnavailableError, match="one is away"):
        await site.target().open(create=True)


@pytest.mark.parametrize("call", ["open_write", "stat"])
async def test_a_store_that_does_not_answer_at_the_beginning_is_dropped(site: Site, call: str) -> None:
    site.store["one"].stuck = site.store["two"].stuck = {call}
    target = site.target()
    writer, _ = await opened(target, create=True)
    await finish(writer, OLD)
    written = target.written(Blob(BlobRef("one", KEY), len(OLD), {}, DiskFormat.RAW, len(OLD), {}))
    assert written.blob.ref.store == "three"
    assert [(each.store, each.failure.reason) for each in written.failed] == [
        ("one", "STORE_TIMEOUT"),
        ("two", "STORE_TIMEOUT"),
    ]


async def test_who_is_cancelled_while_a_store_does_not_answer_leaves_no_write_open(site: Site) -> None:
    site.store["one"].stuck = {"open_write"}
    opening = asyncio.create_task(site.target().open(create=True))
    while KEY not in site.store["three"].memory.uncommitted:
        await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert site.kept() == {}


async def test_where_all_must_succeed_one_that_cannot_be_begun_in_leaves_nothing_in_the_others(site: Site) -> None:
    site.store["three"].fails["open_write"] = StoreFullError("three is full")
    with pytest.raises(StoreFullError, match="three"):
        await site.target(Placement(NAMES, all_must_succeed=True)).open(create=True)
    assert site.kept() == {}


async def test_what_nobody_began_is_no_upload(site: Site) -> None:
    with pytest.raises(UploadNotFoundError):
        await site.target().open(create=False)
    with pytest.raises(UploadNotFoundError):
        await site.target().size()
    site.store["two"].is_away = True  # there it may be
    with pytest.raises(StoreUnavailableError):
        await site.target().open(create=False)
    with pytest.raises(StoreUnavailableError):
        await site.target().size()


async def test_the_furthest_copy_leads_and_the_others_are_written_anew_from_it(site: Site) -> None:
    await site.put("one", OLD[:2])
    await site.put("two", OLD[:7])
    target = site.target()
    assert await target.size() == 7
    writer, before = await opened(target)
    assert (writer.offset, before) == (7, OLD[:7])
    await finish(writer, OLD[7:])
    assert site.committed() == dict.fromkeys(NAMES, OLD)


async def test_what_was_committed_in_one_store_before_a_kill_is_committed_in_the_others(site: Site) -> None:
    await site.put("one", OLD[:9])
    await site.put("two", OLD, committed=True)
    await site.put("three", OLD + b"longer, and not committed")
    writer, before = await opened(site.target())
    assert before == OLD
    with pytest.raises(AlreadyExistsError):
        await writer.append(b"more")
    await finish(writer)
    assert site.committed() == dict.fromkeys(NAMES, OLD)


async def test_a_committed_copy_stays_readable_while_it_is_written_anew(site: Site) -> None:
    """Another stream may be about to record it: were it deleted, the image would name bytes that are gone."""
    for name in NAMES:
        await site.put(name, OLD, committed=True)
    writer, _ = await opened(site.target())
    assert site.committed() == dict.fromkeys(NAMES, OLD)
    await writer.close()
    site.restart()
    assert site.committed() == dict.fromkeys(NAMES, OLD)


async def test_committed_bytes_that_are_read_only_by_now_are_gone_on_with(site: Site) -> None:
    await site.put("two", OLD, committed=True)
    site.store["two"].fails["open_write"] = StoreReadOnlyError("two")
    writer, before = await opened(site.target())
    assert before == OLD
    await finish(writer)
    assert site.committed() == dict.fromkeys(NAMES, OLD)


async def test_an_unfinished_copy_that_is_read_only_by_now_leaves_the_lead_to_the_next(site: Site) -> None:
    await site.put("two", OLD[:5])
    await site.put("one", OLD[:4])
    site.store["two"].fails["open_write"] = StoreReadOnlyError("two")
    with pytest.raises(StoreReadOnlyError):
        await site.target(Placement(NAMES, all_must_succeed=True)).open(create=False)
    target = site.target()
    writer, before = await opened(target)
    assert before == OLD[:4]
    await finish(writer, OLD[4:])
    assert site.committed() == dict.fromkeys(("one", "three"), OLD)
    written = target.written(Blob(BlobRef("one", KEY), len(OLD), {}, DiskFormat.RAW, len(OLD), {}))
    assert [each.store for each in written.failed] == ["two"]


async def test_where_the_only_copy_is_read_only_by_now_the_reason_is_told(site: Site) -> None:
    await site.put("two", OLD[:5])
    site.store["two"].fails["open_write"] = StoreReadOnlyError("two")
    with pytest.raises(StoreReadOnlyError):
        await site.target().open(create=False)
    assert site.kept() == {"two": OLD[:5]}


async def test_one_writer_at_a_time_and_its_bytes_are_left_alone(site: Site) -> None:
    writer, _ = await opened(site.target(), create=True)
    await writer.append(OLD)
    for name in NAMES:  # whichever of the leases is seen
        others = [store for other, store in site.store.items() if other != name]
        for other in others:
            other.fails["stat"] = StoreUnavailableError("away")
        with pytest.raises(UploadBusyError):
            await site.target().open(create=True)
        for other in others:
            other.fails.clear()
    await finish(writer)
    assert site.committed() == dict.fromkeys(NAMES, OLD)


async def test_a_replica_that_begins_a_moment_later_takes_nothing_from_the_first(site: Site) -> None:
    """It has looked before the other one began, so that it sees no claim."""
    late = site.target()
    looked = await late._found()
    first, _ = await opened(site.target(), create=True)
    await first.append(OLD)
    with pytest.raises(UploadBusyError):
        await late._open_all(looked, None)
    await finish(first)
    assert site.committed() == dict.fromkeys(NAMES, OLD)


async def test_a_cancelled_upload_leaves_nothing_in_any_store_that_answers(site: Site) -> None:
    await site.put("one", OLD)
    await site.put("two", OLD, committed=True)
    await site.put("three", OLD)
    site.store["one"].fails["delete"] = StoreUnavailableError("one")
    with pytest.raises(StoreUnavailableError):
        await site.target().remove()
    assert site.kept() == {"one": OLD}
    site.store["one"].fails.clear()
    await site.target().remove()
    assert site.kept() == {}


async def one_try(site: Site, away: tuple[str, ...], content: bytes, *, upto: int, killed: str) -> None:
    """Send ``content`` as a client does, while some stores are away, and be killed ``before`` or ``at`` the commit."""
    for name, store in site.store.items():
        store.is_away = name in away
    try:
        writer, _ = await opened(site.target(), create=True)
    except StoreUnavailableError:
        return  # all are away
    try:
        if rest := content[writer.offset : max(upto, writer.offset)]:
            await writer.append(rest)
        if killed == "before":
            await writer.close()
        else:  # one of the stores has committed, and no other one
            assert isinstance(writer, FanOutWriter)
            branches = writer._branches
            for branch in branches:
                await branch.settle()
            await branches[-1].commit(writer.offset, {})
    except AlreadyExistsError:  # all of it was there
        await writer.commit(size=writer.offset, digests={})
    finally:
        await all_left(5)
        site.restart()


SUBSETS = [away for size in range(3) for away in itertools.combinations(NAMES, size)]


@pytest.mark.parametrize("killed", ["before", "at"])
@pytest.mark.parametrize("first", SUBSETS)
@pytest.mark.parametrize("second", SUBSETS)
async def test_a_client_that_sends_other_bytes_the_second_time_never_makes_copies_differ(
    site: Site, first: tuple[str, ...], second: tuple[str, ...], killed: str
) -> None:
    """Whichever stores were away at the first and at the second try, and come back at the third."""
    await one_try(site, first, OLD, upto=6, killed=killed)
    await one_try(site, second, NEW, upto=8, killed=killed)
    for store in site.store.values():
        store.is_away = False
    target = site.target()
    writer, before = await opened(target)
    if not isinstance(writer, FanOutWriter) or not writer._is_whole:
        await writer.append(NEW[writer.offset :])
    await writer.commit(size=writer.offset, digests={})
    contents = site.committed()
    assert set(contents) == set(NAMES)
    assert len(set(contents.values())) == 1
    assert contents["one"].startswith(before)  # and they are what was hashed


async def test_what_the_leader_loses_on_the_way_is_no_copy(site: Site) -> None:
    await site.put("one", OLD)
    site.store["two"].fails["append"] = StoreFullError("two is full")
    target = site.target()
    writer, before = await opened(target)
    assert before == OLD
    await finish(writer, NEW)
    assert site.committed() == {"one": OLD + NEW, "three": OLD + NEW}
    await all_left(5)
    assert "two" not in site.kept()


@pytest.mark.parametrize("placement", [Placement(("one",)), Placement(NAMES)], ids=["one store", "several"])
async def test_giving_up_an_upload_keeps_what_another_replica_has_committed_and_may_have_recorded(
    site: Site, placement: Placement
) -> None:
    for name in placement.stores:
        await site.put(name, OLD, committed=True)
    writer, _ = await opened(site.target(placement))
    await writer.abort()
    assert site.committed() == dict.fromkeys(placement.stores, OLD)


async def test_an_upload_that_fails_in_one_store_keeps_what_another_replica_has_recorded(site: Site) -> None:
    """The commit that fails here took so long that another replica took the upload over, and ended it."""

    async def is_recorded() -> bool:
        return True

    token = replace(TOKEN, placement=Placement(NAMES, all_must_succeed=True))
    target = UploadTarget(site.stores, token, is_recorded)
    writer, _ = await target.open(create=True)
    site.store["two"].fails["commit"] = StoreFullError("no room")
    await writer.append(OLD)
    with pytest.raises(StoreFullError):
        await writer.commit(size=len(OLD), digests={})
    await writer.abort()
    assert site.committed() == {"one": OLD, "three": OLD}
