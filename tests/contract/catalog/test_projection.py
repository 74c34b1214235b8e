"""The projection's promises: once, in one transaction, the same from zero, side by side, never stopped."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from services.catalog import generations, queries
from services.catalog.database import Database
from services.catalog.projection import Projection, apply_batch, apply_events
from services.catalog.schema import GENERATIONS, Tables, schema_version, tables_of
from tests.contract.catalog.histories import logs
from tintype.domain.attributes import ImageAttributes
from tintype.domain.errors import CatalogDatabaseError, CatalogValueError, ProjectionReplacedError
from tintype.domain.events import ImageCreated, RecordedEvent
from tintype.domain.evolve import fold
from tintype.runtime.following import Entry, UnreadableEvent
from tintype.testing.events import IMPORT_ROAD, EventBuilder, an_image_id

HISTORY = EventBuilder().recorded(IMPORT_ROAD)


async def in_use(database: Database) -> Projection:
    projection = Projection(database)
    await projection.open()
    await projection.put_into_use()
    return projection


def contents(connection: Connection, tables: Tables) -> dict[str, list[tuple[Any, ...]]]:
    return {
        name: sorted(tuple(row) for row in connection.execute(select(table)))
        for name, table in (
            ("images", tables.images),
            ("tags", tables.tags),
            ("properties", tables.properties),
            ("operations", tables.operations),
        )
    } | {"parked": sorted(tuple(row) for row in connection.execute(select(tables.parked)))}


async def position_of(projection: Projection, database: Database) -> int:
    query = select(GENERATIONS.c.position).where(GENERATIONS.c.generation == projection.generation.number)
    return await database.read(lambda c: c.execute(query).scalar_one())


async def test_events_become_rows_and_a_position(database: Database) -> None:
    projection = await in_use(database)
    applied = await projection.apply(HISTORY)
    assert (applied.position, applied.parked) == (len(HISTORY), 0)
    image = await projection.read(lambda c, t: queries.image_by_id(c, t, HISTORY[0].image_id))
    assert image == fold(HISTORY)
    assert image is not None
    assert image.operation is not None
    operation = image.operation.id
    stored = await projection.read(lambda c, t: queries.operation_by_id(c, t, operation))
    assert stored is not None
    assert (stored.operation, stored.position, stored.step) == (image.operation, len(HISTORY), None)


async def test_an_event_is_applied_once(database: Database) -> None:
    projection = await in_use(database)
    await projection.apply(HISTORY[:4])
    before = await projection.read(contents)
    assert (await projection.apply(HISTORY[:4])).position == 4
    assert await projection.read(contents) == before
    await projection.apply(HISTORY)
    assert await projection.read(lambda c, t: queries.image_by_id(c, t, HISTORY[0].image_id)) == fold(HISTORY)


async def test_rows_and_position_commit_together_or_not_at_all(database: Database) -> None:
    projection = await in_use(database)
    generation = projection.generation

    def killed_before_commit(connection: Connection) -> None:
        apply_batch(connection, generation, HISTORY)
        raise KeyboardInterrupt  # whatever ends the process here ends the transaction

    with pytest.raises(KeyboardInterrupt):
        await database.write(killed_before_commit)
    assert await position_of(projection, database) == 0
    assert not any((await projection.read(contents)).values())
    await projection.apply(HISTORY)
    assert await position_of(projection, database) == len(HISTORY)
    assert await projection.read(lambda c, t: queries.image_by_id(c, t, HISTORY[0].image_id)) == fold(HISTORY)


async def test_two_projectors_share_one_database(database: Database, database_url: str) -> None:
    other_database = Database(database_url)
    try:
        one = await in_use(database)
        other = await in_use(other_database)
        assert one.generation.number == other.generation.number
        await one.apply(HISTORY[:2])
        assert (await other.apply(HISTORY[:5])).position == 5
        assert (await one.apply(HISTORY[2:4])).position == 5  # it learns how far the other is
        await one.apply(HISTORY[4:])
        stored = await other.read(lambda c, t: queries.image_by_id(c, t, HISTORY[0].image_id))
        assert stored == fold(HISTORY)
        assert (await other.read(contents))["parked"] == []
    finally:
        await other_database.close()


async def test_replicas_that_start_and_project_at_once_agree(database: Database, database_url: str) -> None:
    other_database = Database(database_url)
    log = [
        replace(event, position=index * len(HISTORY) + event.version)
        for index in range(20)
        for event in EventBuilder(an_image_id(f"image {index}")).recorded(IMPORT_ROAD)
    ]

    async def replica(own: Database, batch: int) -> Projection:
        projection = await in_use(own)
        for start in range(0, len(log), batch):
            await projection.apply(log[start : start + batch])
        return projection

    try:
        one, other = await asyncio.gather(replica(database, 7), replica(other_database, 11))
        assert one.generation.number == other.generation.number == 1
        assert await position_of(one, database) == log[-1].position
        rows = await one.read(contents)
        assert (len(rows["images"]), rows["parked"]) == (20, [])
        assert await one.read(lambda c, t: queries.image_by_id(c, t, log[-1].image_id)) == fold(log[-len(HISTORY) :])
    finally:
        await other_database.close()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(log=logs(), data=st.data())
async def test_tables_do_not_depend_on_how_the_log_was_cut(
    database: Database, log: list[RecordedEvent], data: st.DataObject
) -> None:
    """Live in small batches, anew in one: the same rows, which say what the domain's own fold says."""
    version = schema_version()
    live, rebuilt = [await database.write(lambda c: generations.added(c, version)) for _ in range(2)]
    start = 0
    while start < len(log):
        size = data.draw(st.integers(1, 7))
        await apply_events(database.write, live, log[start : start + size])
        start += size
    await apply_events(database.build, rebuilt, log)
    rows = await database.read(lambda c: contents(c, tables_of(live.number)))
    assert rows == await database.read(lambda c: contents(c, tables_of(rebuilt.number)))
    assert rows["parked"] == []
    for image_id in {event.image_id for event in log}:
        stored = await database.read(partial(queries.image_by_id, tables=tables_of(live.number), image_id=image_id))
        assert stored == fold(event for event in log if event.image_id == image_id)
    for generation in (live, rebuilt):
        await database.write(partial(generations.dropped, generation=generation))


