"""Re-verification at rest on two file stores: what is found, marked and healed, and what is never done."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from services.importer.background_scrub import LEAST_CHARGE, BackgroundScrub, ScrubLimits
from services.importer.downloads import Downloads
from services.importer.purging import Purging
from services.importer.scrubbing import Finding, Scrubber, active_images
from services.importer.sweep import Sweeper, SweepLimits
from tintype.adapters.filesystem.store import FileImageStore
from tintype.adapters.filesystem.writer import FileWriter
from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.adapters.stores import Stores
from tintype.domain.access import Caller
from tintype.domain.attributes import ImageAttributes
from tintype.domain.commands import (
    Command,
    CreateImage,
    DeleteImage,
    ExpireImage,
    RecordAttested,
    RecordConversionSkipped,
    RecordCopyDamaged,
    RecordCopyHealed,
    RecordPlaced,
    RecordPublished,
    RecordStaged,
    RecordVerified,
    RemoveCopy,
    RequestCopy,
    RestoreImage,
)
from tintype.domain.errors import BlobDamagedError, StoreUnavailableError
from tintype.domain.events import (
    CopyDamaged,
    CopyHealed,
    EventContext,
    SkipReason,
    StagePurpose,
    Verdict,
    Verification,
)
from tintype.domain.image import Image
from tintype.domain.values import (
    Blob,
    BlobRef,
    CommandId,
    ContainerFormat,
    Digest,
    DiskFormat,
    ImageId,
    OperationId,
    Placement,
    ProjectId,
)
from tintype.runtime.clock import SystemClock
from tintype.runtime.journal import Journal
from tintype.runtime.token_bucket import TokenBucket
from tintype.testing.clock import FakeClock
from tintype.testing.events import an_id, an_image_id

PROJECT = ProjectId("acme")
CALLER = Caller(PROJECT, "ann")
CONTENT = random.Random(4).randbytes(2 * 1024 * 1024 + 17)
DIGEST = Digest("sha256", hashlib.sha256(CONTENT).hexdigest())


class Site:
    """Two file stores, a log, and images that are in both."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = MemoryEventLog()
        self.clock = SystemClock()
        self.journal = Journal(self.log, self.clock)
        self.main = FileImageStore("main", directory / "main")
        self.second = FileImageStore("second", directory / "second")
        self.stores = Stores(self.main, {"main": self.main, "second": self.second})
        self.scrubber = Scrubber(self.journal, self.stores)
        self.downloads = Downloads(self.journal, self.stores)
        self._commands = 0

    async def execute(self, image_id: ImageId, command: Command) -> Image:
        self._commands += 1
        executed = await self.journal.execute(
            image_id,
            command,
            project=PROJECT,
            command_id=CommandId(f"test-{self._commands}"),
            context=EventContext("ann", "request", "request"),
        )
        return executed.image

    async def publish(
        self, name: str = "image", content: bytes = CONTENT, stores: tuple[str, ...] = ("main", "second")
    ) -> ImageId:
        """An active image with a copy in each of the stores."""
        image_id, operation = an_image_id(name), OperationId(an_id(f"upload {name}"))
        key = f"{image_id}/{operation}/source"
        for store in stores:
            writer = await self.stores.named(store).open_write(key)
            await writer.append(content)
            await writer.commit(size=len(content), digests={})
        digests = {"sha256": hashlib.sha256(content).hexdigest(), "md5": "00" * 16}
        blob = Blob(BlobRef(stores[0], key), len(content), digests, DiskFormat.RAW, len(content), {})
        raw = ImageAttributes(disk_format=DiskFormat.RAW, container_format=ContainerFormat.BARE)
        for command in (
            CreateImage(raw),
            RecordStaged(operation, StagePurpose.UPLOAD, blob),
            RecordVerified(operation, Verification(Verdict.UNSIGNED)),
            RecordConversionSkipped(operation, SkipReason.NOT_AN_IMPORT),
            RecordAttested(operation, "key-1", b"{}"),
            RecordPublished(operation, tuple(BlobRef(store, key) for store in stores)),
        ):
            await self.execute(image_id, command)
        return image_id

    def file(self, image_id: ImageId, store: str) -> Path:
        (found,) = (self.directory / store / "blobs" / image_id).rglob("source")
        return found

    def damage(self, image_id: ImageId, store: str, offset: int = 1_000_000) -> None:
        with self.file(image_id, store).open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)
            file.seek(offset)
            file.write(bytes([byte[0] ^ 1]))

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.directory)) for path in self.directory.rglob("*") if path.is_file())

    async def scrub(self, *images: ImageId, store: str = "") -> list[Finding]:
        steps = self.scrubber.scrub(images, pace=TokenBucket(0), actor="operator", store=store)
        return [step.finding async for step in steps if step.finding]

    async def damaged(self, image_id: ImageId) -> list[str]:
        image = await self.journal.load(image_id)
        assert image and image.data
        return [ref.store for ref in image.data.damaged]

    async def events(self, image_id: ImageId) -> list[CopyDamaged | CopyHealed]:
        history = await self.journal.history(image_id)
        return [event.payload for event in history if isinstance(event.payload, CopyDamaged | CopyHealed)]

    async def read(self, image_id: ImageId, offset: int = 0) -> bytes:
        return b"".join([piece async for piece in self.downloads.read(CALLER, image_id, offset=offset, limit=0)])


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    await made.main.prepare()
    await made.second.prepare()
    yield made
    await made.main.aclose()
    await made.second.aclose()


