"""The event log on NATS when the network, the server or another program misbehaves."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog
from nats.aio.msg import Msg
from prometheus_client import REGISTRY

from tests.backends.frozen import freeze
from tests.backends.shared_servers import RunningNats
from tests.contract.event_logs import NatsHarness
from tintype.adapters.nats import direct_get, event_log, queue_metrics, work
from tintype.adapters.nats.connection import NatsConnection, NatsSettings
from tintype.adapters.nats.event_log import NatsEventLog
from tintype.adapters.nats.follow import create_consumer
from tintype.adapters.nats.pull import open_reader
from tintype.adapters.nats.server import NatsServer
from tintype.adapters.nats.stream import StreamSettings, ensure_stream
from tintype.codec import cloudevents
from tintype.codec.subjects import STREAM, history_filter
from tintype.domain.errors import (
    ConfigurationError,
    EventLogUnavailableError,
    EventTypeUnknownError,
    LogCorruptError,
)
from tintype.domain.events import Event, ImageCreated, ImageUpdated, NewEvent, RecordedEvent
from tintype.ports.event_log import EventLog, WorkQueue
from tintype.runtime.child_process import start_child
from tintype.testing.events import ATTRIBUTES, CREATED, EventBuilder, an_image_id

pytestmark = pytest.mark.nats

UPDATED = ImageUpdated(ATTRIBUTES, ("name",))
CREATIONS = WorkQueue("creations", (ImageCreated,), lease_s=1.0)


@pytest_asyncio.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def append_until_confirmed(log: EventLog, event: NewEvent, after: RecordedEvent | None) -> RecordedEvent:
    while True:
        try:
            return await log.append(event, after=after)
        except EventLogUnavailableError:
            await asyncio.sleep(0.05)


class LossyConnection(NatsConnection):
    """Loses the acknowledgement of every event that is published while ``loses``."""

    loses = False

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        waits_for_responder: bool = False,
    ) -> Msg:
        reply = await super().request(
            subject, payload, headers=headers, timeout_s=timeout_s, waits_for_responder=waits_for_responder
        )
        if self.loses and subject.startswith("tintype."):
            raise EventLogUnavailableError("the acknowledgement was lost")
        return reply


@pytest.mark.parametrize("window_s", [120.0, 0.1])
async def test_a_command_repeated_after_a_lost_acknowledgement_appends_once(
    nats_server: RunningNats, stack: AsyncExitStack, window_s: float
) -> None:
    await NatsHarness.make(nats_server.url, stack, duplicate_window_s=window_s)
    connection = await LossyConnection.open(NatsSettings((nats_server.url,)))
    stack.push_async_callback(connection.close)
    log, builder = NatsEventLog(connection), EventBuilder()
    created = await log.append(builder.new(), after=None)
    connection.loses = True
    with pytest.raises(EventLogUnavailableError):
        await log.append(builder.new(UPDATED, command="update"), after=created)
    connection.loses = False
    await asyncio.sleep(0.3 if window_s < 1 else 0)  # the server forgets message ids by its own clock
    updated = await log.append(builder.new(UPDATED, command="update"), after=created)
    assert list(await log.history(builder.image_id)) == [created, updated]


async def test_a_silent_server_is_reported_in_time_and_the_command_may_be_repeated(
    own_nats_server: NatsServer, stack: AsyncExitStack
) -> None:
    harness = await NatsHarness.make(own_nats_server.url, stack)
    log, builder = NatsEventLog(await harness.connect(), deadline_s=0.2), EventBuilder()
    created = await log.append(builder.new(), after=None)
    assert own_nats_server.process is not None
    freeze(own_nats_server.process.pid)
    with pytest.raises(EventLogUnavailableError):
        await log.append(builder.new(UPDATED, command="update"), after=created)
    with pytest.raises(EventLogUnavailableError):
        await log.history(builder.image_id)
    own_nats_server.process.send_signal(signal.SIGCONT)
    updated = await append_until_confirmed(log, builder.new(UPDATED, command="update"), created)
    assert list(await log.history(builder.image_id)) == [created, updated]


async def test_acknowledged_events_outlive_a_killed_server(own_nats_server: NatsServer, stack: AsyncExitStack) -> None:
    harness = await NatsHarness.make(own_nats_server.url, stack)
    log, builder = await harness.open(), EventBuilder()
    history = [await log.append(builder.new(CREATED), after=None)]
    for _ in range(20):
        history.append(await log.append(builder.new(UPDATED), after=history[-1]))
    await own_nats_server.kill()
    await own_nats_server.start()
    assert list(await (await harness.open()).history(builder.image_id)) == history
    history.append(await append_until_confirmed(log, builder.new(UPDATED), history[-1]))
    assert list(await log.history(builder.image_id)) == history


async def test_following_goes_on_over_a_killed_server_without_gap_or_repetition(
    own_nats_server: NatsServer, stack: AsyncExitStack
) -> None:
    harness = await NatsHarness.make(own_nats_server.url, stack)
    log, builder = await harness.open(), EventBuilder()
    history = [await log.append(builder.new(CREATED), after=None)]
    followed: list[RecordedEvent] = []
    async with aclosing((await harness.open()).follow(after=0)) as events:  # type: ignore[type-var]
        for _ in range(3):
            followed.append(await anext(events))
            coming = asyncio.ensure_future(_next(events))
            await own_nats_server.kill()
            await own_nats_server.start()
            history.append(await append_until_confirmed(log, builder.new(UPDATED), history[-1]))
            followed.append(await coming)
            history.append(await append_until_confirmed(log, builder.new(UPDATED), history[-1]))
    assert followed == history[: len(followed)]


async def test_work_goes_on_over_a_killed_server(own_nats_server: NatsServer, stack: AsyncExitStack) -> None:
    harness = await NatsHarness.make(own_nats_server.url, stack)
    log = await harness.open()
    one = await log.append(EventBuilder(an_image_id("one")).new(), after=None)
    async with log.work(CREATIONS) as deliveries:
        in_hand = await anext(deliveries)
        coming = asyncio.ensure_future(_next(deliveries))
        await own_nats_server.kill()
        await own_nats_server.start()
        two = await append_until_confirmed(await harness.open(), EventBuilder(an_image_id("two")).new(), None)
        seen = [in_hand.event]
        while seen[-1] != two:  # the first event's lease may have lapsed meanwhile
            delivery = await coming
            seen.append(delivery.event)
            await delivery.acknowledge()
            coming = asyncio.ensure_future(_next(deliveries))
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
    assert seen[0] == one


async def test_a_deleted_consumer_is_made_again(nats_server: RunningNats, stack: AsyncExitStack) -> None:
    harness = await NatsHarness.make(nats_server.url, stack)
    log = await harness.open()
    async with log.work(CREATIONS) as deliveries:
        coming = asyncio.ensure_future(_next(deliveries))
        connection = await harness.connect()
        while True:
            answer = await connection.api(f"CONSUMER.DELETE.{STREAM}.{CREATIONS.name}")
            if "error" not in answer:
                break
            await asyncio.sleep(0.01)
        created = await log.append(EventBuilder().new(), after=None)
        assert (await coming).event == created


async def test_a_slow_follower_holds_a_bounded_number_of_events(
    nats_server: RunningNats, stack: AsyncExitStack
) -> None:
    harness = await NatsHarness.make(nats_server.url, stack)
    log, builder = await harness.open(), EventBuilder()
    history = [await log.append(builder.new(CREATED), after=None)]
    for _ in range(1500):
        history.append(await log.append(builder.new(UPDATED), after=history[-1]))
    connection = await harness.connect()
    async with aclosing(NatsEventLog(connection).follow(after=0)) as events:  # type: ignore[type-var]
        followed = [await anext(events)]
        await asyncio.sleep(0.2)
        assert connection.received_messages < 800
        followed += [await anext(events) for _ in range(1500)]
    assert followed == history


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ce-type": "io.tintype.image.created.v2"}, EventTypeUnknownError.reason),
        ({"ce-type": "io.tintype.image.frobnicated.v1"}, EventTypeUnknownError.reason),
        ({"ce-time": "yesterday"}, LogCorruptError.reason),
        ({"ce-project": "other"}, LogCorruptError.reason),
        ({"ce-specversion": "2.0"}, LogCorruptError.reason),
    ],
)
async def test_a_foreign_event_stops_readers_and_is_kept_back_from_workers(
    nats_server: RunningNats, stack: AsyncExitStack, change: dict[str, str], reason: str
) -> None:
    harness = await NatsHarness.make(nats_server.url, stack)
    log, connection, builder = await harness.open(), await harness.connect(), EventBuilder()
    message = cloudevents.encode(builder.new(), version=1, previous_hash="")
    await connection.request(message.subject, message.payload, headers={**message.headers, **change})
    with pytest.raises(LogCorruptError) as refused:
        await log.history(builder.image_id)
    assert refused.value.reason == reason
    with pytest.raises(LogCorruptError) as stopped:
        async with aclosing(log.follow(after=0)) as events:  # type: ignore[type-var]
            await anext(events)
    good = await log.append(EventBuilder(an_image_id("good")).new(), after=None)
    async with aclosing(log.follow(after=stopped.value.position)) as events:  # type: ignore[type-var]
        assert await anext(events) == good
    with structlog.testing.capture_logs() as logged:
        async with log.work(CREATIONS) as deliveries:
            assert (await anext(deliveries)).event == good
    assert [entry["reason"] for entry in logged if entry["log_level"] == "error"] == [reason]


async def test_a_kept_back_event_is_handed_out_once_it_is_understood(
    nats_server: RunningNats, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_PARKED_S", 0.1)
    harness = await NatsHarness.make(nats_server.url, stack)
    log, connection, builder = await harness.open(), await harness.connect(), EventBuilder()
    message = cloudevents.encode(builder.new(), version=1, previous_hash="")
    newer = {**message.headers, "ce-type": "io.tintype.image.created.v2"}
    await connection.request(message.subject, message.payload, headers=newer)
    with structlog.testing.capture_logs() as logged:
        async with log.work(CREATIONS) as deliveries:
            coming = asyncio.ensure_future(_next(deliveries))
            while True:
                if any(entry["log_level"] == "error" for entry in logged):
                    break
                await asyncio.sleep(0.01)
            monkeypatch.setattr(cloudevents, "UPCASTERS", {("created", 2): _read_created})
            assert (await coming).event.payload == CREATED


async def test_a_gap_in_a_history_is_found(nats_server: RunningNats, stack: AsyncExitStack) -> None:
    harness = await NatsHarness.make(nats_server.url, stack)
    log, connection, builder = await harness.open(), await harness.connect(), EventBuilder()
    await log.append(builder.new(), after=None)
    later = cloudevents.encode(builder.new(UPDATED), version=3, previous_hash="ab" * 32)
    await connection.request(later.subject, later.payload, headers=later.headers)
    with pytest.raises(LogCorruptError, match="gap"):
        await log.history(builder.image_id)


async def test_a_cancellation_is_not_lost_when_it_comes_with_the_answer(
    nats_server: RunningNats, stack: AsyncExitStack
) -> None:
    connection = await NatsHarness(nats_server.url, stack).connect()

    async def ask_for_ever() -> None:
        while True:
            await connection.api("INFO")

    for turns in range(300):  # of the event loop: one of them is the turn of the answer
        task = asyncio.create_task(ask_for_ever())
        for _ in range(turns % 30):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()


async def test_a_closed_connection_ends_everything(nats_server: RunningNats, stack: AsyncExitStack) -> None:
    harness = await NatsHarness.make(nats_server.url, stack)
    connection = await harness.connect()
    log = NatsEventLog(connection)
    await connection.close()
    with pytest.raises(EventLogUnavailableError):
        await log.append(EventBuilder().new(), after=None)
    with pytest.raises(EventLogUnavailableError):
        await log.head()
    with pytest.raises(EventLogUnavailableError):
        await anext(log.follow(after=0))
    with pytest.raises(EventLogUnavailableError):
        async with log.work(CREATIONS) as deliveries:
            await anext(deliveries)


async def test_without_a_stream_the_log_is_unavailable(own_nats_server: NatsServer, stack: AsyncExitStack) -> None:
    connection = await NatsHarness(own_nats_server.url, stack).connect()
    log = NatsEventLog(connection, deadline_s=0.3)
    with pytest.raises(EventLogUnavailableError):
        await log.append(EventBuilder().new(), after=None)
    with pytest.raises(EventLogUnavailableError):
        await log.history(an_image_id())
    with pytest.raises(EventLogUnavailableError):
        await log.head()


@pytest.mark.parametrize(
    "flag",
    [
        {"deny_delete": False},
        {"deny_purge": False},
        {"allow_direct": False},
        {"max_age": 10**12},
        {"storage": "memory"},
    ],
)
async def test_a_stream_that_is_not_as_it_must_be_is_refused_by_name(
    nats_server: RunningNats, stack: AsyncExitStack, flag: dict[str, Any]
) -> None:
    connection = await NatsHarness(nats_server.url, stack).connect()
    await connection.api(f"STREAM.DELETE.{STREAM}")
    await ensure_stream(connection)
    config = (await connection.api(f"STREAM.INFO.{STREAM}"))["config"]
    await connection.api(f"STREAM.DELETE.{STREAM}")
    assert "error" not in await connection.api(f"STREAM.CREATE.{STREAM}", {**config, **flag})
    with pytest.raises(ConfigurationError, match=next(iter(flag))):
        await ensure_stream(connection)
    await connection.api(f"STREAM.DELETE.{STREAM}")


async def test_many_services_may_make_the_stream_at_once(nats_server: RunningNats, stack: AsyncExitStack) -> None:
    harness = NatsHarness(nats_server.url, stack)
    connections = [await harness.connect() for _ in range(4)]
    await connections[0].api(f"STREAM.DELETE.{STREAM}")
    await asyncio.gather(*(ensure_stream(connection) for connection in connections))
    assert await NatsEventLog(connections[0]).head() == 0


async def test_more_replicas_than_servers_are_refused(nats_server: RunningNats, stack: AsyncExitStack) -> None:
    connection = await NatsHarness(nats_server.url, stack).connect()
    await connection.api(f"STREAM.DELETE.{STREAM}")
    with pytest.raises((ConfigurationError, EventLogUnavailableError), match="replicas"):
        await ensure_stream(connection, StreamSettings(replicas=3))


async def test_a_server_with_too_small_messages_is_refused(tmp_path: Path) -> None:
    server = NatsServer(tmp_path, start_child, max_payload_bytes=64 * 1024)
    with pytest.raises(ConfigurationError, match="max_payload"):
        await server.start()
    assert server.process is None


async def test_no_server_is_reported_in_time(own_nats_server: NatsServer) -> None:
    await own_nats_server.stop()
    with pytest.raises(EventLogUnavailableError, match="does not answer"):
        await NatsConnection.open(NatsSettings((own_nats_server.url,), connect_timeout_s=0.3))


def _read_created(payload: bytes) -> Event:
    del payload
    return CREATED


async def _next(stream: AsyncIterator[Any]) -> Any:
    return await anext(stream)


async def test_a_reader_holds_a_bounded_number_of_bytes_however_large_the_events_are(
    nats_server: RunningNats, stack: AsyncExitStack
) -> None:
    harness = await NatsHarness.make(nats_server.url, stack)
    log, connection, builder = await harness.open(), await harness.connect(), EventBuilder()
    properties = {f"key{number}": "\U0001f4c0" * 16_000 for number in range(8)}
    large = ImageCreated(replace(ATTRIBUTES, properties=properties))
    newest: RecordedEvent | None = None
    for _ in range(40):
        newest = await log.append(builder.new(large), after=newest)
    name = f"reads-{builder.image_id}"
    filters = {"filter_subject": history_filter(builder.image_id), "ack_policy": "none", "mem_storage": True}
    await create_consumer(connection, name, {"name": name, "deliver_policy": "all", **filters})
    async with open_reader(connection, name, batch=512) as reader:
        for _ in range(10):
            await reader.next()
            await connection.api(f"STREAM.INFO.{STREAM}")  # what was asked for before has come when this is answered
        unread = reader.take_unread()
    assert 0 < sum(len(message.data) for message in unread) < 7 * 1024**2


async def test_the_length_of_a_queue_is_told_to_whoever_works_on_it(
    nats_server: NatsServer, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_metrics, "INTERVAL_S", 0.01)
    harness = await NatsHarness.make(nats_server.url, stack)
    log = await harness.open()
    for number in range(3):
        await log.append(EventBuilder(an_image_id(str(number))).new(), after=None)
    async with log.work(CREATIONS) as deliveries:
        in_hand = await anext(deliveries)
        await _told(pending=2, in_hand=1, redelivered=0)
        await in_hand.retry(0)
        rest = [await anext(deliveries) for _ in range(3)]
        (again,) = [delivery for delivery in rest if delivery.attempt == 2]
        for delivery in rest:
            if delivery is not again:
                await delivery.acknowledge()
        await _told(pending=0, in_hand=1, redelivered=1)
        await again.acknowledge()
        await _told(pending=0, in_hand=0, redelivered=0)
    await _told(pending=None, in_hand=None, redelivered=None)


async def _told(**lengths: int | None) -> None:
    """Wait until these are the lengths of the queue; ``None`` is that none is told."""
    labels = {"queue": CREATIONS.name}
    async with asyncio.timeout(30):
        while {name: REGISTRY.get_sample_value(f"tintype_queue_{name}", labels) for name in lengths} != lengths:
            await asyncio.sleep(0)


def behind(monkeypatch: pytest.MonkeyPatch, answers: int) -> None:
    """Let histories be read so often from a server that has nothing yet."""
    read, left = direct_get.read_messages, answers

    async def read_behind(*arguments: Any) -> Any:
        nonlocal left
        left -= 1
        return [] if left >= 0 else await read(*arguments)

    monkeypatch.setattr(event_log, "read_messages", read_behind)


async def test_who_is_handed_an_event_finds_it_in_a_history_that_a_server_behind_tells(
    nats_server: RunningNats, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = await NatsHarness.make(nats_server.url, stack)
    event = await (await harness.open()).append(EventBuilder().new(CREATED), after=None)
    other = NatsEventLog(await harness.connect())
    async with other.work(CREATIONS) as deliveries:
        delivery = await anext(deliveries)
        behind(monkeypatch, 3)
        assert [each.position for each in await other.history(event.image_id)] == [event.position]
        await delivery.acknowledge()


async def test_what_another_service_has_appended_is_in_a_history_that_a_server_behind_tells(
    nats_server: RunningNats, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = await NatsHarness.make(nats_server.url, stack)
    event = await (await harness.open()).append(EventBuilder().new(CREATED), after=None)
    other = NatsEventLog(await harness.connect(), is_replicated=True)
    behind(monkeypatch, 3)
    assert [each.position for each in await other.history(event.image_id)] == [event.position]
    assert await other.history(an_image_id("another")) == []