async def test_an_event_that_does_not_fit_is_parked_and_the_others_go_on(database: Database) -> None:
    projection = await in_use(database)
    healthy = EventBuilder(an_image_id("healthy")).recorded(IMPORT_ROAD[:1], position=20)
    gap = [HISTORY[0], HISTORY[2]]  # the second event of the image is missing
    applied = await projection.apply([*gap, *healthy])
    assert (applied.position, applied.parked) == (20, 1)
    ((position, image, event, kind, reason, error),) = (await projection.read(contents))["parked"]
    assert (position, image, event, kind, reason) == (
        3, HISTORY[2].image_id, HISTORY[2].event.event_id, "staged", "LOG_CORRUPT",
    )  # fmt: skip
    assert "version 3 came where 2 was due" in error
    assert await projection.read(lambda c, t: queries.image_by_id(c, t, healthy[0].image_id)) is not None


async def test_an_event_that_cannot_be_read_is_parked(database: Database) -> None:
    projection = await in_use(database)
    entries: list[Entry] = [HISTORY[0], UnreadableEvent(2, "LOG_CORRUPT", "no payload"), *HISTORY[1:2]]
    entries[2] = replace(HISTORY[1], position=3)
    assert (await projection.apply(entries)).parked == 1
    assert [row[0] for row in (await projection.read(contents))["parked"]] == [2]
    image = await projection.read(lambda c, t: queries.image_by_id(c, t, HISTORY[0].image_id))
    assert image is not None
    assert image.version == 2


