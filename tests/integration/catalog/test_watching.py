"""Watching images over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from services.catalog.projection import Projection
from services.catalog.watching import Watch, Watching
from services.catalog.watermark import Watermark
from tests.integration.catalog.conftest import DEADLINE_S, Catalog, as_project, refused
from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.types.v1 import types_pb2
from tintype.domain.access import Caller
from tintype.domain.events import Progress, RecordedEvent, Step
from tintype.domain.values import ImageId, OperationId, ProjectId
from tintype.ports.event_log import Selection
from tintype.testing.events import OPERATION, PROJECT, EventBuilder

ANY = Selection()

PUBLIC, PRIVATE = types_pb2.VISIBILITY_PUBLIC, types_pb2.VISIBILITY_PRIVATE


@asynccontextmanager
async def watching(catalog: Catalog, project: str = "default", **request: Any) -> AsyncIterator[Any]:
    call = catalog.images.WatchImages(
        pb.WatchImagesRequest(**request), metadata=as_project(project), timeout=DEADLINE_S
    )
    await call.initial_metadata()
    yield call
    call.cancel()


async def names(call: Any, count: int) -> list[str]:
    """The names of the next images that are created."""
    return [(await call.read()).event.created.attributes.name for _ in range(count)]


async def test_a_watch_begins_now_unless_told_otherwise(catalog: Catalog) -> None:
    first = await catalog.create("first")
    async with watching(catalog) as now, watching(catalog, after_position=0) as always:
        await catalog.create("second")
        assert await names(now, 1) == ["second"]
        assert await names(always, 2) == ["first", "second"]
    async with watching(catalog, after_position=first.position) as resumed:
        assert await names(resumed, 1) == ["second"]


async def test_one_image_is_watched(catalog: Catalog) -> None:
    image = await catalog.create("mine")
    async with watching(catalog, image_id=image.id, after_position=0) as watch:
        await catalog.create("other")
        await catalog.images.UpdateImage(pb.UpdateImageRequest(image=pb.Image(id=image.id, name="renamed")))
        assert [(await watch.read()).event.version for _ in range(2)] == [1, 2]


async def test_others_hear_of_what_they_may_see(catalog: Catalog) -> None:
    async with watching(catalog, "other") as watch:
        secret = await catalog.create("secret", visibility=PRIVATE)
        shown = await catalog.create("shown", visibility=PUBLIC)
        assert await names(watch, 1) == ["shown"]
        hide = pb.Image(id=shown.id, visibility=PRIVATE)
        await catalog.images.UpdateImage(pb.UpdateImageRequest(image=hide))
        await catalog.images.UpdateImage(pb.UpdateImageRequest(image=pb.Image(id=shown.id, name="now secret")))
        await catalog.create("end", visibility=PUBLIC)
        assert await names(watch, 1) == ["end"]
    # Who comes later does not hear of the time when it was public.
    async with watching(catalog, "other", after_position=0) as later:
        assert await names(later, 1) == ["end"]
    assert secret.visibility == PRIVATE


async def test_progress_is_heard_by_the_project_whose_import_it_is(catalog: Catalog) -> None:
    image = await catalog.create("mine", visibility=PUBLIC)
    told = Progress(ImageId(image.id), ProjectId("default"), OPERATION, Step.STAGE, 1, None, catalog.clock.now())
    foreign = Progress(ImageId(image.id), ProjectId("other"), OPERATION, Step.STAGE, 2, None, catalog.clock.now())
    async with watching(catalog) as watch:
        marker = await catalog.create("begin")
        assert await names(watch, 1) == ["begin"]  # from here on the watch listens
        await catalog.log.tell_progress(foreign)
        await catalog.log.tell_progress(told)
        heard = (await watch.read()).progress
        assert (heard.done, heard.HasField("total"), OperationId(heard.operation_id)) == (1, False, OPERATION)
    assert marker.position > image.position


async def test_a_watch_that_cannot_be_is_refused(catalog: Catalog) -> None:
    image = await catalog.create("secret", visibility=PRIVATE)
    for request, project, reason in (
        (pb.WatchImagesRequest(image_id=image.id), "other", "IMAGE_NOT_FOUND"),
        (pb.WatchImagesRequest(image_id="x"), "default", "INVALID_IDENTIFIER"),
        (pb.WatchImagesRequest(after_position=-1), "default", "INVALID_ARGUMENT"),
    ):
        call = catalog.images.WatchImages(request, metadata=as_project(project), timeout=DEADLINE_S)
        assert (await refused(call.read())).reason == reason


async def test_a_client_that_leaves_ends_its_watch(catalog: Catalog) -> None:
    log: Any = catalog.log
    before = len(log._listeners)
    async with watching(catalog) as watch:
        await catalog.create("one")
        assert await names(watch, 1) == ["one"]
        assert len(log._listeners) == before + 1
    while len(log._listeners) > before:  # the suite's own timeout is the only deadline
        await catalog.create("another")


@pytest.mark.parametrize("count", [600])
async def test_a_slow_reader_misses_no_event(catalog: Catalog, count: int) -> None:
    async with watching(catalog) as watch:
        for number in range(count):
            await catalog.create(f"n{number}")
        assert await names(watch, count) == [f"n{number}" for number in range(count)]


async def test_a_client_that_never_reads_makes_the_catalog_hold_a_few_events_only() -> None:
    taken = 0

    class CountingLog(MemoryEventLog):
        async def follow(self, *, after: int, selection: Selection = ANY) -> AsyncIterator[RecordedEvent]:
            nonlocal taken
            async for event in super().follow(after=after, selection=selection):
                taken += 1
                yield event

    log, builder = CountingLog(), EventBuilder()
    newest: RecordedEvent | None = None
    for _ in range(100):
        newest = await log.append(builder.new(), after=newest)
    reads_no_more = asyncio.Event()

    async def send(change: object) -> None:
        await reads_no_more.wait()

    admin = Caller(PROJECT, "ann", is_admin=True)
    watching = Watching(log, cast("Projection", None), cast("Watermark", None))  # an admin sees all, unasked
    task = asyncio.create_task(watching.run(Watch(admin, 0), send))
    for _ in range(1000):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert 1 < taken < 20
