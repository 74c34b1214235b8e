"""What the catalog tells of everything, on a real NATS: also while that, the database or a part of it is away."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc
import pytest
import pytest_asyncio

from services.catalog import generations
from services.catalog.census import FRESH
from services.catalog.database import Database
from services.catalog.schema import schema_version
from services.catalog.settings import CatalogSection
from services.catalog.system_status import LogSources
from tests.backends.frozen import freeze
from tests.contract.event_logs import NatsHarness
from tests.integration.catalog.conftest import ADMIN, DEADLINE_S, Catalog, refused, running, until_ready
from tintype.adapters.nats.event_log import NatsEventLog
from tintype.adapters.nats.log_state import NatsLogState
from tintype.adapters.nats.roll_call import NatsRollCall
from tintype.adapters.nats.server import NatsServer
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.types.v1 import types_pb2
from tintype.domain.commands import RecordStepFailed
from tintype.domain.events import Failure, ImportRequested, Progress, Step
from tintype.domain.values import ImageId, OperationId, ProjectId
from tintype.ports.event_log import WorkQueue
from tintype.ports.service_info import ServiceInfo
from tintype.testing.clock import START, FakeClock

pytestmark = pytest.mark.nats

IMPORTS = WorkQueue("importer", (ImportRequested,))
UNREACHABLE = Failure("SOURCE_UNREACHABLE", "nobody answers", "", True)


@dataclass(frozen=True)
class Site:
    """A catalog on a NATS that the test may stop."""

    catalog: Catalog
    server: NatsServer
    log: NatsEventLog
    roll_call: NatsRollCall

    async def status(self) -> pb.SystemStatus:
        self.catalog.clock.advance(FRESH.total_seconds())  # a count before counts no longer
        answer: pb.SystemStatus = await self.catalog.admin.GetStatus(
            pb.GetStatusRequest(), metadata=ADMIN, timeout=DEADLINE_S
        )
        return answer


@pytest_asyncio.fixture
async def site(catalog_settings: CatalogSection, own_nats_server: NatsServer) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        connection = await (await NatsHarness.make(own_nats_server.url, stack)).connect()
        log, roll_call = NatsEventLog(connection), NatsRollCall(connection)
        sources = LogSources(NatsLogState(connection), roll_call)
        catalog = await stack.enter_async_context(running(catalog_settings, log, FakeClock(), sources=sources))
        await until_ready(catalog)
        yield Site(catalog, own_nats_server, log, roll_call)


async def projected(site: Site, position: int) -> None:
    """Wait until the tables have it."""
    request = pb.ListImagesRequest(min_position=position)
    await site.catalog.images.ListImages(request, metadata=ADMIN, timeout=DEADLINE_S)


async def test_everything_is_told_where_all_answer(site: Site) -> None:
    image = await site.catalog.create()
    operation = await site.catalog.start_import(image.id)
    await projected(site, operation.position)
    status = await site.status()

    assert (status.log.head, status.log.replicas, status.log.server_version[:2]) == (2, 1, "2.")
    assert (status.projection.position, status.projection.lag_events, status.projection.lag_seconds) == (2, 0, 0)
    assert status.projection.caught_up
    assert [(each.status, each.images) for each in status.images.counts] == [(types_pb2.STATUS_IMPORTING, 1)]
    assert status.operations.running == 1
    (oldest,) = status.operations.oldest
    assert (oldest.id, oldest.step) == (operation.id, types_pb2.STEP_STAGE)
    parts = (status.log, status.projection, status.work, status.images, status.operations, status.replicas)
    assert not any(part.HasField("failure") for part in parts)


async def test_the_oldest_operation_says_how_far_it_is(site: Site) -> None:
    image = await site.catalog.create()
    operation = await site.catalog.start_import(image.id)
    await projected(site, operation.position)
    progress = Progress(
        ImageId(image.id), ProjectId("default"), OperationId(operation.id), Step.STAGE, 5, 10, START, UNREACHABLE
    )
    async with asyncio.timeout(DEADLINE_S):
        while True:
            await site.log.tell_progress(progress)
            (oldest,) = (await site.status()).operations.oldest
            if oldest.HasField("progress"):
                break
    assert (oldest.progress.done, oldest.progress.total) == (5, 10)
    assert oldest.progress.waiting_for.reason == "SOURCE_UNREACHABLE"


async def test_failures_are_told_by_reason(site: Site) -> None:
    image = await site.catalog.create()
    operation = await site.catalog.start_import(image.id)
    failed = await site.catalog.work(image.id, RecordStepFailed(OperationId(operation.id), Step.STAGE, UNREACHABLE))
    await projected(site, failed.position)
    status = await site.status()

    assert [(each.reason, each.operations) for each in status.operations.failures] == [("SOURCE_UNREACHABLE", 1)]
    assert status.operations.running == 0


async def test_a_queue_with_work_that_nobody_does_is_seen(site: Site) -> None:
    image = await site.catalog.create()
    await site.catalog.start_import(image.id)
    async with site.log.work(IMPORTS) as deliveries:
        await anext(deliveries)
        (queue,) = (await site.status()).work.queues
        assert (queue.name, queue.pending, queue.in_hand) == ("importer", 0, 1)
    second = await site.catalog.create()
    await site.catalog.start_import(second.id)
    (queue,) = (await site.status()).work.queues

    assert queue.pending + queue.in_hand == 2
    assert queue.waiting_workers == 0


async def test_replicas_are_found_that_nobody_has_an_address_of(site: Site) -> None:
    info = ServiceInfo("importer", "9", "elsewhere/1", START, True)
    answering = asyncio.create_task(site.roll_call.answer(lambda: info))
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not (found := (await site.status()).replicas.services):
                """It may take a moment to listen."""
    finally:
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
    assert [(each.service, each.version, each.instance) for each in found] == [("importer", "9", "elsewhere/1")]


async def test_while_nats_does_not_answer_the_tables_are_told(site: Site) -> None:
    image = await site.catalog.create()
    await projected(site, image.position)
    assert site.server.process is not None
    pid = site.server.process.pid
    freeze(pid)
    try:
        status = await site.status()
    finally:
        os.kill(pid, signal.SIGCONT)

    assert status.log.failure.reason and status.work.failure.reason
    assert not status.projection.HasField("failure") and not status.projection.HasField("lag_events")
    assert status.projection.position == 1
    assert [each.images for each in status.images.counts] == [1]


async def test_without_a_connection_to_nats_nobody_can_be_asked_who_is_there(site: Site) -> None:
    await site.server.kill()
    async with asyncio.timeout(DEADLINE_S):
        while not (status := await site.status()).replicas.HasField("failure"):
            """It may take a moment to be noticed."""

    assert status.replicas.failure.reason == "EVENT_LOG_UNAVAILABLE"
    assert status.log.failure.reason == "EVENT_LOG_UNAVAILABLE"


async def test_tables_that_are_being_built_are_told(site: Site, catalog_settings: CatalogSection) -> None:
    image = await site.catalog.create()
    await projected(site, image.position)
    assert not (await site.status()).projection.HasField("rebuild_position")
    database = Database(catalog_settings.database)
    building = await database.write(lambda connection: generations.added(connection, schema_version()))
    await database.write(lambda connection: generations.move(connection, building.number, 1))
    status = await site.status()
    await database.close()

    assert (status.projection.position, status.projection.rebuild_position) == (1, 1)
    assert status.projection.caught_up


async def test_only_administrators_are_told(site: Site) -> None:
    refusal = await refused(site.catalog.admin.GetStatus(pb.GetStatusRequest(), timeout=DEADLINE_S))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED")
