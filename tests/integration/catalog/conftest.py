"""A whole catalog in this process: real gRPC, SQLite, and the log in memory."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from services.catalog.app import SERVICES, assemble, make_data_dir
from services.catalog.settings import CatalogSection
from services.catalog.system_status import LogSources
from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.adapters.memory.log_state import MemoryLogState
from tintype.adapters.memory.roll_call import MemoryRollCall
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.catalog.v1.catalog_pb2_grpc import (
    CatalogAdminServiceStub,
    CatalogServiceStub,
    OperationsServiceStub,
)
from tintype.api.types.v1 import types_pb2
from tintype.codec.call_metadata import STATUS_TRAILER
from tintype.domain.commands import Command
from tintype.domain.errors import ProjectionLagError
from tintype.domain.events import EventContext
from tintype.domain.image import Image
from tintype.domain.values import CommandId, ImageId, ProjectId
from tintype.ports.event_log import EventLog
from tintype.runtime.grpc_server import serving
from tintype.runtime.journal import Journal
from tintype.testing.clock import FakeClock

DEADLINE_S = 20
BARE = {"disk_format": types_pb2.DISK_FORMAT_QCOW2, "container_format": types_pb2.CONTAINER_FORMAT_BARE}


@dataclass
class Catalog:
    """A running catalog as its clients see it, and the log behind it."""

    channel: grpc.aio.Channel
    log: EventLog
    clock: FakeClock
    check: Callable[[], Awaitable[None]]
    images: Any = field(init=False)
    operations: Any = field(init=False)
    admin: Any = field(init=False)

    def __post_init__(self) -> None:
        self.images = CatalogServiceStub(self.channel)
        self.operations = OperationsServiceStub(self.channel)
        self.admin = CatalogAdminServiceStub(self.channel)

    async def create(self, name: str = "debian", project: str = "default", **attributes: Any) -> pb.Image:
        request = pb.CreateImageRequest(image=pb.Image(name=name, **(BARE | attributes)))
        image: pb.Image = await self.images.CreateImage(request, metadata=as_project(project), timeout=DEADLINE_S)
        return image

    async def start_import(self, image_id: str, request_id: str = "", project: str = "default") -> pb.Operation:
        source = types_pb2.ImportSource(method=types_pb2.IMPORT_METHOD_WEB_DOWNLOAD, uri="https://example.org/disk")
        request = pb.ImportImageRequest(image_id=image_id, source=source, request_id=request_id)
        operation: pb.Operation = await self.images.ImportImage(
            request, metadata=as_project(project), timeout=DEADLINE_S
        )
        return operation

    async def work(self, image_id: str, command: Command) -> Image:
        """Append what a worker would."""
        executed = await Journal(self.log, self.clock).execute(
            ImageId(image_id),
            command,
            project=ProjectId("default"),
            command_id=CommandId(str(uuid.uuid4())),
            context=EventContext("service:test", "c", "c"),
        )
        return executed.image


def as_project(project: str = "default", *, admin: bool = False) -> tuple[tuple[str, str], ...]:
    return (("tintype-project", project), ("tintype-actor", "tester"), ("tintype-admin", str(admin).lower()))


ADMIN = as_project(admin=True)


@dataclass(frozen=True)
class Refusal:
    """An error as a client reads it."""

    code: grpc.StatusCode
    reason: str
    message: str


async def refused(call: Awaitable[object]) -> Refusal:
    """The error of a call; every one carries an ErrorInfo."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    details = dict(caught.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(details[STATUS_TRAILER])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "tintype"
    assert info.reason
    return Refusal(caught.value.code(), info.reason, caught.value.details() or "")


@asynccontextmanager
async def running(
    settings: CatalogSection,
    log: EventLog,
    clock: FakeClock,
    stores: frozenset[str] | None = None,
    sources: LogSources | None = None,
) -> AsyncIterator[Catalog]:
    """Run a catalog, from before it has caught up; without ``sources`` nobody knows how the log is."""
    async with AsyncExitStack() as stack:
        make_data_dir(settings)
        known = sources or LogSources(MemoryLogState(MemoryEventLog()), MemoryRollCall())
        service = assemble(settings, stack, log, clock, known, stores)
        tasks = [asyncio.create_task(function()) for function in service.background.values()]
        stack.push_async_callback(_end, tasks)
        address, health = await stack.enter_async_context(
            serving(service.registrations, SERVICES, settings.listen, drain_s=0)
        )
        await health.set(True)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        yield Catalog(channel, log, clock, service.health_checks["projection"])


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, asyncio.CancelledError), result


@pytest.fixture
def catalog_settings(tmp_path: Path) -> CatalogSection:
    return CatalogSection(data_dir=tmp_path / "catalog", max_image_bytes=10 * 1024**3)


@pytest.fixture
async def catalog(catalog_settings: CatalogSection) -> AsyncIterator[Catalog]:
    """A running catalog with an empty log."""
    async with running(catalog_settings, MemoryEventLog(), FakeClock()) as started:
        await until_ready(started)
        yield started


async def until_ready(catalog: Catalog) -> None:
    """Wait until reads are answered."""
    while True:
        try:
            return await catalog.check()
        except ProjectionLagError:
            await asyncio.sleep(0.005)
