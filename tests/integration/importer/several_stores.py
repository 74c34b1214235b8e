"""A log in memory, some stores in memory with what is around them, and images that are in several of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace

from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.adapters.memory.store import MemoryImageStore
from tintype.adapters.store_section import StoreSection
from tintype.adapters.stores import Stores
from tintype.domain.access import Caller
from tintype.domain.attributes import ImageAttributes
from tintype.domain.commands import (
    Command,
    CreateImage,
    RecordAttested,
    RecordConversionSkipped,
    RecordPublished,
    RecordStaged,
    RecordVerified,
    UpdateImage,
)
from tintype.domain.events import EventContext, RecordedEvent, SkipReason, StagePurpose, Verdict, Verification
from tintype.domain.image import Image
from tintype.domain.values import (
    Blob,
    BlobRef,
    CommandId,
    ContainerFormat,
    DiskFormat,
    ImageId,
    OperationId,
    ProjectId,
)
from tintype.ports.image_store import ImageStore
from tintype.runtime.clock import SystemClock
from tintype.runtime.journal import Journal
from tintype.testing.events import an_id, an_image_id

PROJECT = ProjectId("acme")
CALLER = Caller(PROJECT, "ann")
ADMIN = Caller(ProjectId("operators"), "root", is_admin=True)


class SeveralStores:
    """One store in memory for each section, the first of them the default; ``around`` is put around each."""

    def __init__(
        self,
        sections: Mapping[str, StoreSection],
        around: Callable[[MemoryImageStore], ImageStore] = lambda store: store,
    ) -> None:
        self.clock = SystemClock()
        self.log = MemoryEventLog()
        self.journal = Journal(self.log, self.clock)
        self.memory = {name: MemoryImageStore(name, self.clock) for name in sections}
        opened = {name: around(store) for name, store in self.memory.items()}
        self.stores = Stores(next(iter(opened.values())), opened, sections)
        self._commands = 0

    def forget(self, name: str) -> None:
        """The deployment has the store no more."""
        kept = {other: store for other, store in self.stores.by_name.items() if other != name}
        self.stores = replace(self.stores, by_name=kept)

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

    async def publish(self, content: bytes, *stores: str) -> ImageId:
        """An active image with a copy in each of the stores."""
        image_id, operation = an_image_id("image"), OperationId(an_id("upload"))
        key = f"{image_id}/{operation}/source"
        for store in stores:
            writer = await self.stores.named(store).open_write(key)
            if content:
                await writer.append(content)
            await writer.commit(size=len(content), digests={})
        digests = {"sha256": hashlib.sha256(content).hexdigest()}
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

    async def load(self, image_id: ImageId) -> Image:
        image = await self.journal.load(image_id)
        assert image is not None
        return image

    async def history(self, image_id: ImageId) -> list[RecordedEvent]:
        return list(await self.log.history(image_id))

    async def rename(self, image_id: ImageId) -> None:
        """Change something about the image that is not its bytes."""
        image = await self.load(image_id)
        await self.execute(image_id, UpdateImage(replace(image.attributes, name="another"), ("name",)))
