"""The numbers that an operator is shown are those of the images, and come from indexes."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import Connection, select

from services.catalog.census import Counting, taken
from services.catalog.database import Database
from services.catalog.projection import Projection
from services.catalog.schema import Tables
from tests.contract.catalog.histories import recorded
from tintype.domain.attributes import ImageAttributes
from tintype.domain.lifecycle import Status
from tintype.domain.values import ContainerFormat, DiskFormat
from tintype.testing.clock import START, FakeClock

SAID = ImageAttributes(disk_format=DiskFormat.QCOW2, container_format=ContainerFormat.BARE)
STEPS = ["create", "import", "create", "import", "fail", "create", "create", "upload", "verified", "delete"]
IMAGES = [0, 0, 1, 1, 1, 2, 3, 3, 3, 2]


@pytest.fixture
async def projection(database: Database) -> Projection:
    """Of four images: one is being imported, one has failed, one is deleted, one is being uploaded."""
    projection = Projection(database)
    await projection.open()
    await projection.apply(recorded([(image, kind, SAID) for image, kind in zip(IMAGES, STEPS, strict=True)]))
    await projection.put_into_use()
    return projection


async def test_a_census_counts_each_image_by_its_status(projection: Projection) -> None:
    census = await Counting(projection, FakeClock()).census()

    def states(connection: Connection, tables: Tables) -> list[str]:
        return list(connection.execute(select(tables.images.c.status)).scalars())

    assert census.images == Counter(map(Status, await projection.read(states)))
    assert sum(census.images.values()) == 4
    assert census.images[Status.DELETED] == 1


async def test_running_operations_come_with_the_oldest_first(projection: Projection) -> None:
    census = await Counting(projection, FakeClock()).census()

    assert census.running == 2
    started = [stored.operation.started_at for stored in census.oldest]
    assert started == sorted(started)
    assert all(stored.operation.is_running and stored.step for stored in census.oldest)


async def test_failures_are_counted_by_their_reasons_for_a_day(projection: Projection) -> None:
    clock = FakeClock()
    (failure,) = (await Counting(projection, clock).census()).failures

    assert (failure.reason, failure.operations) == ("SOURCE_UNREACHABLE", 1)
    assert failure.newest_at == START + timedelta(seconds=4)
    clock.advance(24 * 3600 + 5)
    assert (await Counting(projection, clock).census()).failures == ()


async def test_who_asks_at_once_is_answered_by_one_count(projection: Projection) -> None:
    clock = FakeClock()
    counting = Counting(projection, clock)

    first = await counting.census()
    assert await counting.census() is first
    clock.advance(2)
    assert await counting.census() is not first


async def test_nothing_is_counted_by_walking_over_whole_rows(database: Database) -> None:
    if database.dialect != "sqlite":
        pytest.skip("the planner of an empty PostgreSQL prefers to read all of a table")
    projection = Projection(database)
    await projection.open()
    plans: list[str] = []

    def explained(connection: Connection, tables: Tables) -> None:
        class Explaining:
            def execute(self, statement: object) -> object:
                text = statement.compile(connection, compile_kwargs={"literal_binds": True})  # type: ignore[attr-defined]
                plans.extend(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}"))
                return connection.execute(statement)  # type: ignore[call-overload]

        taken(Explaining(), tables, START)  # type: ignore[arg-type]

    await projection.read(explained)
    walks = [plan for plan in plans if ("images_" in plan or "operations_" in plan) and "INDEX ix_" not in plan]
    assert walks == [], plans


async def test_a_deleted_image_has_no_running_operation(database: Database) -> None:
    projection = Projection(database)
    await projection.open()
    events = recorded([(0, "create", SAID), (0, "import", SAID), (0, "delete", SAID)])
    await projection.apply(events)
    await projection.put_into_use()

    census = await Counting(projection, FakeClock()).census()
    assert (census.running, census.failures, census.images) == (0, (), {Status.DELETED: 1})
