"""An importer with a log in memory and a store of files, and the rest of the road played by the test.

Besides the store of files it may have others, in memory, which fail on demand.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from services.importer.app import PUBLISHERS, make_placer, make_publisher, make_purger, make_stager
from services.importer.downloads import Downloads
from services.importer.locations import Locations
from services.importer.servicer import ImporterServicer
from services.importer.settings import ImporterSection, ImporterSettings
from services.importer.store_listing import StoreListing
from services.importer.sweep import Sweeper, SweepLimits
from services.importer.uploads import UploadLimits, Uploads
from tests.unit.importer.failing_store import FailingStore
from tintype.adapters.filesystem.store import FileImageStore
from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.adapters.stores import Stores
from tintype.domain.access import Caller
from tintype.domain.attributes import ImageAttributes
from tintype.domain.commands import (
    Command,
    CreateImage,
    RecordAttested,
    RecordConversionSkipped,
    RecordConverted,
    RecordVerified,
    RequestImport,
)
from tintype.domain.events import EventContext, ImportMethod, ImportSource, SkipReason, Step, Verdict, Verification
from tintype.domain.image import Image
from tintype.domain.lifecycle import Status, next_step
from tintype.domain.values import (
    DEFAULT_PLACEMENT,
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
from tintype.runtime import worker as worker_module
from tintype.runtime.clock import SystemClock
from tintype.runtime.journal import Journal
from tintype.testing.clock import FakeClock
from tintype.testing.events import an_id, an_image_id

PROJECT = ProjectId("acme")
CALLER = Caller(PROJECT, "ann")
DEADLINE_S = 20


class Importer:
    """The importer's parts around one log and one directory; ``root`` is where the bytes are.

    ``others`` are the names of further stores.
    """

    def __init__(self, root: Path, section: ImporterSection, others: Sequence[str] = ()) -> None:
        self.root = root
        self.settings = ImporterSettings.model_construct(importer=section)
        self.clock = SystemClock()
        self.log = MemoryEventLog()
        self.journal = Journal(self.log, self.clock)
        self.store = FileImageStore("main", root)
        self.others = {name: FailingStore(name) for name in others}
        self.stores = Stores(self.store, {"main": self.store, **self.others})
        self.now_s = 0.0
        self.uploads = self.new_uploads()
        self.downloads = Downloads(self.journal, self.stores)
        self.sweeper = Sweeper(self.journal, self.stores, self.clock, SweepLimits(3600, 3600, 3600))
        self._commands = 0

    def use(self, stores: Stores) -> None:
        """Have other stores from now on."""
        self.stores = stores
        self.uploads = self.new_uploads()
        self.downloads = Downloads(self.journal, self.stores)
        self.sweeper = Sweeper(self.journal, self.stores, self.clock, SweepLimits(3600, 3600, 3600))

    def new_uploads(self) -> Uploads:
        """The uploads of a process that has just been started."""
        own = self.settings.importer
        return Uploads(self.journal, self.stores, own.policy, UploadLimits(30, 4), monotonic=lambda: self.now_s)

    def new_servicer(self) -> ImporterServicer:
        """The calls of ImporterService."""
        locations = Locations(self.journal, self.stores, self.settings.importer.location_rules)
        plugins = self.settings.importer.plugins
        return ImporterServicer(self.uploads, self.downloads, plugins, StoreListing(self.stores), locations)

    def sweeper_in(self, *, hours: int) -> Sweeper:
        """The sweeper at a later time."""
        later = FakeClock(self.clock.now() + timedelta(hours=hours))
        return Sweeper(self.journal, self.stores, later, SweepLimits(3600, 3600, 3600))

    async def execute(self, image_id: ImageId, command: Command) -> Image:
        """Carry out a command as its user or service would."""
        self._commands += 1
        executed = await self.journal.execute(
            image_id,
            command,
            project=PROJECT,
            command_id=CommandId(f"test-{self._commands}"),
            context=EventContext("ann", "request", "request"),
        )
        return executed.image

    async def create(self, name: str = "image", disk_format: DiskFormat = DiskFormat.RAW) -> ImageId:
        """An image that waits for its bytes."""
        image_id = an_image_id(name)
        attributes = ImageAttributes(disk_format=disk_format, container_format=ContainerFormat.BARE)
        await self.execute(image_id, CreateImage(attributes))
        return image_id

    async def request_import(
        self,
        uri: str,
        *,
        name: str = "image",
        disk_format: DiskFormat = DiskFormat.RAW,
        size: int | None = None,
        digest: Digest | None = None,
        placement: Placement = DEFAULT_PLACEMENT,
    ) -> ImageId:
        """An image whose bytes are to be fetched."""
        image_id = await self.create(name, disk_format)
        source = ImportSource(ImportMethod.WEB_DOWNLOAD, uri, size, digest)
        await self.execute(image_id, RequestImport(OperationId(an_id(f"import {name}")), source, placement))
        return image_id

    async def load(self, image_id: ImageId) -> Image:
        """The image as it is now."""
        image = await self.journal.load(image_id)
        assert image is not None
        return image

    async def until(self, image_id: ImageId, is_so: Callable[[Image], bool]) -> Image:
        """Wait until the image is as it should be."""
        async with asyncio.timeout(DEADLINE_S):
            async for event in self.log.follow(after=0):
                if event.image_id == image_id and is_so(image := await self.load(image_id)):
                    return image
        raise AssertionError("the log never ends")

    async def until_ended(self, image_id: ImageId) -> Image:
        """Wait until no step is left."""
        return await self.until(image_id, lambda image: next_step(image) is None and image.operation is not None)

    def files(self) -> set[str]:
        """Every file in the store, whatever it is."""
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()}

    async def until_files(self, wanted: set[str]) -> None:
        """Wait until the store has just these files."""
        async with asyncio.timeout(DEADLINE_S):
            while self.files() != wanted:
                await asyncio.sleep(0.01)

    async def read(self, image_id: ImageId, offset: int = 0, limit: int = 0) -> bytes:
        """The image's bytes."""
        pieces = self.downloads.read(CALLER, image_id, offset=offset, limit=limit)
        return b"".join([piece async for piece in pieces])

    @asynccontextmanager
    async def working(self, *, converts: bool = False) -> AsyncIterator[None]:
        """The importer's workers, and a signer and a converter that agree with everything."""
        stager = make_stager(self.settings, self.log, self.clock, self.stores)
        placer = make_placer(self.settings, self.log, self.clock, self.stores)
        publishers = [make_publisher(name, self.settings, self.log, self.clock, self.stores) for name in PUBLISHERS]
        purger = make_purger(self.settings, self.log, self.clock, self.stores, self.sweeper)
        workers = (stager, placer, *publishers, purger)
        runs = (*(worker.run() for worker in workers), self._play_others(converts))
        tasks = [asyncio.create_task(run) for run in runs]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _play_others(self, converts: bool) -> None:
        async for event in self.log.follow(after=0):
            image = await self.load(event.image_id)
            operation = image.operation
            if operation is None or image.position != event.position:
                continue
            if next_step(image) is Step.VERIFY:
                await self.execute(image.id, RecordVerified(operation.id, Verification(Verdict.UNSIGNED)))
            elif next_step(image) is Step.ATTEST:
                await self.execute(image.id, RecordAttested(operation.id, "key", b"{}"))
            elif next_step(image) is Step.CONVERT and not converts:
                await self.execute(image.id, RecordConversionSkipped(operation.id, SkipReason.DISABLED))
            elif next_step(image) is Step.CONVERT and operation.staged:
                key = f"{image.id}/{operation.id}/output-1"
                writer = await self.store.open_write(key)
                await writer.append(b"converted")
                await writer.commit(size=9, digests={})
                digests = {"sha256": hashlib.sha256(b"converted").hexdigest()}
                made = replace(operation.staged, ref=BlobRef("main", key), size=9, digests=digests)
                await self.execute(image.id, RecordConverted(operation.id, made, "qemu-img", "7", ()))


def is_active(image: Image) -> bool:
    return image.status is Status.ACTIVE


MakeImporter = Callable[..., Awaitable[Importer]]


@pytest.fixture
async def make_importer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MakeImporter]:
    monkeypatch.setattr(worker_module, "_FIRST_RETRY_DELAY_S", 0.01)
    monkeypatch.setattr(worker_module, "PROGRESS_INTERVAL_S", 0.05)
    made: list[Importer] = []

    async def make(others: Sequence[str] = (), **settings: object) -> Importer:
        values: dict[str, object] = {"allowed_hosts": "127.0.0.1", "max_attempts": 2, "max_image_bytes": 1 << 26}
        importer = Importer(tmp_path / "store", ImporterSection.model_validate(values | settings), others)
        await importer.store.prepare()
        made.append(importer)
        return importer

    yield make
    for importer in made:
        await importer.uploads.aclose()
        await importer.store.aclose()


@pytest.fixture
async def importer(make_importer: MakeImporter) -> Importer:
    return await make_importer()
