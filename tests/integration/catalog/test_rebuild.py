"""Rebuilding the tables, and starting on tables that are old, new or somebody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import pytest
from sqlalchemy import Connection, create_engine, inspect, select, update

from services.catalog.schema import GENERATIONS, tables_of
from services.catalog.settings import CatalogSection
from tests.integration.catalog.conftest import ADMIN, Catalog, refused, running, until_ready
from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.domain.errors import LogCorruptError, ProjectionLagError
from tintype.domain.events import RecordedEvent
from tintype.ports.event_log import Selection
from tintype.testing.clock import FakeClock


async def rebuild(catalog: Catalog) -> list[pb.RebuildProjectionResponse]:
    return [step async for step in catalog.admin.RebuildProjection(pb.RebuildProjectionRequest(), metadata=ADMIN)]


def rows(connection: Connection, generation: int) -> dict[str, list[tuple[Any, ...]]]:
    tables = tables_of(generation).metadata.sorted_tables
    return {
        table.name.rpartition("_")[0]: sorted(tuple(row) for row in connection.execute(select(table)))
        for table in tables
    }


def stored(catalog_settings: CatalogSection, generation: int) -> dict[str, list[tuple[Any, ...]]]:
    engine = create_engine(catalog_settings.database)
    try:
        with engine.connect() as connection:
            return rows(connection, generation)
    finally:
        engine.dispose()


async def test_rebuilt_tables_equal_the_live_ones(catalog: Catalog, catalog_settings: CatalogSection) -> None:
    for number in range(20):
        image = await catalog.create(f"n{number}", tags=["x"])
        if number % 3 == 0:
            await catalog.start_import(image.id)
        if number % 4 == 0:
            image = await catalog.images.DeleteImage(pb.DeleteImageRequest(image_id=image.id))
    listing = pb.ListImagesRequest(min_position=await catalog.log.head())
    before = await catalog.images.ListImages(listing)
    live = stored(catalog_settings, 1)
    steps = await rebuild(catalog)
    assert (steps[-1].position, steps[-1].head, steps[-1].images, steps[-1].switched) == (32, 32, 20, True)
    assert stored(catalog_settings, 2) == live
    assert await catalog.images.ListImages(listing) == before
    engine = create_engine(catalog_settings.database)
    assert not [name for name in inspect(engine).get_table_names() if name.endswith("_1")]
    engine.dispose()


async def test_the_catalog_goes_on_after_a_rebuild(catalog: Catalog) -> None:
    assert (await rebuild(catalog))[-1].switched  # of an empty log
    image = await catalog.create("after")
    assert (await catalog.images.GetImage(pb.GetImageRequest(image_id=image.id, min_position=image.position))) == image
    assert (await rebuild(catalog))[-1].images == 1
    image = await catalog.create("after that")
    assert (await catalog.images.GetImage(pb.GetImageRequest(image_id=image.id, min_position=image.position))) == image


async def test_commands_go_on_during_rebuilds(catalog: Catalog) -> None:
    async def create(number: int) -> None:
        image = await catalog.create(f"n{number}")
        read = await catalog.images.GetImage(pb.GetImageRequest(image_id=image.id, min_position=image.position))
        assert read == image

    async def creations() -> None:
        for number in range(60):
            await create(number)

    async with asyncio.TaskGroup() as tasks:
        creating = tasks.create_task(creations())
        while not creating.done():
            assert (await rebuild(catalog))[-1].switched
    listed = await catalog.images.ListImages(pb.ListImagesRequest(page_size=1000, min_position=60))
    assert len(listed.images) == 60


async def test_only_an_administrator_rebuilds(catalog: Catalog) -> None:
    call = catalog.admin.RebuildProjection(pb.RebuildProjectionRequest())
    refusal = await refused(call.read())
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED")


async def test_a_restart_goes_on_where_the_tables_are(catalog_settings: CatalogSection) -> None:
    log, clock = MemoryEventLog(), FakeClock()
    async with running(catalog_settings, log, clock) as first:
        await until_ready(first)
        before = await first.create("before")
        await first.images.GetImage(pb.GetImageRequest(image_id=before.id, min_position=before.position))
    async with running(catalog_settings, log, clock) as second:
        await until_ready(second)
        assert await second.images.GetImage(pb.GetImageRequest(image_id=before.id)) == before
    assert len(stored(catalog_settings, 1)["images"]) == 1


async def test_tables_of_another_release_are_built_anew_beside(catalog_settings: CatalogSection) -> None:
    log, clock = MemoryEventLog(), FakeClock()
    async with running(catalog_settings, log, clock) as old:
        await until_ready(old)
        image = await old.create("kept")
        await old.images.GetImage(pb.GetImageRequest(image_id=image.id, min_position=image.position))
    engine = create_engine(catalog_settings.database)
    with engine.begin() as connection:
        connection.execute(update(GENERATIONS).values(schema_version="of another release"))
    engine.dispose()
    async with running(catalog_settings, log, clock) as upgraded:
        await until_ready(upgraded)
        assert await upgraded.images.GetImage(pb.GetImageRequest(image_id=image.id)) == image
        assert stored(catalog_settings, 2)["images"] == stored(catalog_settings, 1)["images"]


class DamagedLog(MemoryEventLog):
    """The second event cannot be decoded."""

    async def follow(
        self,
        *,
        after: int,
        selection: Selection = Selection(),  # noqa: B008  # immutable
    ) -> AsyncGenerator[RecordedEvent, None]:
        async for event in super().follow(after=after, selection=selection):
            if event.position == 2:
                error = LogCorruptError("the event at position 2 cannot be decoded")
                error.position = 2
                raise error
            yield event


async def test_an_event_that_cannot_be_decoded_is_parked_and_stops_nothing(catalog_settings: CatalogSection) -> None:
    async with running(catalog_settings, DamagedLog(), FakeClock()) as catalog:
        await until_ready(catalog)
        await catalog.create("first")
        await catalog.create("unreadable")
        last = await catalog.create("third")
        listed = await catalog.images.ListImages(pb.ListImagesRequest(min_position=last.position, order_by="name"))
        assert [image.name for image in listed.images] == ["first", "third"]
        assert [row[0] for row in stored(catalog_settings, 1)["parked_events"]] == [2]
        assert (await rebuild(catalog))[-1].images == 2
        assert [row[0] for row in stored(catalog_settings, 2)["parked_events"]] == [2]


class SlowLog(MemoryEventLog):
    """Hands out nothing until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.released = asyncio.Event()

    async def follow(
        self,
        *,
        after: int,
        selection: Selection = Selection(),  # noqa: B008  # immutable
    ) -> AsyncGenerator[RecordedEvent, None]:
        await self.released.wait()
        async for event in super().follow(after=after, selection=selection):
            yield event


async def test_nothing_is_read_before_the_tables_are_caught_up(catalog_settings: CatalogSection) -> None:
    log = SlowLog()
    log.released.set()
    elsewhere = CatalogSection(data_dir=catalog_settings.data_dir / "elsewhere")
    async with running(elsewhere, log, FakeClock()) as other:
        await other.create("one")
    log.released.clear()
    async with running(catalog_settings, log, FakeClock()) as catalog:
        with pytest.raises(ProjectionLagError):
            await catalog.check()
        refusal = await refused(catalog.images.ListImages(pb.ListImagesRequest()))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "PROJECTION_LAG")
        log.released.set()
        await until_ready(catalog)
        assert len((await catalog.images.ListImages(pb.ListImagesRequest())).images) == 1
