"""How the log is, and who is there: every promise of both ports, asked of every adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import pytest
import pytest_asyncio

from tests.contract.event_logs import NatsHarness
from tests.contract.test_event_log import append_all
from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.adapters.memory.log_state import MemoryLogState
from tintype.adapters.memory.roll_call import MemoryRollCall
from tintype.adapters.nats.event_log import NatsEventLog
from tintype.adapters.nats.log_state import NatsLogState
from tintype.adapters.nats.roll_call import NatsRollCall
from tintype.adapters.nats.server import NatsServer
from tintype.domain.events import Failure, ImageCreated, ImageUpdated
from tintype.ports.event_log import EventLog, WorkQueue
from tintype.ports.log_state import LogStateSource, QueueState
from tintype.ports.service_info import Certificate, Check, RollCall, ServiceInfo
from tintype.testing.clock import START
from tintype.testing.events import ATTRIBUTES, CREATED, EventBuilder, an_image_id

DEADLINE_S = 20
WAIT_S = 0.1
CREATIONS = WorkQueue("creations", (ImageCreated,))


@dataclass(frozen=True)
class Site:
    """A log, and who can be asked about it."""

    log: EventLog
    state: LogStateSource
    roll_call: RollCall


@pytest_asyncio.fixture(params=["memory", pytest.param("nats", marks=pytest.mark.nats)])
async def site(request: pytest.FixtureRequest, nats_server: NatsServer) -> AsyncIterator[Site]:
    """An empty log."""
    if request.param == "memory":
        log = MemoryEventLog()
        yield Site(log, MemoryLogState(log), MemoryRollCall())
        return
    async with AsyncExitStack() as stack:
        harness = await NatsHarness.make(nats_server.url, stack)
        connection = await harness.connect()
        yield Site(NatsEventLog(connection), NatsLogState(connection), NatsRollCall(connection))


def image(number: int) -> EventBuilder:
    return EventBuilder(an_image_id(f"image {number}"))


async def test_an_empty_log_has_no_newest_event(site: Site) -> None:
    state = await site.state.log_state()

    assert (state.head, state.newest_at, state.replicas, state.members) == (0, None, 1, ())
    assert state.server_version


async def test_the_newest_event_has_its_position_and_its_time(site: Site) -> None:
    history = await append_all(site.log, image(1), CREATED, ImageUpdated(ATTRIBUTES, ("name",)))
    state = await site.state.log_state()

    assert state.head == history[-1].position
    assert state.newest_at == await site.state.recorded_at(state.head)
    assert await site.state.recorded_at(state.head + 1) is None


async def test_a_queue_tells_what_waits_and_what_is_in_hand(site: Site) -> None:
    await append_all(site.log, image(1), CREATED)
    await append_all(site.log, image(2), CREATED)
    await append_all(site.log, image(2), ImageUpdated(ATTRIBUTES, ("name",)))
    async with site.log.work(CREATIONS) as deliveries:
        delivery = await anext(deliveries)
        assert await site.state.queue_states() == [QueueState("creations", 1, 1, 0, 0)]
        await delivery.acknowledge()
        delivery = await anext(deliveries)
        await delivery.acknowledge()
        assert await site.state.queue_states() == [QueueState("creations", 0, 0, 0, 0)]


async def test_a_queue_tells_what_was_handed_out_before(site: Site) -> None:
    await append_all(site.log, image(1), CREATED)
    async with site.log.work(CREATIONS) as deliveries:
        await (await anext(deliveries)).retry(0)
        await anext(deliveries)
        (queue,) = await site.state.queue_states()

    assert (queue.in_hand, queue.redelivered) == (1, 1)


async def test_a_queue_tells_whether_somebody_waits_for_work(site: Site) -> None:
    async with site.log.work(CREATIONS) as deliveries:
        waiting = asyncio.ensure_future(anext(deliveries))
        async with asyncio.timeout(DEADLINE_S):
            while [queue.waiting_workers for queue in await site.state.queue_states()] != [1]:
                await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_who_only_follows_the_log_has_no_queue(site: Site) -> None:
    await append_all(site.log, image(1), CREATED)
    following = site.log.follow(after=0)
    await anext(following)

    assert await site.state.queue_states() == []
    await following.aclose()  # type: ignore[attr-defined]  # it is a generator


def replica(service: str, instance: str) -> ServiceInfo:
    failure = Failure("STORE_UNAVAILABLE", "it is away", "look at it", True)
    checks = (
        Check("stores", False, True, failure, START),
        Check("event log", True, True, None, START + timedelta(seconds=1)),
    )
    certificate = Certificate("/tls/tls.crt", START + timedelta(days=90))
    return ServiceInfo(service, "0.1", instance, START, False, checks, (certificate,))


def _itself(info: ServiceInfo) -> ServiceInfo:
    return info


@asynccontextmanager
async def present(site: Site, *replicas: ServiceInfo) -> AsyncIterator[None]:
    """While these answer."""
    tasks = [asyncio.create_task(site.roll_call.answer(partial(_itself, each))) for each in replicas]
    try:
        async with asyncio.timeout(DEADLINE_S):
            while len(await site.roll_call.ask(WAIT_S)) < len(replicas):
                """They may take a moment to listen."""
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_roll_call_is_answered_by_all_in_order(site: Site) -> None:
    replicas = [replica("importer", "b/1"), replica("catalog", "a/7"), replica("importer", "a/2")]
    async with present(site, *replicas):
        assert await site.roll_call.ask(WAIT_S) == [replicas[1], replicas[2], replicas[0]]


async def test_who_has_gone_answers_no_roll_call(site: Site) -> None:
    async with present(site, replica("importer", "a/1")):
        pass
    assert await site.roll_call.ask(WAIT_S) == []
