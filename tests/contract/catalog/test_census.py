"""What there is, counted: images by status, and operations that have steps to do."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from itertools import count

import pytest
from sqlalchemy import Connection, func, select
from sqlalchemy.dialects import sqlite

from services.catalog import queries
from services.catalog.database import Database
from services.catalog.measuring import Measuring
from services.catalog.projection import Projection
from services.catalog.projector import Projector
from services.catalog.queries import Census
from services.catalog.schema import RUNNING, Tables
from services.catalog.watermark import Watermark
from tests.unit.runtime.samples import sample
from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.domain.events import Event, ImageDeleted, RecordedEvent
from tintype.domain.values import OperationId
from tintype.testing.clock import FakeClock
from tintype.testing.events import IMPORT_ROAD, EventBuilder, an_id, an_image_id

ROADS: dict[str, tuple[Event, ...]] = {
    "queued": IMPORT_ROAD[:1],
    "asked": IMPORT_ROAD[:2],
    "staged": IMPORT_ROAD[:3],
    "active": tuple(IMPORT_ROAD),
    "deleted": (*IMPORT_ROAD, ImageDeleted()),
}


@pytest.fixture
async def projection(database: Database) -> Projection:
    projection = Projection(database)
    await projection.open()
    await projection.put_into_use()
    return projection


def of_its_own(name: str, event: Event) -> Event:
    """The event with an operation that no other image has."""
    if "operation_id" not in {each.name for each in fields(event)}:
        return event
    return replace(event, operation_id=OperationId(an_id(f"operation {name}")))  # type: ignore[arg-type]  # it has one


async def project(projection: Projection, *names: str) -> list[RecordedEvent]:
    positions = count(1)
    events: list[RecordedEvent] = []
    for name in names:
        builder = EventBuilder(an_image_id(name))
        events += builder.recorded([of_its_own(name, event) for event in ROADS[name]], position=next(positions) * 100)
    await projection.apply(events)
    return events


async def test_nothing_is_counted_as_nothing(projection: Projection) -> None:
    assert await projection.read(queries.census) == Census({}, 0, None)


async def test_images_are_counted_by_status_and_operations_while_they_have_steps(projection: Projection) -> None:
    events = await project(projection, *ROADS)
    census = await projection.read(queries.census)
    assert Counter(census.images) == {"queued": 1, "importing": 2, "active": 1, "deleted": 1}
    assert census.running == 2
    asked = [event.event.time for event in events if event.image_id == an_image_id("asked")]
    assert census.oldest_started_at is not None and census.oldest_started_at <= max(asked)


async def test_what_is_counted_is_told_also_where_it_is_none(projection: Projection) -> None:
    log, clock = MemoryEventLog(), FakeClock()
    clock.advance(3600)
    measuring = Measuring(log, projection, Projector(log, projection, Watermark()), clock)
    await project(projection, "asked")
    await measuring.measure_images()
    told = {status: sample("tintype_images", status=status) for status in ("importing", "active", "deleted")}
    assert told == {"importing": 1, "active": 0, "deleted": 0}
    assert sample("tintype_operations_running") == 1
    begin = sample("tintype_oldest_operation_seconds")
    clock.advance(60)
    await measuring.measure_images()
    assert sample("tintype_oldest_operation_seconds") == pytest.approx(begin + 60)


async def test_the_logs_head_is_told(projection: Projection) -> None:
    log = MemoryEventLog()
    measuring = Measuring(log, projection, Projector(log, projection, Watermark()), FakeClock())
    await log.append(EventBuilder(an_image_id("one")).new(), after=None)
    await measuring.measure_head()
    assert sample("tintype_log_head") == 1


async def test_counting_walks_indexes_and_reads_no_states_but_of_what_runs(projection: Projection) -> None:
    def explain(connection: Connection, tables: Tables) -> list[str]:
        if connection.dialect.name != "sqlite":
            return []
        status, plan = tables.images.c.status, []
        for query in (
            select(status, func.count()).group_by(status),
            select(func.count()).select_from(tables.operations).where(RUNNING),
        ):
            compiled = query.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
            plan += [str(row[3]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")]
        return plan

    assert all(" INDEX ix_" in step for step in await projection.read(explain))
