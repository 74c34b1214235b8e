"""The projector's loop: batches that form by themselves, and what it does when its surroundings fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.catalog import queries
from services.catalog.database import Database
from services.catalog.projection import Applied, Projection
from services.catalog.projector import Projector
from services.catalog.watermark import Watermark
from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.domain.errors import CatalogDatabaseError, EventLogUnavailableError, ProjectionLagError
from tintype.domain.image import Image
from tintype.runtime.following import Entry
from tintype.testing.events import IMPORT_ROAD, EventBuilder, an_image_id


class FailingLog(MemoryEventLog):
    """Does not answer the first time that it is asked."""

    has_failed = False

    async def head(self) -> int:
        if not self.has_failed:
            self.has_failed = True
            raise EventLogUnavailableError("no answer")
        return await super().head()


class FailingProjection(Projection):
    """Fails the first time, after it has applied the batch; remembers how large each batch was."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.batches: list[int] = []

    async def apply(self, events: Sequence[Entry]) -> Applied:
        self.batches.append(len(events))
        applied = await super().apply(events)
        if len(self.batches) == 1:
            raise CatalogDatabaseError("the connection broke before the answer came")
        return applied


async def fill(log: MemoryEventLog, name: str) -> None:
    builder, last = EventBuilder(an_image_id(name)), None
    for payload in IMPORT_ROAD:
        last = await log.append(builder.new(payload), after=last)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'catalog.db'}")
    yield opened
    await opened.close()


@asynccontextmanager
async def running(log: MemoryEventLog, projection: Projection, watermark: Watermark) -> AsyncIterator[Projector]:
    projector = Projector(log, projection, watermark)
    task = asyncio.create_task(projector.run())
    try:
        yield projector
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def stored(projection: Projection, name: str) -> Image | None:
    return await projection.read(lambda c, t: queries.image_by_id(c, t, an_image_id(name)))


async def test_what_is_in_the_log_is_projected_in_one_batch_before_anything_is_read(database: Database) -> None:
    log, projection, watermark = MemoryEventLog(), FailingProjection(database), Watermark()
    await fill(log, "one")
    await fill(log, "two")
    async with running(log, projection, watermark) as projector:
        with pytest.raises(ProjectionLagError):
            await projector.check()
        await projector.caught_up()
        await projector.check()
        image = await stored(projection, "two")
        assert image is not None
        assert image.version == len(IMPORT_ROAD)
    # The batch was repeated after the failure, and applied once.
    assert sum(projection.batches) == 4 * len(IMPORT_ROAD)
    assert len(projection.batches) < 24


async def test_the_projector_waits_for_a_log_that_is_away(database: Database) -> None:
    log, projection, watermark = FailingLog(), Projection(database), Watermark()
    await fill(log, "one")
    async with running(log, projection, watermark):
        await watermark.reach(6)
        await fill(log, "two")
        await watermark.reach(12)
        assert await stored(projection, "two") is not None
