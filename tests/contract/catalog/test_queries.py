"""Lists: what is seen, in which order, page by page; and that an index is walked for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from sqlalchemy.dialects import sqlite

from services.catalog import filters, paging, queries
from services.catalog.database import Database
from services.catalog.projection import Projection
from services.catalog.rows import image_row
from services.catalog.schema import Tables
from tests.contract.catalog.histories import logs
from tintype.codec.images import encode_image
from tintype.domain.access import Caller
from tintype.domain.attributes import ImageAttributes
from tintype.domain.events import (
    ConversionSkipped,
    Event,
    EventContext,
    ImageCreated,
    ImageDeleted,
    ImagePublished,
    ImageStaged,
    NewEvent,
    RecordedEvent,
    SkipReason,
    StagePurpose,
)
from tintype.domain.evolve import fold
from tintype.domain.image import Image
from tintype.domain.values import CommandId, ContainerFormat, DiskFormat, Fact, ImageId, ProjectId, Visibility
from tintype.testing.clock import START
from tintype.testing.events import IMPORT_ROAD, OPERATION, STAGED_BLOB, EventBuilder, an_id, an_image_id

RED, BLUE = Caller(ProjectId("red"), "r"), Caller(ProjectId("blue"), "b")
ADMIN = Caller(ProjectId("red"), "a", is_admin=True)


def created(number: int, project: ProjectId, attributes: ImageAttributes, at_s: int | None = None) -> RecordedEvent:
    event = NewEvent(
        image_id=ImageId(an_id(f"image {number}")),
        project=project,
        command_id=CommandId(f"c{number}"),
        event_id=an_id(f"e{number}"),
        time=START + timedelta(seconds=number if at_s is None else at_s),
        payload=ImageCreated(attributes),
        context=EventContext("a", "c", "c"),
    )
    return RecordedEvent(event, 1, number, "", "")


async def projected(database: Database, events: Iterable[RecordedEvent]) -> Projection:
    projection = Projection(database)
    await projection.open()
    await projection.put_into_use()
    await projection.apply(list(events))
    return projection


async def pages(
    projection: Projection, caller: Caller, filter_: str = "", order_by: str = "created_at", size: int = 3
) -> list[list[str]]:
    """The names on each page, page after page."""
    terms, order = filters.parsed(filter_), paging.parsed_order(order_by)
    after: paging.Key | None = None
    result: list[list[str]] = []
    while True:
        page = await projection.read(
            lambda c, t, key=after: queries.page_of_images(c, t, caller, terms, order, key, size)  # type: ignore[misc]
        )
        result.append([image.attributes.name for image in page.images])
        if page.next_key is None:
            return result
        after = page.next_key


async def names(projection: Projection, caller: Caller, filter_: str = "", order_by: str = "created_at") -> list[str]:
    return (await pages(projection, caller, filter_, order_by, size=1000))[0]


def a(name: str, visibility: Visibility = Visibility.PRIVATE, **more: object) -> ImageAttributes:
    return replace(ImageAttributes(name=name, visibility=visibility), **more)  # type: ignore[arg-type]


@pytest.fixture
async def mixed(database: Database) -> Projection:
    """Images of two projects, of every visibility."""
    red, blue = RED.project, BLUE.project
    active = EventBuilder(an_image_id("active"), project=red).recorded(
        [
            ImageCreated(a("active", disk_format=DiskFormat.QCOW2, container_format=ContainerFormat.BARE)),
            *IMPORT_ROAD[1:],
        ],
        position=100,
    )
    gone = EventBuilder(an_image_id("gone"), project=red).recorded(
        [ImageCreated(a("gone")), ImageDeleted()], position=200
    )
    return await projected(
        database,
        [
            created(1, red, a("r-private", tags=("lts", "x"), properties={"os_distro": "debian", "hw_cpu_cores": 4})),
            created(2, red, a("r-shared", Visibility.SHARED, min_disk=10, properties={"note": "n" * 500})),
            created(3, red, a("r-community", Visibility.COMMUNITY, protected=True)),
            created(4, red, a("r-public", Visibility.PUBLIC, properties={"hw_qemu_guest_agent": True})),
            created(5, red, a("r-hidden", hidden=True)),
            created(6, blue, a("b-private")),
            created(7, blue, a("b-community", Visibility.COMMUNITY)),
            created(8, blue, a("b-public", Visibility.PUBLIC, tags=("lts",))),
            created(9, blue, a("b-hidden", Visibility.PUBLIC, hidden=True)),
            *active,
            *gone,
        ],
    )


OWN = ["r-private", "r-shared", "r-community", "r-public"]


async def test_a_project_sees_its_own_and_what_is_public(mixed: Projection) -> None:
    assert sorted(await names(mixed, RED)) == sorted([*OWN, "b-public", "active"])
    assert sorted(await names(mixed, BLUE)) == ["b-community", "b-private", "b-public", "r-public"]


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        ("visibility=community", ["r-community", "b-community"]),
        ("hidden=true", ["r-hidden", "b-hidden"]),
        ("owner=blue", ["b-public"]),
        ("owner=blue AND visibility=community", ["b-community"]),
        ("name=r-shared", ["r-shared"]),
        ("name!=r-shared AND owner=red AND status=queued", ["r-private", "r-community", "r-public"]),
        ("status=active", ["active"]),
        ("status=deleted", []),
        ("tag=lts", ["r-private", "b-public"]),
        ("tag=lts AND tag=x", ["r-private"]),
        ("tag!=lts AND owner=red AND status!=active", ["r-shared", "r-community", "r-public"]),
        ("properties.os_distro=debian", ["r-private"]),
        ("properties.hw_cpu_cores=4", ["r-private"]),
        ("properties.hw_qemu_guest_agent=yes", ["r-public"]),
        (f"properties.note={'n' * 500}", ["r-shared"]),
        (f"properties.note={'n' * 499}", []),
        ("properties.os_distro!=debian AND owner=blue", ["b-public"]),
        ("protected=true", ["r-community"]),
        ("min_disk>=10", ["r-shared"]),
        ("size>0", ["active"]),
        ("disk_format=raw", ["active"]),
        ("disk_format!=raw AND owner=blue", ["b-public"]),
        ("created_at<2026-01-02T03:04:07Z AND status=queued", ["r-private"]),
        ('name="\' OR 1=1 --"', []),
    ],
)
async def test_filters_select(mixed: Projection, filter_: str, expected: list[str]) -> None:
    assert sorted(await names(mixed, RED, filter_)) == sorted(expected)


async def test_an_administrator_sees_everything_that_is_not_deleted(mixed: Projection) -> None:
    assert len(await names(mixed, ADMIN)) == 8
    assert "gone" not in await names(mixed, ADMIN)


ORDERS = [
    "",
    "created_at",
    "name",
    "name desc",
    "size desc,name",
    "disk_format,created_at desc",
    "min_disk,id desc",
    "id",
]


@pytest.mark.parametrize("order_by", ORDERS)
async def test_pages_hold_every_image_once_and_in_order(database: Database, order_by: str) -> None:
    events = [
        created(
            number,
            RED.project if number % 3 else BLUE.project,
            a(
                f"n{number % 5}",
                Visibility.PUBLIC if number % 2 else Visibility.PRIVATE,
                min_disk=number % 4,
                disk_format=[None, DiskFormat.RAW, DiskFormat.QCOW2][number % 3],
            ),
            at_s=number % 7,
        )
        for number in range(1, 41)
    ]
    projection = await projected(database, events)
    order = paging.parsed_order(order_by)
    whole = await names(projection, RED, order_by=order_by)
    assert len(whole) == 34
    paged = await pages(projection, RED, order_by=order_by, size=4)
    assert [len(page) for page in paged] == [4] * 8 + [2]
    assert [name for page in paged for name in page] == whole
    page = await projection.read(lambda c, t: queries.page_of_images(c, t, RED, (), order, None, 1000))
    assert list(page.images) == _sorted(page.images, order)


def _sorted(images: Iterable[Image], order: Iterable[paging.OrderBy]) -> list[Image]:
    def key(image: Image, field: str) -> Any:
        if field == "size":
            return image.data.blob.size if image.data else -1
        if field in ("id", "created_at"):
            return getattr(image, field)
        value = getattr(image.attributes, field)
        return value if value is not None else ""

    result = list(images)
    for column in reversed(list(order)):
        result.sort(key=lambda image, c=column: key(image, c.field), reverse=column.is_descending)  # type: ignore[misc]
    return result


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("caller", "order_by"),
    [(RED, ""), (RED, "created_at"), (RED, "name"), (RED, "name desc"), (ADMIN, ""), (ADMIN, "created_at")],
)
@pytest.mark.parametrize("is_first_page", [True, False])
async def test_a_page_walks_an_index_and_sorts_no_table(
    mixed: Projection, order_by: str, caller: Caller, is_first_page: bool
) -> None:
    order = paging.parsed_order(order_by)
    after = None if is_first_page else tuple(5 if paging.SORTABLE[c.field] is int else "m" for c in order)

    def explain(connection: object, tables: Tables) -> list[str]:
        query = queries.list_query(tables, caller, (), order, after, 101)
        compiled = query.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")  # type: ignore[attr-defined]
        return [row[3] for row in plan]

    plan = await mixed.read(explain)
    steps = [step for step in plan if "images_" in step]
    assert steps
    assert all("USING INDEX ix_images_" in step for step in steps), plan
    # What is sorted are the pages of the halves, merged into one; never what an index has found.
    assert not any("TEMP B-TREE" in then for step, then in pairwise(plan) if "images_" in step), plan
    if not is_first_page:
        assert all(("created_at" in step or "name" in step) and ("<" in step or ">" in step) for step in steps), plan


FULL = ImageAttributes(
    properties={f"k{number}": "v" for number in range(128)} | {"hw_cpu_cores": 4},
    overrides={f"o{number}": "\u20ac" * 900 if number % 2 else number for number in range(128)},
)
MANY_FACTS = {f"partition_{number}_label": Fact("\u20ac" * 255, "the table" * 20) for number in range(256)}


def road_with_facts() -> tuple[Event, ...]:
    """An import that leaves as many and as long facts as there can be."""
    requested, verified = IMPORT_ROAD[1], IMPORT_ROAD[3]
    staged = ImageStaged(OPERATION, StagePurpose.IMPORT, replace(STAGED_BLOB, facts=MANY_FACTS))
    skipped = ConversionSkipped(OPERATION, SkipReason.DISABLED, MANY_FACTS)
    shown = ImagePublished(OPERATION, replace(STAGED_BLOB, facts=MANY_FACTS), (STAGED_BLOB.ref,))
    return (ImageCreated(FULL), requested, staged, verified, skipped, shown)


@pytest.mark.parametrize("length", range(1, 7))
@pytest.mark.parametrize("road", [IMPORT_ROAD, road_with_facts()])
def test_a_message_is_no_larger_than_its_bound(road: tuple[Event, ...], length: int) -> None:
    image = fold(EventBuilder().recorded(road[:length]))
    assert image is not None
    assert encode_image(image).ByteSize() < queries.message_bound(image_row(image)["state"], image)


@given(logs())
def test_no_image_is_larger_than_the_bound_of_its_message(log: list[RecordedEvent]) -> None:
    for image_id in {event.image_id for event in log}:
        image = fold(event for event in log if event.image_id == image_id)
        assert image is not None
        assert encode_image(image).ByteSize() < queries.message_bound(image_row(image)["state"], image)


async def test_the_largest_images_come_in_pages_that_a_client_takes(database: Database) -> None:
    events = []
    for number in range(6):
        builder = EventBuilder(an_image_id(f"large {number}"), project=RED.project)
        events += builder.recorded(road_with_facts(), position=1 + 6 * number)
    projection = await projected(database, events)
    found = await pages(projection, RED, size=1000)
    assert sum(map(len, found)) == 6
    assert len(found) > 1


async def test_a_page_ends_where_a_message_is_full(database: Database) -> None:
    long = {f"key{number}": "\u20ac" * 10_000 for number in range(12)}
    events = [created(number, RED.project, a(f"n{number:02}", properties=long), number) for number in range(1, 41)]
    projection = await projected(database, events)
    found = await pages(projection, RED, size=100)
    assert [name for page in found for name in page] == [f"n{number:02}" for number in range(1, 41)]
    assert len(found) > 1
    terms, order = filters.parsed(""), paging.parsed_order("created_at")
    page = await projection.read(lambda c, t: queries.page_of_images(c, t, RED, terms, order, None, 100))
    assert sum(encode_image(image).ByteSize() for image in page.images) < paging.MAX_PAGE_BYTES