async def test_sound_copies_are_left_alone(site: Site) -> None:
    image = await site.publish()
    before = site.files()

    steps = [step async for step in site.scrubber.scrub([image], pace=TokenBucket(0), actor="operator")]

    assert (steps[-1].done, steps[-1].copies) == (2 * len(CONTENT), 2)
    assert [step.finding for step in steps if step.finding] == []
    assert (await site.events(image), site.files()) == ([], before)


async def test_a_flipped_bit_is_found_marked_and_healed_from_the_other_store(site: Site) -> None:
    image = await site.publish()
    site.damage(image, "second")
    found = Digest("sha256", hashlib.sha256(site.file(image, "second").read_bytes()).hexdigest())

    findings = await site.scrub(image)

    assert findings == [Finding(image, "second", DIGEST, found, is_healed=True)]
    damaged, healed = await site.events(image)
    assert isinstance(damaged, CopyDamaged) and (damaged.expected, damaged.found) == (DIGEST, found)
    assert isinstance(healed, CopyHealed) and (healed.ref.store, healed.source) == ("second", "main")
    assert site.file(image, "second").read_bytes() == CONTENT
    assert await site.damaged(image) == []
    assert len(site.files()) == 2


def truncate(path: Path) -> None:
    os.truncate(path, 1000)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(3_000_000))


