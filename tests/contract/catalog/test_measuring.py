"""What the catalog measures of the whole deployment."""

from __future__ import annotations

import pytest

from services.catalog.census import Counting
from services.catalog.database import Database
from services.catalog.measuring import Measuring
from services.catalog.projection import Projection
from services.catalog.projector import Projector
from services.catalog.watermark import Watermark
from tests.unit.runtime.samples import sample
from tintype.adapters.memory.event_log import MemoryEventLog
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


async def test_the_logs_head_is_told(projection: Projection) -> None:
    log, clock = MemoryEventLog(), FakeClock()
    projector = Projector(log, projection, Watermark())
    measuring = Measuring(log, Counting(projection, clock), projector, clock)
    await log.append(EventBuilder(an_image_id("one")).new(), after=None)
    await measuring.measure_head()
    assert sample("tintype_log_head") == 1
