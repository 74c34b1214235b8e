"""What a sweep finds, removes and spares in two stores; and what happens in the moment between two of its looks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from services.importer.purging import Purging
from services.importer.scrubbing import active_images
from services.importer.sweep import Kind, Sweeper, SweepFinding, SweepLimits
from tests.integration.importer.several_stores import SeveralStores
from tintype.adapters.filesystem.store import FileImageStore
from tintype.adapters.memory.store import MemoryImageStore
from tintype.adapters.store_section import StoreSection
from tintype.adapters.stores import Stores
from tintype.domain.attributes import ImageAttributes
from tintype.domain.commands import (
    Command,
    CreateImage,
    DeleteImage,
    ExpireImage,
    RecordPlaced,
    RecordPurged,
    RecordStaged,
    RemoveCopy,
    RequestCopy,
    RestoreImage,
)
from tintype.domain.errors import (
    EventLogUnavailableError,
    LogCorruptError,
    StaleStepError,
    StoreFullError,
    StoreUnavailableError,
)
from tintype.domain.events import RecordedEvent, StagePurpose, Step
from tintype.domain.image import Image
from tintype.domain.lifecycle import Status, next_step
from tintype.domain.values import (
    Blob,
    BlobRef,
    ContainerFormat,
    DiskFormat,
    ImageId,
    OperationId,
    Placement,
)
from tintype.ports.image_store import ImageStore, StoredBlob
from tintype.testing.clock import FakeClock
from tintype.testing.events import an_id, an_image_id

CONTENT = b"the image's bytes"
LIMITS = SweepLimits(upload_ttl_s=3600, orphan_age_s=7200, interval_s=600)
UPLOAD, COPY = OperationId(an_id("an unfinished upload")), OperationId(an_id("copy"))

DELAY = timedelta(hours=1)
DEADLINE_S = 20

Before = Callable[[], Awaitable[object]]


class Meddled:
    """A store in which something happens just before a call: once, after ``skipped`` of them."""

    def __init__(self, store: MemoryImageStore) -> None:
        self._store = store
        self.before: dict[str, tuple[int, Before]] = {}
        self.error: Exception | None = None
        self.deleted: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def _meddle(self, call: str) -> None:
        if self.error:
            raise self.error
        skipped, happens = self.before.pop(call, (0, None))
        if happens is None:
            return
        if skipped:
            self.before[call] = (skipped - 1, happens)
        else:
            await happens()

    async def list(self, prefix: str = "") -> AsyncIterator[StoredBlob]:
        await self._meddle("list")
        found = [blob async for blob in self._store.list(prefix)]
        await self._meddle("listed")
        for blob in found:
            yield blob

    async def open_write(self, key: str, *, resume: bool = False, replace: bool = False) -> object:
        await self._meddle("open_write")
        return await self._store.open_write(key, resume=resume, replace=replace)

    async def delete(self, key: str) -> None:
        await self._meddle("delete")
        self.deleted.append(key)
        await self._store.delete(key)

    async def check(self) -> None:
        await self._meddle("check")


class Site(SeveralStores):
    """The stores ``main`` and ``second``, and sweepers at any time."""

    def __init__(self) -> None:
        self.meddled: dict[str, Meddled] = {}
        super().__init__({"main": StoreSection(), "second": StoreSection()}, self._around)

    def _around(self, store: MemoryImageStore) -> ImageStore:
        self.meddled[store.name] = made = Meddled(store)
        return made  # type: ignore[return-value]  # what it does not meddle with is the store's

    def sweeper(self, *, hours: float = 3) -> Sweeper:
        """The sweeper of that much later."""
        clock = FakeClock(self.clock.now() + timedelta(hours=hours))
        return Sweeper(self.journal, self.stores, clock, LIMITS)

    async def sweep(self, *, hours: float = 3, store: str = "", dry_run: bool = False) -> list[SweepFinding]:
        async with aclosing(self.sweeper(hours=hours).steps(store=store, dry_run=dry_run)) as steps:
            return [step.finding async for step in steps if step.finding]

    async def create(self) -> ImageId:
        image_id = an_image_id("image")
        raw = ImageAttributes(disk_format=DiskFormat.RAW, container_format=ContainerFormat.BARE)
        await self.execute(image_id, CreateImage(raw))
        return image_id

    async def observe(self, image_id: ImageId, *commands: Command, hours: float = 0) -> Image:
        """Carry out the commands, and let the sweeper see the event of the last one."""
        for command in commands:
            await self.execute(image_id, command)
        image = await self.load(image_id)
        await self.sweeper(hours=hours).observe((await self.history(image_id))[-1], image)
        return image

    def keys(self, store: str) -> tuple[list[str], list[str]]:
        """What is committed there, and what is not."""
        memory = self.memory[store]
        return sorted(memory.committed), sorted(memory.uncommitted)

    async def write(self, key: str, *, store: str = "main", commits: bool = True, replace: bool = False) -> None:
        writer = await self.memory[store].open_write(key, replace=replace)
        await writer.append(CONTENT)
        await (writer.commit(size=len(CONTENT), digests={}) if commits else writer.close())


@pytest.fixture
def site() -> Site:
    return Site()


def kinds(findings: list[SweepFinding]) -> list[tuple[str, Kind | None, bool]]:
    return [(finding.store, finding.kind, finding.is_removed) for finding in findings]


def key_of(image_id: str, operation: str = UPLOAD, name: str = "source") -> str:
    return f"{image_id}/{operation}/{name}"


def staged(image_id: ImageId, operation: OperationId = UPLOAD) -> RecordStaged:
    ref = BlobRef("main", key_of(image_id, operation))
    blob = Blob(ref, len(CONTENT), {"sha256": "0" * 64}, DiskFormat.RAW, len(CONTENT), {})
    return RecordStaged(operation, StagePurpose.STAGE, blob)


async def final_key(site: Site, image_id: ImageId) -> str:
    image = await site.load(image_id)
    assert image.data
    return image.data.blob.ref.key


# --- what is found ----------------------------------------------------------------------------------------------------


async def test_of_an_image_that_has_its_bytes_what_else_carries_its_id_is_unwanted(site: Site) -> None:
    image = await site.publish(CONTENT, "main", "second")
    await site.write(key_of(image), store="second")
    await site.write(key_of(image, name="source-decompressed"), store="second", commits=False)
    found = await site.sweep(hours=0)
    assert kinds(found) == [("second", Kind.UNWANTED, True), ("second", Kind.UNWANTED, True)]
    assert {(finding.image_id, finding.size) for finding in found} == {(image, len(CONTENT))}
    assert site.keys("main") == site.keys("second") == ([await final_key(site, image)], [])


async def test_a_dry_run_tells_the_same_and_removes_nothing(site: Site) -> None:
    image = await site.publish(CONTENT, "main", "second")
    await site.write(key_of(image), store="second")
    before = site.keys("second")
    assert kinds(await site.sweep(dry_run=True)) == [("second", Kind.UNWANTED, False)]
    assert site.keys("second") == before
    assert kinds(await site.sweep()) == [("second", Kind.UNWANTED, True)]


@pytest.mark.parametrize("commits", [False, True])
async def test_an_upload_that_never_ended_is_an_orphan_when_it_is_old_and_spared_before(
    site: Site, commits: bool
) -> None:
    await site.write(key_of(await site.create()), commits=commits)
    assert kinds(await site.sweep(hours=0.9)) == [("main", Kind.SPARED, False)]
    assert kinds(await site.sweep(hours=1.1)) == [("main", Kind.ORPHAN, True)]
    assert site.keys("main") == ([], [])


async def test_bytes_of_an_image_that_the_log_does_not_know_are_orphans_when_they_are_older(site: Site) -> None:
    await site.write(key_of(an_image_id("unknown")))
    assert kinds(await site.sweep(hours=1.9)) == [("main", Kind.SPARED, False)]
    assert kinds(await site.sweep(hours=2.1)) == [("main", Kind.ORPHAN, True)]


async def test_what_a_writer_that_lives_has_is_spared_however_old_it_is(site: Site) -> None:
    image = await site.publish(CONTENT, "main")
    writer = await site.memory["main"].open_write(key_of(image))
    assert kinds(await site.sweep(hours=9999)) == [("main", Kind.SPARED, False)]
    await writer.close()
    assert kinds(await site.sweep(hours=9999)) == [("main", Kind.UNWANTED, True)]


async def test_a_copy_that_its_store_does_not_have_is_missing(site: Site) -> None:
    image = await site.publish(CONTENT, "main", "second")
    await site.memory["second"].delete(await final_key(site, image))
    (found,) = await site.sweep()
    assert (found.store, found.kind, found.image_id, found.size) == ("second", Kind.MISSING, image, len(CONTENT))


async def test_an_unfinished_write_is_no_copy(site: Site) -> None:
    image = await site.publish(CONTENT, "main", "second")
    key = await final_key(site, image)
    await site.memory["second"].delete(key)
    await site.write(key, store="second", commits=False)
    assert kinds(await site.sweep()) == [("second", Kind.ORPHAN, True), ("second", Kind.MISSING, False)]


async def test_a_store_that_does_not_work_proves_nothing_about_its_copies(site: Site) -> None:
    image = await site.publish(CONTENT, "main", "second")
    await site.memory["second"].delete(await final_key(site, image))

    async def away() -> None:
        raise StoreUnavailableError("away")

    site.meddled["second"].before["check"] = (0, away)
    assert kinds(await site.sweep()) == [("second", None, False)]


async def test_a_full_store_can_be_believed(site: Site) -> None:
    image = await site.publish(CONTENT, "main", "second")
    await site.memory["second"].delete(await final_key(site, image))
    for name in ("a", "b"):
        await site.write(key_of(image, name=name), store="second")

    async def full() -> None:
        raise StoreFullError("full")

    async def busy() -> None:
        site.meddled["second"].before["check"] = (0, full)
        raise StoreUnavailableError("in use")

    site.meddled["second"].before.update({"delete": (0, busy)})
    found = await site.sweep()
    assert sorted((str(each.kind), each.is_removed) for each in found) == [
        ("missing", False),
        ("unwanted", False),
        ("unwanted", True),
    ]
    site.meddled["second"].before["check"] = (0, full)
    assert (Kind.MISSING, False) in [(each.kind, each.is_removed) for each in await site.sweep()]


async def test_a_deleted_image_lacks_no_copy(site: Site) -> None:
    image = await site.publish(CONTENT, "main", "second")
    await site.memory["second"].delete(await final_key(site, image))
    await site.execute(image, DeleteImage(purge_after=site.clock.now()))
    assert await site.sweep() == []


async def test_a_store_that_is_away_is_told_of_and_the_others_are_swept(site: Site) -> None:
    image = await site.publish(CONTENT, "main", "second")
    await site.write(key_of(image), store="second")
    site.meddled["main"].error = StoreUnavailableError("away")
    found = await site.sweep()
    assert kinds(found) == [("main", None, False), ("second", Kind.UNWANTED, True)]
    assert found[0].failure
    assert found[0].failure.reason == StoreUnavailableError.reason


async def test_only_the_store_that_was_asked_for_is_swept(site: Site) -> None:
    image = await site.publish(CONTENT, "main", "second")
    for store in ("main", "second"):
        await site.write(key_of(image), store=store)
    assert kinds(await site.sweep(store="second")) == [("second", Kind.UNWANTED, True)]


async def test_a_full_store_can_be_swept(site: Site) -> None:
    await site.write(key_of(await site.create()), commits=False)

    async def full() -> None:
        raise StoreFullError("full")

    site.meddled["main"].before["open_write"] = (0, full)
    assert kinds(await site.sweep()) == [("main", Kind.ORPHAN, True)]
    assert site.keys("main") == ([], [])


async def test_bytes_that_cannot_be_removed_keep_no_others_from_being(site: Site) -> None:
    image = await site.publish(CONTENT, "main")
    for name in ("a", "b"):
        await site.write(key_of(image, name=name))

    async def busy() -> None:
        raise StoreUnavailableError("in use")

    site.meddled["main"].before["delete"] = (0, busy)
    found = await site.sweep()
    assert sorted(finding.is_removed for finding in found) == [False, True]
    assert [finding.failure is None for finding in found] == [finding.is_removed for finding in found]


async def test_a_store_that_goes_away_amid_its_removals_is_left_alone(site: Site) -> None:
    image = await site.publish(CONTENT, "main", "second")
    for name in ("a", "b"):
        await site.write(key_of(image, name=name))
    await site.write(key_of(image), store="second")

    async def away() -> None:
        raise StoreUnavailableError("away")

    site.meddled["main"].before.update({"delete": (0, away), "check": (0, away)})
    assert kinds(await site.sweep()) == [("main", None, False), ("second", Kind.UNWANTED, True)]


async def test_an_image_whose_history_cannot_be_read_keeps_its_bytes_and_no_other_from_being_swept(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, image = an_image_id("broken"), await site.publish(CONTENT, "main")
    for owner in (broken, image):
        await site.write(key_of(owner))
    history = site.log.history

    async def reading(image_id: ImageId) -> Sequence[RecordedEvent]:
        if image_id == broken:
            raise LogCorruptError("an event cannot be read")
        return await history(image_id)

    monkeypatch.setattr(site.log, "history", reading)
    found = await site.sweep(hours=9999)
    assert {(each.image_id, each.kind, each.is_removed) for each in found} == {
        (broken, None, False),
        (image, Kind.UNWANTED, True),
    }
    assert key_of(broken) in site.keys("main")[0]


async def test_the_background_sweep_goes_on_whatever_happens(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[int] = []
    went_on = asyncio.Event()

    async def sweep() -> None:
        rounds.append(len(rounds))
        if len(rounds) == 3:
            went_on.set()
        raise (EventLogUnavailableError("away"), ZeroDivisionError())[len(rounds) % 2]

    sweeper = Sweeper(site.journal, site.stores, site.clock, replace(LIMITS, interval_s=0))
    monkeypatch.setattr(sweeper, "sweep", sweep)
    running = asyncio.create_task(sweeper.run())
    async with asyncio.timeout(DEADLINE_S):
        await went_on.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


# --- races ------------------------------------------------------------------------------------------------------------


async def test_an_upload_that_is_recorded_between_the_list_and_the_history_is_wanted(site: Site) -> None:
    image = await site.create()
    await site.write(key_of(image))
    site.meddled["main"].before["listed"] = (0, lambda: site.execute(image, staged(image)))
    assert await site.sweep() == []
    assert site.keys("main") == ([key_of(image)], [])


async def test_an_upload_that_is_recorded_between_the_judgement_and_the_removal_is_wanted(site: Site) -> None:
    image = await site.create()
    await site.write(key_of(image))
    site.meddled["main"].before["list"] = (1, lambda: site.execute(image, staged(image)))
    assert await site.sweep() == []
    assert site.keys("main") == ([key_of(image)], [])


async def test_an_upload_that_is_committed_between_two_looks_is_no_unfinished_one(site: Site) -> None:
    image = await site.create()
    await site.write(key_of(image), commits=False)

    async def commit() -> None:
        writer = await site.memory["main"].open_write(key_of(image), resume=True)
        await writer.commit(size=len(CONTENT), digests={})

    site.meddled["main"].before["open_write"] = (0, commit)
    await site.sweep()
    assert site.keys("main") == ([key_of(image)], [])


@pytest.mark.parametrize("call", ["list", "open_write"])
async def test_a_writer_that_goes_on_with_an_old_upload_just_now_is_left_alone(site: Site, call: str) -> None:
    image = await site.create()
    await site.write(key_of(image), commits=False)
    writers = []

    async def resume() -> None:
        writers.append(await site.memory["main"].open_write(key_of(image), resume=True))

    site.meddled["main"].before[call] = (call == "list", resume)
    assert kinds(await site.sweep()) == [("main", Kind.SPARED, False)]
    await writers[0].commit(size=len(CONTENT), digests={})


async def test_an_upload_that_went_on_and_broke_off_between_two_looks_is_not_old_any_more(site: Site) -> None:
    image = await site.create()
    await site.write(key_of(image), commits=False)

    async def go_on() -> None:
        writer = await site.memory["main"].open_write(key_of(image), resume=True)
        await writer.append(b"more")
        await writer.close()

    site.meddled["main"].before["list"] = (1, go_on)
    assert kinds(await site.sweep()) == [("main", Kind.SPARED, False)]
    assert site.keys("main") == ([], [key_of(image)])


async def test_an_unfinished_leftover_does_not_take_committed_bytes_of_the_same_key_with_it(site: Site) -> None:
    """The upload is committed and young, and nobody has recorded it yet; what lies beside it is old."""
    image = await site.create()
    await site.write(key_of(image))
    await site.write(key_of(image), commits=False, replace=True)
    memory = site.memory["main"]
    memory.uncommitted[key_of(image)].modified_at -= timedelta(hours=3)
    assert kinds(await site.sweep(hours=0)) == [("main", Kind.SPARED, False), ("main", Kind.ORPHAN, True)]
    assert site.keys("main") == ([key_of(image)], [])


async def test_a_copy_is_not_swept_with_what_an_earlier_attempt_left_of_it(site: Site) -> None:
    """The sweep has found the leftover when the copy is asked for, written under the same key, and recorded."""
    image = await site.publish(CONTENT, "main")
    key = await final_key(site, image)
    await site.write(key, store="second", commits=False)

    for call in ("listed", "list", "open_write"):
        operation = OperationId(an_id(f"copy before {call}"))

        async def copy(operation: OperationId = operation) -> None:
            await site.execute(image, RequestCopy(operation, Placement(("second",))))
            await site.write(key, store="second")
            await site.execute(image, RecordPlaced(operation, (BlobRef("second", key),)))

        site.meddled["second"].before[call] = (call == "list", copy)
        await site.sweep()
        assert site.keys("second") == ([key], [])
        await site.execute(image, RemoveCopy("second"))
        await site.memory["second"].delete(key)
        await site.write(key, store="second", commits=False)


async def test_a_copy_that_is_being_written_is_left_alone(site: Site) -> None:
    image = await site.publish(CONTENT, "main")
    key = await final_key(site, image)
    await site.execute(image, RequestCopy(COPY, Placement(("second",))))
    writer = await site.memory["second"].open_write(key)
    assert await site.sweep(hours=9999) == []
    await writer.commit(size=0, digests={})
    assert await site.sweep(hours=9999) == []  # and what is not recorded yet


async def test_bytes_that_a_replacement_is_made_of_are_left_alone(site: Site) -> None:
    image = await site.create()
    await site.write(key_of(image))
    writer = await site.memory["main"].open_write(key_of(image), replace=True)
    assert {finding.kind for finding in await site.sweep()} == {Kind.SPARED}
    await writer.abort()
    assert kinds(await site.sweep()) == [("main", Kind.ORPHAN, True)]


# --- delayed deletion -------------------------------------------------------------------------------------------------


async def test_a_deleted_image_keeps_its_bytes_until_it_expires(site: Site) -> None:
    image = await site.publish(CONTENT, "main", "second")
    kept = site.keys("main")
    deleted = await site.observe(image, DeleteImage(purge_after=site.clock.now() + DELAY))
    assert next_step(deleted) is None
    with pytest.raises(StaleStepError):
        await site.execute(image, RecordPurged())
    assert await site.sweep(hours=9999) == []  # the log says when, and no clock
    assert site.keys("main") == site.keys("second") == kept

    expired = await site.observe(image, ExpireImage())
    assert next_step(expired) is Step.PURGE
    assert site.keys("main") == site.keys("second") == ([], [])
    await Purging(site.stores).purge_image(expired, None)  # type: ignore[arg-type]  # it tells no progress


async def test_a_sweep_removes_what_the_purge_of_an_expired_image_could_not(site: Site) -> None:
    image = await site.publish(CONTENT, "main", "second")
    for command in (DeleteImage(purge_after=site.clock.now() + DELAY), ExpireImage()):
        await site.execute(image, command)
    found = await site.sweep(hours=0)
    assert kinds(found) == [("main", Kind.UNWANTED, True), ("second", Kind.UNWANTED, True)]


async def test_an_image_that_is_restored_between_the_judgement_and_the_removal_keeps_its_bytes(site: Site) -> None:
    image = await site.create()
    await site.execute(image, DeleteImage(purge_after=site.clock.now() + DELAY))
    await site.write(key_of(image))  # of an upload that has no use in a deleted image, and is young in a restored one
    site.meddled["main"].before["list"] = (1, lambda: site.execute(image, RestoreImage(site.clock.now())))
    assert kinds(await site.sweep(hours=0)) == [("main", Kind.SPARED, False)]
    assert site.keys("main") == ([key_of(image)], [])


async def test_a_restored_image_has_its_bytes_and_is_scrubbed_again(site: Site) -> None:
    image = await site.publish(CONTENT, "main", "second")
    await site.execute(image, DeleteImage(purge_after=site.clock.now() + DELAY))
    assert await active_images(site.log) == {}
    restored = await site.observe(image, RestoreImage(site.clock.now()))
    assert restored.status is Status.ACTIVE
    assert await site.sweep(hours=9999) == []
    assert await active_images(site.log) == {image: 2 * len(CONTENT)}


async def test_an_image_is_scrubbed_wherever_it_has_copies_now(site: Site) -> None:
    image = await site.publish(CONTENT, "main")
    await site.execute(image, RequestCopy(COPY, Placement(("second",))))
    await site.execute(image, RecordPlaced(COPY, (BlobRef("second", await final_key(site, image)),)))
    assert await active_images(site.log) == {image: 2 * len(CONTENT)}
    await site.execute(image, RemoveCopy("main"))
    assert await active_images(site.log) == {image: len(CONTENT)}
    await site.execute(image, DeleteImage())
    assert await active_images(site.log) == {}


# --- at once ----------------------------------------------------------------------------------------------------------


async def test_a_copy_that_was_given_up_goes_at_once_and_from_its_store_alone(site: Site) -> None:
    image = await site.publish(CONTENT, "main", "second")
    await site.observe(image, RemoveCopy("main"))
    assert site.keys("main") == ([], [])
    assert site.keys("second") == ([await final_key(site, image)], [])


async def test_a_copy_in_a_store_that_is_away_goes_when_it_is_back(site: Site) -> None:
    image = await site.publish(CONTENT, "main", "second")
    site.meddled["second"].error = StoreUnavailableError("away")
    with pytest.raises(StoreUnavailableError):
        await site.observe(image, RemoveCopy("second"))
    site.meddled["second"].error = None
    await site.observe(image)
    assert site.keys("second") == ([], [])


async def test_other_stores_and_old_events_hold_up_no_event(site: Site) -> None:
    image = await site.publish(CONTENT, "main", "second")
    site.meddled["second"].error = StoreUnavailableError("away")
    await site.observe(image)  # published
    await site.observe(image, RemoveCopy("main"))
    assert site.keys("main") == ([], [])
    site.meddled["main"].error = StoreUnavailableError("away")
    await site.observe(image, hours=1)
    site.meddled["main"].error = site.meddled["second"].error = None
    assert await site.sweep() == []


async def test_what_an_event_makes_unwanted_is_left_to_a_writer_that_lives(site: Site) -> None:
    image = await site.publish(CONTENT, "main")
    writer = await site.memory["main"].open_write(key_of(image))
    await site.observe(image)
    assert site.keys("main")[1] == [key_of(image)]
    await writer.abort()


# --- files ------------------------------------------------------------------------------------------------------------


async def test_a_killed_upload_and_a_killed_heal_leave_no_files(tmp_path: Path) -> None:
    files = FileImageStore("main", tmp_path / "store")
    await files.prepare()
    site = Site()
    site.stores = Stores(files, {"main": files})
    image = await site.publish(CONTENT, "main")
    key = await final_key(site, image)
    unknown = key_of(an_image_id("unknown"))
    for opened in (await files.open_write(key, replace=True), await files.open_write(unknown)):
        await opened.append(b"half")
        await opened.close()
    assert kinds(await site.sweep(hours=0)) == [("main", Kind.SPARED, False)] * 2
    assert kinds(await site.sweep()) == [("main", Kind.ORPHAN, True)] * 2
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()] == [f"store/blobs/{key}"]
    await files.aclose()
