"""Bytes that events make unwanted, with the workers of the importer, a real log and files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from services.importer.app import make_purger
from services.importer.kept_copies import KeptCopies
from services.importer.settings import ImporterSection, ImporterSettings
from services.importer.sweep import Kind, Sweeper, SweepLimits
from tests.backends.shared_servers import RunningNats
from tests.contract.event_logs import NatsHarness
from tests.integration.importer.several_stores import SeveralStores
from tintype.adapters.filesystem.store import FileImageStore
from tintype.adapters.store_section import StoreSection
from tintype.adapters.stores import Stores
from tintype.domain.commands import DeleteImage, ExpireImage, RemoveCopy, RestoreImage
from tintype.domain.events import ImageExpired, ImagePurged
from tintype.ports.event_log import EventLog
from tintype.runtime.journal import Journal
from tintype.testing.clock import FakeClock
from tintype.testing.events import an_id, an_image_id

CONTENT = b"the image's bytes"
DELAY = timedelta(hours=1)
DEADLINE_S = 20


class Site(SeveralStores):
    """The stores ``main`` and ``second`` are directories, and the log is a real one."""

    def __init__(self, root: Path, log: EventLog) -> None:
        super().__init__({"main": StoreSection(), "second": StoreSection()})
        self.root = root
        self.real_log = log
        self.journal = Journal(log, self.clock)
        self.directories = {name: FileImageStore(name, root / name) for name in ("main", "second")}
        self.stores = Stores(self.directories["main"], self.directories)

    def sweeper(self, *, days: int = 0) -> Sweeper:
        """The sweeper of that much later."""
        later = FakeClock(self.clock.now() + timedelta(days=days))
        return Sweeper(self.journal, self.stores, later, SweepLimits(3600, 3600, 600))

    def with_files(self) -> list[str]:
        """The store of each file that there is."""
        return sorted(path.relative_to(self.root).parts[0] for path in self.root.rglob("*") if path.is_file())

    async def until(self, is_so: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not await is_so():
                await asyncio.sleep(0.01)

    async def until_files_in(self, *stores: str) -> None:
        async def is_so() -> bool:
            return self.with_files() == sorted(stores)

        await self.until(is_so)

    @asynccontextmanager
    async def removing(self) -> AsyncIterator[None]:
        """The worker that removes."""
        settings = ImporterSettings.model_construct(importer=ImporterSection())
        purger = make_purger(settings, self.real_log, self.clock, self.stores, self.sweeper())
        task = asyncio.create_task(purger.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def site(nats_server: RunningNats, tmp_path: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        harness = await NatsHarness.make(nats_server.url, stack)
        made = Site(tmp_path, await harness.open())
        for store in made.directories.values():
            await store.prepare()
            stack.push_async_callback(store.aclose)
        yield made


async def test_bytes_go_as_the_log_says_and_not_before(site: Site) -> None:
    image = await site.publish(CONTENT, "main", "second")
    async with site.removing():
        await site.execute(image, DeleteImage(purge_after=site.clock.now() + DELAY))
        await site.execute(image, RestoreImage(site.clock.now()))
        await site.execute(image, RemoveCopy("main"))
        await site.until_files_in("second")
        kept = KeptCopies(site.real_log)
        assert {name: copies.stores for name, copies in (await kept.now()).items()} == {image: ("second",)}

        await site.execute(image, DeleteImage(purge_after=site.clock.now() + DELAY))
        await site.sweeper(days=9).sweep()
        assert site.with_files() == ["second"]

        await site.execute(image, ExpireImage())

        async def is_purged() -> bool:
            return (await site.load(image)).is_purged

        await site.until(is_purged)
    assert site.with_files() == []
    tokens = [type(event.payload) for event in await site.journal.history(image)][-2:]
    assert tokens == [ImageExpired, ImagePurged]
    assert await kept.now() == {}
    assert await KeptCopies(site.real_log).now() == {}


async def test_what_lies_around_is_found(site: Site) -> None:
    image = await site.publish(CONTENT, "main", "second")
    for key in (f"{image}/{an_id('unfinished')}/source", f"{an_image_id('unknown')}/{an_id('lost')}/source"):
        writer = await site.stores.named("second").open_write(key)
        await writer.append(b"bytes")
        await writer.close()
    data = (await site.load(image)).data
    assert data
    await site.stores.named("main").delete(data.blob.ref.key)

    found = [step.finding async for step in site.sweeper(days=1).steps() if step.finding]

    assert sorted((each.store, str(each.kind), each.is_removed) for each in found) == [
        ("main", Kind.MISSING, False),
        ("second", Kind.ORPHAN, True),
        ("second", Kind.UNWANTED, True),
    ]
    assert site.with_files() == ["second"]
