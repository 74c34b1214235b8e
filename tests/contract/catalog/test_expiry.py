"""The end of deletions whose time has passed: once, by any number of replicas, and never of what was restored."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import Connection

from services.catalog import expiry, filters, paging, queries
from services.catalog.database import Database
from services.catalog.expiry import Expiry
from services.catalog.projection import Projection
from services.catalog.schema import Tables, tables_of
from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.domain.access import Caller
from tintype.domain.attributes import ImageAttributes
from tintype.domain.commands import CreateImage, DeleteImage, RestoreImage
from tintype.domain.errors import EventLogUnavailableError
from tintype.domain.events import EventContext, ImageExpired, RecordedEvent
from tintype.domain.values import CommandId, ImageId, ProjectId
from tintype.runtime.journal import Asked, Journal
from tintype.testing.clock import FakeClock
from tintype.testing.events import an_image_id

DELAY = timedelta(hours=1)


class Site:
    """A log, and tables that are brought forward when the test says so."""

    def __init__(self, database: Database) -> None:
        self.log = MemoryEventLog()
        self.clock = FakeClock()
        self.journal = Journal(self.log, self.clock)
        self.projection = Projection(database)
        self.images = 0
        self._applied: list[RecordedEvent] = []

    async def do(self, image: ImageId, *commands: Asked) -> None:
        for command in commands:
            count = len(await self.journal.history(image))
            await self.journal.execute(
                image,
                command,
                project=ProjectId("red"),
                command_id=CommandId(f"{image}:{count}"),
                context=EventContext("tester", "c", "c"),
            )

    async def deleted(self) -> ImageId:
        """Another image, deleted an hour before its end."""
        self.images += 1
        image = an_image(self.images)
        await self.do(image, CreateImage(ImageAttributes()), lambda at: DeleteImage(purge_after=at + DELAY))
        return image

    async def project(self, *images: ImageId) -> None:
        events = [event for image in images for event in await self.journal.history(image)]
        await self.projection.apply(sorted(events, key=lambda event: event.position))

    async def is_expired(self, image: ImageId) -> bool:
        history = await self.journal.history(image)
        return sum(isinstance(event.payload, ImageExpired) for event in history) == 1

    def expiry(self) -> Expiry:
        return Expiry(self.journal, self.projection, self.clock, _at_once)


def an_image(number: int) -> ImageId:
    return ImageId(an_image_id(f"image {number}"))


async def _at_once() -> None:
    pass


@pytest.fixture
async def site(database: Database) -> Site:
    opened = Site(database)
    await opened.projection.open()
    await opened.projection.put_into_use()
    return opened


async def test_a_deletion_ends_when_its_time_has_passed_and_no_sooner(site: Site) -> None:
    image = await site.deleted()
    await site.project(image)
    site.clock.advance(DELAY.total_seconds() - 1)
    assert await site.expiry().round() == 0
    site.clock.advance(1)
    assert await site.expiry().round() == 1
    assert await site.is_expired(image)
    await site.project(image)
    assert await site.expiry().round() == 0  # the tables know


async def test_several_replicas_and_late_tables_end_a_deletion_once(site: Site) -> None:
    images = [await site.deleted() for _ in range(3)]
    await site.project(*images)
    site.clock.advance(DELAY.total_seconds())
    await asyncio.gather(*(site.expiry().round() for _ in range(3)))
    await site.expiry().round()
    assert [await site.is_expired(image) for image in images] == [True] * 3


async def test_more_than_a_batch_is_ended_in_one_round(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "_BATCH", 2)
    images = [await site.deleted() for _ in range(5)]  # all due at the same microsecond
    await site.project(*images)
    site.clock.advance(DELAY.total_seconds())
    assert await site.expiry().round() == 5
    assert [await site.is_expired(image) for image in images] == [True] * 5


async def test_what_was_restored_or_deleted_anew_since_the_tables_were_written_is_left_alone(site: Site) -> None:
    restored, anew, due = await site.deleted(), await site.deleted(), await site.deleted()
    await site.project(restored, anew, due)
    site.clock.advance(DELAY.total_seconds() - 1)
    await site.do(restored, RestoreImage)
    await site.do(anew, RestoreImage, lambda at: DeleteImage(purge_after=at + DELAY))
    site.clock.advance(1)
    assert await site.expiry().round() == 1
    assert [await site.is_expired(image) for image in (restored, anew, due)] == [False, False, True]


async def test_only_what_waits_is_looked_at(site: Site) -> None:
    image = await site.deleted()
    await site.project(image)
    query = queries.due_query(tables_of(site.projection.generation.number), 0, (0, ""), 100)

    def explain(connection: Connection, _: Tables) -> str:
        compiled = query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")  # which it prefers for a handful of rows
            return " ".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {compiled}"))
        return " ".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}"))

    assert f"ix_images_{site.projection.generation.number}_purge_after_id" in await site.projection.read(explain)


async def test_a_restored_image_is_found_again_by_all_that_it_is_found_by(site: Site) -> None:
    image, caller = an_image(1), Caller(ProjectId("red"), "ann")
    said = ImageAttributes(tags=("lts",), properties={"os_distro": "debian"})
    terms = filters.parsed("tag=lts AND properties.os_distro=debian")

    async def found() -> list[ImageId]:
        await site.project(image)
        page = await site.projection.read(
            lambda c, t: queries.page_of_images(c, t, caller, terms, paging.parsed_order(""), None, 10)
        )
        return [one.id for one in page.images]

    await site.do(image, CreateImage(said))
    assert await found() == [image]
    await site.do(image, lambda at: DeleteImage(purge_after=at + DELAY))
    assert await found() == []
    await site.do(image, RestoreImage)
    assert await found() == [image]


async def test_a_log_that_is_away_is_asked_again(site: Site) -> None:
    image = await site.deleted()
    await site.project(image)
    site.clock.advance(DELAY.total_seconds())
    away = [EventLogUnavailableError("away"), RuntimeError("a defect")]
    rounds = asyncio.Queue[None]()

    class Faulty(Journal):
        async def execute(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            if away:
                raise away.pop(0)
            return await super().execute(*args, **kwargs)

    async def slept(_: float) -> None:
        await rounds.put(None)
        await asyncio.sleep(0)

    looking = Expiry(Faulty(site.log, site.clock), site.projection, site.clock, _at_once, sleep=slept)
    async with asyncio.timeout(20):
        task = asyncio.create_task(looking.run())
        for _ in range(3):
            await rounds.get()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await site.is_expired(image)
