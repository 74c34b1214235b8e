"""The SDK reads the log of a real nats-server: in order, from any position, through a restart; and proves it whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from tests.backends.shared_servers import RunningNats
from tests.contract.event_logs import NatsHarness
from tintype.adapters.nats.connection import NatsConnection, NatsSettings
from tintype.adapters.nats.server import NatsServer
from tintype.adapters.nats.store_states import NatsStoreStateLog
from tintype.adapters.nats.stream import ensure_stream
from tintype.client import (
    Client,
    ClientConfig,
    ConfigurationError,
    ImageEvent,
    InvalidRequestError,
    ServiceDefectError,
    ServiceUnavailableError,
    StoreChange,
    StoreMode,
)
from tintype.client.client import connect
from tintype.codec import cloudevents
from tintype.codec.subjects import STORE_STREAM
from tintype.domain.events import ImagePublished, RecordedEvent
from tintype.domain.values import ProjectId
from tintype.ports.image_store import StoreState
from tintype.ports.store_states import StoreStateChanged
from tintype.testing.events import CREATED, IMPORT_ROAD, EventBuilder, an_image_id

pytestmark = pytest.mark.nats


@pytest_asyncio.fixture
async def harness(nats_server: RunningNats) -> AsyncIterator[NatsHarness]:
    async with AsyncExitStack() as stack:
        yield await NatsHarness.make(nats_server.url, stack)


@pytest_asyncio.fixture
async def client(nats_server: RunningNats) -> AsyncIterator[Client]:
    async with connect(ClientConfig(catalog="127.0.0.1:1", nats=nats_server.url, project="demo")) as client:
        yield client


async def import_image(harness: NatsHarness, name: str = "image", project: str = "demo") -> list[RecordedEvent]:
    log = await harness.open()
    builder = EventBuilder(an_image_id(name), ProjectId(project))
    recorded: list[RecordedEvent] = []
    for payload in IMPORT_ROAD:
        recorded.append(await log.append(builder.new(payload), after=recorded[-1] if recorded else None))
    return recorded


async def take(events: AsyncIterator[ImageEvent], count: int) -> list[ImageEvent]:
    found: list[ImageEvent] = []
    async with asyncio.timeout(30):
        async for event in events:
            found.append(event)
            if len(found) == count:
                break
    return found


def positions(events: Sequence[ImageEvent | RecordedEvent]) -> list[int]:
    return [event.position for event in events]


async def test_a_subscriber_sees_what_was_recorded(client: Client, harness: NatsHarness) -> None:
    recorded = await import_image(harness)

    async with aclosing(client.events.subscribe(after=0)) as events:
        assert await take(events, len(recorded)) == [ImageEvent.of(event) for event in recorded]


async def test_a_subscriber_goes_on_behind_a_position(client: Client, harness: NatsHarness) -> None:
    recorded = await import_image(harness)

    async with aclosing(client.events.subscribe(after=recorded[2].position)) as events:
        assert positions(await take(events, len(recorded) - 3)) == positions(recorded[3:])


async def test_a_subscriber_from_now_on_sees_only_what_comes(client: Client, harness: NatsHarness) -> None:
    await import_image(harness, "old")
    async with aclosing(client.events.subscribe()) as events, asyncio.TaskGroup() as group:
        first = group.create_task(take(events, 1))
        log = await harness.open()
        builder = EventBuilder(an_image_id("new"))
        appended: list[RecordedEvent] = []
        while not first.done():
            appended.append(await log.append(builder.new(), after=appended[-1] if appended else None))
            await asyncio.sleep(0.02)

    assert first.result()[0].image_id == an_image_id("new")


async def test_a_subscriber_chooses_project_image_and_type(client: Client, harness: NatsHarness) -> None:
    await import_image(harness, "other project", "elsewhere")
    await import_image(harness, "other image")
    wanted = await import_image(harness, "wanted")

    async with aclosing(
        client.events.subscribe(after=0, image_id=an_image_id("wanted"), types=[ImagePublished, "created"])
    ) as events:
        assert positions(await take(events, 2)) == positions([wanted[0], wanted[-1]])
    async with aclosing(client.events.subscribe(after=0, project="*", types=["created"])) as events:
        assert [event.project for event in await take(events, 3)] == ["elsewhere", "demo", "demo"]


async def test_a_restart_of_the_server_is_no_gap(own_nats_server: NatsServer) -> None:
    config = ClientConfig(catalog="127.0.0.1:1", nats=own_nats_server.url, project="demo")
    async with AsyncExitStack() as stack, connect(config) as client:
        harness = await NatsHarness.make(own_nats_server.url, stack)
        before = await import_image(harness, "before")
        events = await stack.enter_async_context(aclosing(client.events.subscribe(after=0)))
        seen = await take(events, len(before))
        await own_nats_server.kill()
        await own_nats_server.start()
        after = await import_image(harness, "after")
        seen += await take(events, len(after))

    assert positions(seen) == positions([*before, *after])


@pytest.mark.parametrize("wrong", [{"types": ["melted"]}, {"project": "a.>"}, {"image_id": "*"}])
async def test_a_filter_cannot_be_widened(client: Client, harness: NatsHarness, wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidRequestError):
        await anext(client.events.subscribe(after=0, **wrong))


async def test_a_foreign_message_is_an_error(client: Client, harness: NatsHarness) -> None:
    connection = await harness.connect()
    await connection.request(f"tintype.v1.demo.image.{an_image_id()}.created", b"nonsense")

    with pytest.raises(ServiceDefectError, match="position 1"):
        await take(client.events.subscribe(after=0), 1)


async def test_a_whole_log_has_no_faults(client: Client, harness: NatsHarness) -> None:
    await import_image(harness, "one")
    await import_image(harness, "two", "elsewhere")
    told: list[tuple[int, int | None]] = []

    found = await client.events.check_log(on_progress=lambda done, total: told.append((done, total)))
    count = 2 * len(IMPORT_ROAD)

    assert (found.events, found.images, found.head, found.faults) == (count, 2, count, ())
    assert told[-1] == (count, count)


async def test_an_empty_log_has_no_faults(client: Client, harness: NatsHarness) -> None:
    found = await client.events.check_log()

    assert (found.events, found.faults) == (0, ())


@pytest.mark.parametrize(
    ("version", "previous_hash", "complaint"),
    [(3, "real", "version 3 follows version 1"), (2, "ab" * 32, "the hash of the event before it")],
)
async def test_a_broken_chain_is_found(
    client: Client, harness: NatsHarness, version: int, previous_hash: str, complaint: str
) -> None:
    builder = EventBuilder()
    first = await (await harness.open()).append(builder.new(CREATED), after=None)
    hash_before = first.hash if previous_hash == "real" else previous_hash
    forged = cloudevents.encode(builder.new(IMPORT_ROAD[1]), version=version, previous_hash=hash_before)
    await (await harness.connect()).request(forged.subject, forged.payload, headers=forged.headers)

    found = await client.events.check_log()

    assert [(fault.image_id, fault.position) for fault in found.faults] == [(an_image_id(), 2)]
    assert complaint in found.faults[0].message


async def test_no_server_is_unavailable() -> None:
    config = ClientConfig(catalog="127.0.0.1:1", nats="nats://127.0.0.1:1", project="demo")
    async with connect(config) as client:
        with pytest.raises(ServiceUnavailableError) as caught:
            await anext(client.events.subscribe(after=0))

    assert caught.value.reason == "EVENT_LOG_UNAVAILABLE"


async def test_events_need_a_server_in_the_configuration() -> None:
    async with connect(ClientConfig(catalog="127.0.0.1:1")) as client:
        with pytest.raises(ConfigurationError, match=r"client\.nats"):
            await anext(client.events.subscribe())


async def test_changes_of_stores_are_read_from_the_beginning_and_as_they_come(
    client: Client, nats_server: RunningNats
) -> None:
    since = datetime(2026, 11, 28, 12, tzinfo=UTC)
    stale = StoreState(StoreMode.READ_ONLY, since, "STORE_MOUNT_STALE", "it is stale")
    connection = await NatsConnection.open(NatsSettings((nats_server.url,)))
    await connection.api(f"STREAM.DELETE.{STORE_STREAM}")
    await ensure_stream(connection, name=STORE_STREAM)
    log = NatsStoreStateLog(connection)
    for store in ("main", "second"):
        await log.append(StoreStateChanged(store, stale, "importer", "host-1"))

    async with asyncio.timeout(30), aclosing(client.events.stores(after=0, store="second")) as changes:
        change = await anext(changes)
        assert change == StoreChange(
            2, "second", StoreMode.READ_ONLY, since, "STORE_MOUNT_STALE", "it is stale", "importer", "host-1"
        )
        await log.append(StoreStateChanged("second", StoreState(StoreMode.READ_WRITE, since), "importer", "host-1"))
        assert (await anext(changes)).mode is StoreMode.READ_WRITE
    await connection.close()


async def test_the_changes_of_what_is_no_store_are_refused(client: Client) -> None:
    with pytest.raises(InvalidRequestError):
        await anext(client.events.stores(store="a.b"))