def empty(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("spoil", [truncate, lengthen, empty])
async def test_a_copy_of_another_length_is_damaged_and_healed(site: Site, spoil: Callable[[Path], None]) -> None:
    image = await site.publish()
    spoil(site.file(image, "main"))

    (finding,) = await site.scrub(image)

    assert finding.is_healed and finding.found not in (None, DIGEST)
    assert site.file(image, "main").read_bytes() == CONTENT


async def test_a_copy_that_is_gone_is_damaged_and_healed(site: Site) -> None:
    image = await site.publish()
    site.file(image, "main").unlink()

    (finding,) = await site.scrub(image)

    assert (finding.store, finding.found, finding.is_healed) == ("main", None, True)
    assert site.file(image, "main").read_bytes() == CONTENT


async def test_a_copy_that_the_disk_cannot_read_is_damaged_and_healed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = await site.publish()
    bad, pread = site.file(image, "second").stat().st_ino, os.pread

    def bad_sector(descriptor: int, count: int, position: int) -> bytes:
        if os.fstat(descriptor).st_ino == bad and position > 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(descriptor, count, position)

    monkeypatch.setattr(os, "pread", bad_sector)
    (finding,) = await site.scrub(image)

    assert (finding.store, finding.found, finding.is_healed) == ("second", None, True)
    assert site.file(image, "second").read_bytes() == CONTENT


async def test_the_only_copy_is_marked_and_kept(site: Site) -> None:
    image = await site.publish(stores=("main",))
    site.damage(image, "main")
    spoiled = site.file(image, "main").read_bytes()

    (finding,) = await site.scrub(image)

    assert not finding.is_healed
    assert finding.failure and finding.failure.reason == "BLOB_DAMAGED"
    assert await site.damaged(image) == ["main"]
    assert site.file(image, "main").read_bytes() == spoiled
    assert len(site.files()) == 1


async def test_copies_that_are_all_damaged_are_all_kept(site: Site) -> None:
    image = await site.publish()
    site.damage(image, "main", 5)
    site.damage(image, "second", 1_500_000)
    before = [site.file(image, store).read_bytes() for store in ("main", "second")]

    findings = await site.scrub(image)

    assert [finding.is_healed for finding in findings] == [False, False]
    assert await site.damaged(image) == ["main", "second"]
    assert [site.file(image, store).read_bytes() for store in ("main", "second")] == before
    assert len(site.files()) == 2


async def test_what_is_known_is_told_again_and_not_recorded_twice(site: Site) -> None:
    image = await site.publish(stores=("main",))
    site.damage(image, "main")

    assert len(await site.scrub(image)) == len(await site.scrub(image)) == 1
    assert len(await site.events(image)) == 1


async def test_a_copy_that_was_put_right_by_hand_is_sound_again(site: Site) -> None:
    image = await site.publish(stores=("main",))
    site.damage(image, "main")
    await site.scrub(image)
    site.damage(image, "main")  # the same bit

    assert await site.scrub(image) == []
    healed = (await site.events(image))[-1]
    assert isinstance(healed, CopyHealed) and healed.source == "main"
    assert await site.damaged(image) == []


async def test_one_store_alone_can_be_scrubbed(site: Site) -> None:
    image = await site.publish()
    site.damage(image, "main")

    assert await site.scrub(image, store="second") == []
    assert await site.events(image) == []
    assert [finding.store for finding in await site.scrub(image, store="main")] == ["main"]


async def test_a_store_that_does_not_answer_is_no_damage(site: Site) -> None:
    first, other = await site.publish(), await site.publish("other")
    hidden = site.directory / "hidden"
    (site.directory / "second").rename(hidden)

    findings = await site.scrub(first, other)

    # It is told once: the rest of its copies is left alone.
    assert [(finding.store, finding.failure and finding.failure.reason) for finding in findings] == [
        ("second", "STORE_MISSING")
    ]
    assert await site.events(first) == await site.events(other) == []
    hidden.rename(site.directory / "second")
    assert await site.scrub(first, other) == []


async def test_a_store_that_is_no_longer_configured_is_no_damage(site: Site) -> None:
    image = await site.publish()
    scrubber = Scrubber(site.journal, Stores(site.main, {"main": site.main}))

    steps = [step async for step in scrubber.scrub([image], pace=TokenBucket(0), actor="operator")]

    (finding,) = [step.finding for step in steps if step.finding]
    assert finding.failure and finding.failure.reason == "STORE_UNAVAILABLE"
    assert await site.events(image) == []


async def test_a_store_that_is_full_keeps_the_damaged_copy(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    image = await site.publish()
    site.damage(image, "second")
    spoiled = site.file(image, "second").read_bytes()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    (finding,) = await site.scrub(image)

    assert finding.failure and finding.failure.reason == "STORE_FULL"
    assert site.file(image, "second").read_bytes() == spoiled
    assert (await site.damaged(image), len(site.files())) == (["second"], 2)


async def test_a_scrub_that_is_ended_while_it_heals_loses_nothing(site: Site) -> None:
    """Wherever it is cancelled: the sound copy is there, and the other one is as it was or healed."""
    image = await site.publish()
    site.damage(image, "second")
    spoiled = site.file(image, "second").read_bytes()
    for count in range(1, 40):
        taken = 0
        async with aclosing(site.scrubber.scrub([image], pace=TokenBucket(0), actor="operator")) as steps:
            async for _ in steps:
                taken += 1
                if taken == count:
                    break
        assert site.file(image, "main").read_bytes() == CONTENT
        assert site.file(image, "second").read_bytes() in (spoiled, CONTENT)
        if taken < count:
            break
    assert site.file(image, "second").read_bytes() == CONTENT
    assert await site.scrub(image) == []
    assert (await site.damaged(image), len(site.files())) == ([], 2)


async def test_a_scrub_that_is_cancelled_at_any_await_loses_nothing(site: Site) -> None:
    image = await site.publish()
    for turns in range(0, 400, 7):
        if site.file(image, "second").read_bytes() == CONTENT:
            site.damage(image, "second")
        task = asyncio.create_task(site.scrub(image))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert site.file(image, "main").read_bytes() == CONTENT
        assert site.file(image, "second").exists()
    await site.scrub(image)
    assert site.file(image, "second").read_bytes() == CONTENT
    assert len(site.files()) == 2


async def test_two_scrubs_at_once_do_no_harm(site: Site) -> None:
    image = await site.publish()
    site.damage(image, "second")

    await asyncio.gather(site.scrub(image), site.scrub(image))
    await site.scrub(image)

    assert [site.file(image, store).read_bytes() for store in ("main", "second")] == [CONTENT, CONTENT]
    assert (await site.damaged(image), len(site.files())) == ([], 2)


async def purge(site: Site, image: ImageId) -> None:
    loaded = await site.journal.load(image)
    assert loaded is not None
    await Purging(site.stores).purge_image(loaded, None)  # type: ignore[arg-type]  # it tells no progress


async def test_an_image_that_is_deleted_while_it_is_scrubbed_leaves_no_bytes_and_no_mark(site: Site) -> None:
    """Deleted and purged after every step that a scrub takes, from its first to its last."""
    for step in range(1, 30):
        image = await site.publish(f"image {step}")
        site.damage(image, "second")
        taken = 0
        async for _ in site.scrubber.scrub([image], pace=TokenBucket(0), actor="operator"):
            taken += 1
            if taken == step:
                await site.execute(image, DeleteImage())
                await purge(site, image)
        if taken < step:
            break
        assert site.files() == []
        after_deletion = (await site.journal.history(image))[-1]
        assert not isinstance(after_deletion.payload, CopyDamaged | CopyHealed)
    else:
        pytest.fail("the scrub never got to its end")


@pytest.mark.parametrize("moment", ["before the write begins", "after it has begun", "before its commit"])
async def test_an_image_that_is_purged_while_it_is_healed_gets_no_bytes(
    site: Site, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    image = await site.publish()
    site.damage(image, "second")
    open_write, commit = site.second.open_write, FileWriter.commit

    async def end_image() -> None:
        """A purge that has been through this store, and not yet through the one that is copied from."""
        await site.execute(image, DeleteImage())
        async for stored in site.second.list(image):
            await site.second.delete(stored.key)

    async def opening(key: str, *, resume: bool = False, replace: bool = False) -> FileWriter:
        if moment == "before the write begins":
            await end_image()
        writer = await open_write(key, resume=resume, replace=replace)
        if moment == "after it has begun":
            await end_image()
        return writer

    async def committing(writer: FileWriter, *, size: int, digests: Mapping[str, str]) -> None:
        if moment == "before its commit":
            await end_image()
        await commit(writer, size=size, digests=digests)

    monkeypatch.setattr(site.second, "open_write", opening)
    monkeypatch.setattr(FileWriter, "commit", committing)
    await site.scrub(image)

    assert [path for path in site.files() if path.startswith("second/")] == []


async def test_a_deleted_image_is_not_scrubbed(site: Site) -> None:
    image, other = await site.publish(), await site.publish("other")
    await site.execute(image, DeleteImage())

    assert await active_images(site.log) == {other: 2 * len(CONTENT)}
    assert await site.scrub(image) == []


async def test_a_restored_image_is_scrubbed_again_and_one_that_expired_is_not(site: Site) -> None:
    restored, expired = await site.publish(), await site.publish("other")
    later = site.clock.now() + timedelta(hours=1)
    for image in (restored, expired):
        await site.execute(image, DeleteImage(purge_after=later))
    assert await active_images(site.log) == {}
    await site.execute(restored, RestoreImage(site.clock.now()))
    await site.execute(expired, ExpireImage())
    assert await active_images(site.log) == {restored: 2 * len(CONTENT)}


async def test_copies_that_come_and_go_are_counted(site: Site) -> None:
    image = await site.publish()
    operation = OperationId(an_id("copying"))
    there = await site.journal.load(image)
    assert there is not None and there.data is not None
    await site.execute(image, RequestCopy(operation, Placement(("third",))))
    await site.execute(image, RecordPlaced(operation, (replace(there.data.blob.ref, store="third"),)))
    assert await active_images(site.log) == {image: 3 * len(CONTENT)}
    await site.execute(image, RemoveCopy("second"))
    assert await active_images(site.log) == {image: 2 * len(CONTENT)}


async def test_the_sweep_leaves_a_heal_in_progress_alone(site: Site) -> None:
    image = await site.publish()
    site.damage(image, "second")
    sweeper = Sweeper(site.journal, site.stores, site.clock, SweepLimits(3600, 3600, 3600))

    async for _ in site.scrubber.scrub([image], pace=TokenBucket(0), actor="operator"):
        await sweeper.sweep()

    assert site.file(image, "second").read_bytes() == CONTENT


async def test_a_heal_that_was_killed_is_swept_when_it_is_old_and_nothing_else(site: Site) -> None:
    image = await site.publish()
    loaded = await site.journal.load(image)
    assert loaded and loaded.data
    writer = await site.second.open_write(loaded.data.locations[1].key, replace=True)
    await writer.append(CONTENT[:1000])
    before = site.files()
    later = FakeClock(site.clock.now() + timedelta(hours=2))
    sweeper = Sweeper(site.journal, site.stores, later, SweepLimits(3600, 3600, 3600))

    await sweeper.sweep()
    assert site.files() == before  # it is being written
    await writer.close()
    await Sweeper(site.journal, site.stores, site.clock, SweepLimits(3600, 3600, 3600)).sweep()
    assert site.files() == before  # it is young
    await sweeper.sweep()

    assert site.files() == [path for path in before if "/uncommitted/" not in path]
    assert site.file(image, "second").read_bytes() == CONTENT


# --- downloads --------------------------------------------------------------------------------------------------------


async def mark(site: Site, image: ImageId, store: str, *, is_damaged: bool = True) -> None:
    loaded = await site.journal.load(image)
    assert loaded and loaded.data
    ref = next(ref for ref in loaded.data.locations if ref.store == store)
    command = RecordCopyDamaged(ref, DIGEST, None) if is_damaged else RecordCopyHealed(ref, store)
    await site.execute(image, command)


async def test_a_damaged_copy_is_never_served(site: Site) -> None:
    image = await site.publish()
    site.damage(image, "main")
    await mark(site, image, "main")

    assert await site.read(image) == CONTENT


async def test_an_image_whose_copies_are_all_damaged_is_refused(site: Site) -> None:
    image = await site.publish()
    await mark(site, image, "main")
    await mark(site, image, "second")

    with pytest.raises(BlobDamagedError) as caught:
        await site.read(image)
    assert not caught.value.retryable
    await mark(site, image, "second", is_damaged=False)
    assert await site.read(image) == CONTENT


async def test_a_store_that_is_away_is_told_as_such_though_the_other_copy_is_damaged(site: Site) -> None:
    image = await site.publish()
    await mark(site, image, "main")
    downloads = Downloads(site.journal, Stores(site.main, {"main": site.main}))

    with pytest.raises(StoreUnavailableError):
        [piece async for piece in downloads.read(CALLER, image, offset=0, limit=0)]


# --- the background ---------------------------------------------------------------------------------------------------


class Sleeps:
    """Takes no time, and remembers how long it was to be; from the ``last`` on it never returns."""

    def __init__(self, last: int) -> None:
        self.asked: list[float] = []
        self._last = last
        self.is_over = asyncio.Event()

    async def __call__(self, delay_s: float) -> None:
        self.asked.append(delay_s)
        if len(self.asked) >= self._last:
            self.is_over.set()
            await asyncio.Event().wait()


async def test_the_background_scrub_goes_round_and_rests(site: Site) -> None:
    images = [await site.publish(name) for name in ("one", "two", "three")]
    site.damage(images[1], "main")
    sleeps = Sleeps(2)
    limits = ScrubLimits(2**40, 3600)
    running = asyncio.create_task(BackgroundScrub(site.scrubber, site.log, limits, sleep=sleeps).run())
    async with asyncio.timeout(30):
        await sleeps.is_over.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert site.file(images[1], "main").read_bytes() == CONTENT
    assert sleeps.asked == [120, 3600]


async def test_the_background_scrub_goes_on_when_a_store_is_away(site: Site) -> None:
    image = await site.publish()
    (site.directory / "second").rename(site.directory / "hidden")
    site.damage(image, "main")

    await BackgroundScrub(site.scrubber, site.log, ScrubLimits(2**40, 3600)).round()

    assert await site.damaged(image) == ["main"]


class Broken(MemoryEventLog):
    """A log with a defect."""

    async def head(self) -> int:
        raise ValueError("a defect")


async def test_a_defect_of_the_scrub_does_not_end_the_process(site: Site) -> None:
    sleeps = Sleeps(3)
    scrub = BackgroundScrub(site.scrubber, Broken(), ScrubLimits(2**40, 3600), sleep=sleeps)
    running = asyncio.create_task(scrub.run())
    async with asyncio.timeout(30):
        await sleeps.is_over.wait()
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert sleeps.asked == [120, 60, 60]


async def test_no_rate_is_no_background_scrub(site: Site) -> None:
    running = asyncio.create_task(BackgroundScrub(site.scrubber, site.log, ScrubLimits(0, 1)).run())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_small_images_are_not_read_in_a_tight_loop(site: Site) -> None:
    for name in ("one", "two", "three", "four"):
        await site.publish(name, b"tiny", ("main",))
    waited: list[float] = []
    clock = FakeClock()

    async def sleep(delay_s: float) -> None:
        waited.append(delay_s)
        clock.advance(delay_s)

    scrub = BackgroundScrub(site.scrubber, site.log, ScrubLimits(LEAST_CHARGE, 1))
    start = clock.now()
    scrub._pace = TokenBucket(LEAST_CHARGE, monotonic=lambda: (clock.now() - start).total_seconds(), sleep=sleep)
    await scrub.round()

    assert sum(waited) == pytest.approx(3, abs=0.01)  # the first second's worth is there from the beginning
