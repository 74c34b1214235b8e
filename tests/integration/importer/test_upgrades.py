"""Queues of an older release that the importer takes over: nothing is passed by, done twice, or waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from services.importer.app import PUBLISHERS, make_publisher, make_purger
from services.importer.settings import ImporterSection, ImporterSettings
from services.importer.sweep import Sweeper, SweepLimits
from tests.backends.shared_servers import RunningNats
from tests.contract.event_logs import NatsHarness
from tests.integration.importer.several_stores import SeveralStores
from tintype.adapters.nats.connection import NatsConnection
from tintype.adapters.store_section import StoreSection
from tintype.codec.subjects import STREAM
from tintype.domain.commands import (
    CreateImage,
    DeleteImage,
    RecordAttested,
    RecordConversionSkipped,
    RecordPlaced,
    RecordPublished,
    RecordPurged,
    RecordStaged,
    RecordVerified,
)
from tintype.domain.events import (
    ImageAttested,
    ImageConverted,
    ImageDeleted,
    ImagePublished,
    ImageStaged,
    ImageStepFailed,
    RecordedEvent,
    SkipReason,
    StagePurpose,
    Verdict,
    Verification,
)
from tintype.domain.image import Image
from tintype.domain.lifecycle import Status
from tintype.domain.values import Blob, BlobRef, DiskFormat, ImageId, OperationId, Placement
from tintype.ports.event_log import Delivery, EventLog, WorkQueue
from tintype.runtime.journal import Journal
from tintype.testing.events import ATTRIBUTES, an_id, an_image_id

pytestmark = pytest.mark.nats

DEADLINE_S = 20
CONTENT = b"the image's bytes"
OLD_TYPES = (ImageStaged, ImageConverted, ImageAttested, ImagePublished, ImageStepFailed, ImageDeleted)
"""What the queue "publisher" held before there were copies."""

OLD = WorkQueue("publisher", OLD_TYPES, lease_s=1.0)


class Site(SeveralStores):
    """A real log, and stores in memory."""

    def __init__(self, log: EventLog, connection: NatsConnection) -> None:
        super().__init__({"main": StoreSection(), "second": StoreSection()})
        self.real_log = log
        self.journal = Journal(log, self.clock)
        self.connection = connection

    async def attested(self, name: str, *placement: str) -> ImageId:
        """An upload that waits for its last look, or to be placed first."""
        image_id, operation = an_image_id(name), OperationId(an_id(f"upload {name}"))
        ref = BlobRef("main", f"{image_id}/{operation}/source")
        writer = await self.stores.named("main").open_write(ref.key)
        await writer.append(CONTENT)
        await writer.commit(size=len(CONTENT), digests={})
        blob = Blob(ref, len(CONTENT), {}, DiskFormat.QCOW2, len(CONTENT), {})
        wanted = Placement(placement)
        for command in (
            CreateImage(ATTRIBUTES),
            RecordStaged(operation, StagePurpose.UPLOAD, blob, placement=wanted),
            RecordVerified(operation, Verification(Verdict.UNSIGNED)),
            RecordConversionSkipped(operation, SkipReason.NOT_AN_IMPORT),
            RecordAttested(operation, "key-1", b"{}"),
        ):
            await self.execute(image_id, command)
        return image_id

    async def placed(self, name: str) -> ImageId:
        """An upload that a newer release has placed, and not published."""
        image_id = await self.attested(name, "main", "second")
        operation = (await self.load(image_id)).operation
        assert operation is not None
        assert operation.staged is not None
        key = operation.staged.ref.key
        writer = await self.stores.named("second").open_write(key)
        await writer.append(CONTENT)
        await writer.commit(size=len(CONTENT), digests={})
        await self.execute(image_id, RecordPlaced(operation.id, (BlobRef("second", key),)))
        return image_id

    async def filters(self, queue: str) -> list[str]:
        """What the server hands out in a queue, by the last token of its subjects."""
        config = (await self.connection.api(f"CONSUMER.INFO.{STREAM}.{queue}")).get("config", {})
        subjects = config.get("filter_subjects") or [config.get("filter_subject", "")]
        return sorted(subject.rsplit(".", 1)[-1] for subject in subjects)

    async def until_settled(self, queue: str) -> None:
        """Wait until nothing is left in a queue."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                info = await self.connection.api(f"CONSUMER.INFO.{STREAM}.{queue}")
                if (info.get("num_pending"), info.get("num_ack_pending")) == (0, 0):
                    return
                await asyncio.sleep(0.01)

    async def until(self, image_id: ImageId, status: Status) -> Image:
        async with asyncio.timeout(DEADLINE_S):
            while (image := await self.load(image_id)).status is not status:
                await asyncio.sleep(0.01)
        return image

    async def history(self, image_id: ImageId) -> list[RecordedEvent]:
        return list(await self.real_log.history(image_id))

    @asynccontextmanager
    async def upgraded(self) -> AsyncIterator[None]:
        """The workers of this release that publish and purge."""
        settings = ImporterSettings.model_construct(importer=ImporterSection())
        sweeper = Sweeper(self.journal, self.stores, self.clock, SweepLimits(3600, 3600, 600))
        workers = [make_publisher(name, settings, self.real_log, self.clock, self.stores) for name in PUBLISHERS]
        workers.append(make_purger(settings, self.real_log, self.clock, self.stores, sweeper))
        tasks = [asyncio.create_task(worker.run()) for worker in workers]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def site(nats_server: RunningNats) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        harness = await NatsHarness.make(nats_server.url, stack)
        yield Site(await harness.open(), await harness.connect())


