"""What the catalog measures of the whole deployment."""

from __future__ import annotations

import asyncio
import math

import pytest
from prometheus_client import REGISTRY

from services.catalog.census import Census, Counting
from services.catalog.database import Database
from services.catalog.measuring import Measuring
from services.catalog.projection import Projection
from services.catalog.projector import Projector
from services.catalog.watermark import Watermark
from tests.unit.runtime.samples import sample
from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.domain.errors import CatalogDatabaseError
from tintype.testing.clock import FakeClock
from tintype.testing.events import IMPORT_ROAD, EventBuilder, an_image_id


@pytest.fixture
async def projection(database: Database) -> Projection:
    projection = Projection(database)
    await projection.open()
    await projection.put_into_use()
    return projection


async def test_what_is_counted_is_told_also_where_it_is_none(projection: Projection) -> None:
    log, clock = MemoryEventLog(), FakeClock()
    clock.advance(3600)
    projector = Projector(log, projection, Watermark())
    measuring = Measuring(log, Counting(projection, clock), projector, clock)
    await projection.apply(EventBuilder(an_image_id("asked")).recorded(IMPORT_ROAD[:2]))
    await measuring.measure_images()
    told = {status: sample("tintype_images", status=status) for status in ("importing", "active", "deleted")}
    assert told == {"importing": 1, "active": 0, "deleted": 0}
    assert sample("tintype_operations_running") == 1
    begin = sample("tintype_oldest_operation_seconds")
    clock.advance(60)
    await measuring.measure_images()
    assert sample("tintype_oldest_operation_seconds") == pytest.approx(begin + 60)


async def test_what_cannot_be_counted_any_more_is_not_told(
    projection: Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, clock = MemoryEventLog(), FakeClock()
    projector = Projector(log, projection, Watermark())
    counting = Counting(projection, clock)
    measuring = Measuring(log, counting, projector, clock)
    await projection.apply(EventBuilder(an_image_id("asked")).recorded(IMPORT_ROAD[:2]))
    await measuring.measure_images()
    assert sample("tintype_operations_running") == 1

    asked = asyncio.Event()

    async def away() -> Census:
        asked.set()
        raise CatalogDatabaseError("it does not answer")

    async def caught_up() -> None:
        """At once."""

    monkeypatch.setattr(counting, "census", away)
    monkeypatch.setattr(projector, "caught_up", caught_up)
    working = asyncio.create_task(measuring.run())
    await asked.wait()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert REGISTRY.get_sample_value("tintype_images", {"status": "importing"}) is None
    assert math.isnan(sample("tintype_operations_running"))
    assert math.isnan(sample("tintype_oldest_operation_seconds"))


async def test_the_logs_head_is_told(projection: Projection) -> None:
    log, clock = MemoryEventLog(), FakeClock()
    projector = Projector(log, projection, Watermark())
    measuring = Measuring(log, Counting(projection, clock), projector, clock)
    await log.append(EventBuilder(an_image_id("one")).new(), after=None)
    await measuring.measure_head()
    assert sample("tintype_log_head") == 1
