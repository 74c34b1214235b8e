"""Rebuilding beside: given up it leaves no trace, and there is one at a time."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest
from sqlalchemy import inspect

from services.catalog import generations, queries, rebuild
from services.catalog.database import Database
from services.catalog.projection import Projection, apply_events
from services.catalog.rebuild import Rebuild
from services.catalog.schema import schema_version
from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.domain.errors import RebuildBusyError
from tintype.testing.events import IMPORT_ROAD, EventBuilder, an_image_id


@pytest.fixture
async def log(monkeypatch: pytest.MonkeyPatch) -> MemoryEventLog:
    """Six events, which are read two at a time."""
    monkeypatch.setattr(rebuild, "BATCH", 2)
    made, builder, last = MemoryEventLog(), EventBuilder(), None
    for payload in IMPORT_ROAD:
        last = await made.append(builder.new(payload), after=last)
    return made


async def in_use(database: Database) -> Projection:
    projection = Projection(database)
    await projection.open()
    await projection.put_into_use()
    return projection


async def tables(database: Database) -> set[str]:
    return {name for name in await database.read(lambda c: inspect(c).get_table_names()) if name.startswith("images_")}


async def test_a_rebuild_tells_how_far_it_is_and_drops_what_was_before(database: Database, log: MemoryEventLog) -> None:
    projection = await in_use(database)
    steps = [step async for step in Rebuild(log, database).run()]
    assert [(step.position, step.head, step.is_switched) for step in steps] == [
        (2, 7, False),
        (4, 7, False),
        (6, 7, False),
        (7, 7, True),
    ]
    assert await tables(database) == {"images_2"}
    assert (await projection.open()).number == 2


async def test_a_rebuild_that_is_given_up_leaves_no_trace(database: Database, log: MemoryEventLog) -> None:
    projection = await in_use(database)
    work = Rebuild(log, database)
    async with aclosing(work.run()) as steps:
        assert not (await anext(steps)).is_switched
        assert await tables(database) == {"images_1", "images_2"}
    assert await tables(database) == {"images_1"}
    assert (await projection.open()).number == 1
    assert [step async for step in work.run()][-1].is_switched


async def test_there_is_one_rebuild_at_a_time(database: Database, log: MemoryEventLog) -> None:
    await in_use(database)
    work = Rebuild(log, database)
    async with aclosing(work.run()) as first:
        await anext(first)
        with pytest.raises(RebuildBusyError):
            await anext(work.run())
        assert [step async for step in first][-1].is_switched


async def test_a_rebuild_of_another_replica_takes_over(database: Database, log: MemoryEventLog) -> None:
    await in_use(database)
    async with aclosing(Rebuild(log, database).run()) as overtaken:
        await anext(overtaken)
        async with aclosing(Rebuild(log, database).run()) as other:
            await anext(other)
            with pytest.raises(RebuildBusyError):  # its tables were dropped, although tables of that number exist
                await anext(overtaken)
            assert [step async for step in other][-1].is_switched
    assert await tables(database) == {"images_2"}


async def test_a_rebuild_that_another_replica_overtakes_leaves_that_ones_tables(
    database: Database, log: MemoryEventLog
) -> None:
    projection = await in_use(database)
    async with aclosing(Rebuild(log, database).run()) as steps:
        while not (await anext(steps)).is_switched:
            pass
        assert [step async for step in Rebuild(log, database).run()][-1].is_switched
        assert [step async for step in steps] == []
    assert await tables(database) == {"images_3"}
    assert (await projection.open()).is_active


async def test_a_rebuild_whose_tables_are_dropped_before_they_are_counted_says_so(
    database: Database, log: MemoryEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_use(database)
    async with aclosing(Rebuild(log, database).run()) as steps:
        await anext(steps)
        (building,) = [g for g in await database.read(generations.listed) if not g.is_active]

        async def apply_and_lose(*arguments: Any) -> Any:
            done = await apply_events(*arguments)
            await database.build(lambda c: generations.dropped(c, building))
            return done

        monkeypatch.setattr(rebuild, "apply_events", apply_and_lose)
        with pytest.raises(RebuildBusyError):
            await anext(steps)


async def test_what_a_killed_rebuild_left_behind_is_dropped_by_the_next(
    database: Database, log: MemoryEventLog
) -> None:
    await in_use(database)
    version = schema_version()
    await database.write(lambda c: generations.added(c, version))
    assert await tables(database) == {"images_1", "images_2"}
    assert [step async for step in Rebuild(log, database).run()][-1].is_switched
    assert len(await tables(database)) == 1


async def test_a_damaged_image_does_not_stop_a_rebuild(database: Database, log: MemoryEventLog) -> None:
    projection = await in_use(database)
    log._events[1:3] = []  # two events are lost
    assert [step async for step in Rebuild(log, database).run()][-1].images == 1
    image = await projection.read(lambda c, t: queries.image_by_id(c, t, an_image_id()))
    assert image is not None
    assert image.version == 1