async def within(deliveries: AsyncIterator[Delivery]) -> Delivery:
    async with asyncio.timeout(DEADLINE_S):
        return await anext(deliveries)


async def published(site: Site, name: str) -> ImageId:
    image_id = await site.attested(name)
    operation = (await site.load(image_id)).operation
    assert operation is not None
    assert operation.staged is not None
    await site.execute(image_id, RecordPublished(operation.id, (operation.staged.ref,)))
    return image_id


async def test_what_an_older_release_left_undone_is_done_and_nothing_twice(site: Site) -> None:
    kept, gone = await published(site, "kept"), await published(site, "gone")
    await site.execute(gone, DeleteImage())
    for key in [key for key in site.memory["main"].committed if key.startswith(gone)]:
        await site.stores.named("main").delete(key)
    await site.execute(gone, RecordPurged())
    in_hand = await site.attested("in hand")
    deleted = await published(site, "deleted")
    await site.execute(deleted, DeleteImage())
    async with site.real_log.work(OLD) as deliveries:
        while (delivery := await within(deliveries)).event.image_id not in (in_hand, deleted):
            await delivery.acknowledge()
    assert await site.filters("publisher") == ["attested", "converted", "deleted", "published", "staged", "step_failed"]
    unseen = await site.attested("unseen")  # while nobody ran
    done = {image: await site.history(image) for image in (kept, gone)}

    async with site.upgraded():
        for image_id in (in_hand, unseen):
            await site.until(image_id, Status.ACTIVE)
        for queue in (*PUBLISHERS, "purger"):
            await site.until_settled(queue)

    assert await site.filters("publisher") == ["attested"]
    assert (await site.load(deleted)).is_purged
    assert {image: await site.history(image) for image in (kept, gone)} == done
    assert {key.split("/")[0] for key in site.memory["main"].committed} == {kept, in_hand, unseen}


async def test_a_replica_of_an_older_release_makes_no_event_pass_by(site: Site) -> None:
    async def work_as_before() -> None:
        async with site.real_log.work(OLD) as deliveries:
            async for delivery in deliveries:  # none of it is PUBLISH to it: what is to be placed is not
                await delivery.acknowledge()

    async with site.upgraded():
        for queue in (*PUBLISHERS, "purger"):
            await site.until_settled(queue)
        older = asyncio.create_task(work_as_before())
        async with asyncio.timeout(DEADLINE_S):
            while "converted" not in await site.filters("publisher"):
                await asyncio.sleep(0.01)
        image = await site.until(await site.placed("placed"), Status.ACTIVE)
        older.cancel()
        await asyncio.gather(older, return_exceptions=True)
    assert image.data is not None
    assert [ref.store for ref in image.data.locations] == ["main", "second"]