async def test_a_value_that_the_database_cannot_store_parks_its_event_only(database: Database) -> None:
    projection = await in_use(database)
    (event,) = EventBuilder(an_image_id("hostile")).recorded(IMPORT_ROAD[:1], position=len(HISTORY) + 1)
    hostile = [replace(event, event=replace(event.event, payload=ImageCreated(ImageAttributes(min_disk=2**70))))]
    healthy = EventBuilder(an_image_id("healthy")).recorded(IMPORT_ROAD[:1], position=len(HISTORY) + 2)
    applied = await projection.apply([*HISTORY, *hostile, *healthy])
    assert (applied.position, applied.parked) == (len(HISTORY) + 2, 1)
    assert [(row[0], row[4]) for row in (await projection.read(contents))["parked"]] == [
        (len(HISTORY) + 1, "CATALOG_VALUE")
    ]
    assert await projection.read(lambda c, t: queries.image_by_id(c, t, healthy[0].image_id)) is not None


async def test_a_hostile_value_in_a_transaction_is_an_error_of_ours(database: Database) -> None:
    await in_use(database)
    with pytest.raises(CatalogValueError):
        await database.write(lambda c: generations.move(c, 1, 2**80))


async def test_replaced_tables_are_left_alone(database: Database) -> None:
    projection = await in_use(database)
    version = schema_version()
    newer = await database.write(lambda c: generations.added(c, version))
    assert await database.write(lambda c: generations.switched(c, newer))
    with pytest.raises(ProjectionReplacedError):
        await projection.apply(HISTORY)
    assert (await projection.open()).number == newer.number
    assert (await projection.apply(HISTORY)).position == len(HISTORY)


async def test_new_tables_are_not_used_while_they_are_behind(database: Database) -> None:
    projection = await in_use(database)
    await projection.apply(HISTORY)
    version = schema_version()
    newer = await database.write(lambda c: generations.added(c, version))
    await apply_events(database.build, newer, HISTORY[:3])
    assert not await database.write(lambda c: generations.switched(c, newer))
    await apply_events(database.build, newer, HISTORY[3:])
    assert await database.write(lambda c: generations.switched(c, newer))


async def test_a_reader_finds_the_new_tables_when_the_old_ones_are_gone(database: Database) -> None:
    projection = await in_use(database)
    await projection.apply(HISTORY)
    old, version = projection.generation, schema_version()
    newer = await database.write(lambda c: generations.added(c, version))
    await apply_events(database.build, newer, HISTORY)
    await database.write(lambda c: generations.switched(c, newer))
    await database.write(lambda c: generations.dropped(c, old))
    image = await projection.read(lambda c, t: queries.image_by_id(c, t, HISTORY[0].image_id))
    assert image == fold(HISTORY)
    # From then on it uses them for writing as well.
    (created,) = EventBuilder(an_image_id("later")).recorded(IMPORT_ROAD[:1], position=7)
    assert (await projection.apply([created])).position == 7


async def test_another_schema_version_gets_tables_of_its_own(database: Database) -> None:
    projection = await in_use(database)
    await projection.apply(HISTORY)
    await database.write(lambda c: c.execute(GENERATIONS.update().values(schema_version="of another release")))
    upgraded = Projection(database)
    generation = await upgraded.open()
    assert (generation.number, generation.position, generation.is_active) == (2, 0, False)
    joined = Projection(database)  # a second replica of the new release builds the same tables
    assert (await joined.open()).number == 2


async def test_a_failing_statement_is_unavailability_and_names_no_data(database: Database) -> None:
    images = tables_of(99).images
    with pytest.raises(CatalogDatabaseError) as caught:
        await database.read(lambda c: c.execute(select(images).where(images.c.id == "secret")))
    assert caught.value.retryable
    assert "secret" not in str(caught.value)
