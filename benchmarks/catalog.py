"""The catalog alone: events per second through the projection, and lists over gRPC among many images.

The log is the one in memory, so that the tables and not nats-server are what is measured.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import tintype.client
from benchmarks.measure import Sample, percentile, table
from services.catalog.app import assemble
from services.catalog.settings import CatalogSection
from services.catalog.system_status import LogSources
from tests.backends.postgresql import postgresql_database, postgresql_server
from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.adapters.memory.log_state import MemoryLogState
from tintype.adapters.memory.roll_call import MemoryRollCall
from tintype.client.config import ClientConfig
from tintype.domain.errors import ProjectionLagError
from tintype.domain.events import ImageCreated, RecordedEvent
from tintype.domain.values import ImageId
from tintype.runtime.clock import SystemClock
from tintype.runtime.grpc_server import serving
from tintype.testing.events import ATTRIBUTES, IMPORT_ROAD, PROJECT, EventBuilder

SIZES = (10_000, 100_000)
ROAD = (ImageCreated(replace(ATTRIBUTES, hidden=False)), *IMPORT_ROAD[1:])
EVENTS_PER_IMAGE = len(ROAD)
LISTS = 200
PAGE = 100


class PrefilledLog(MemoryEventLog):
    """A log that begins with the given events."""

    def __init__(self, events: Sequence[RecordedEvent]) -> None:
        super().__init__()
        self._events = list(events)
        for event in events:
            self._histories.setdefault(event.image_id, []).append(event)


def roads(images: int) -> list[RecordedEvent]:
    """The events of so many images that were imported and converted."""
    events: list[RecordedEvent] = []
    for number in range(images):
        builder = EventBuilder(ImageId(str(uuid.UUID(int=number + 1))))
        events += builder.recorded(ROAD, position=len(events) + 1)
    return events


async def report(directory: Path, runs: int) -> str:
    """Both tables, on both databases."""
    projected: list[list[str]] = []
    listed: list[list[str]] = []
    with postgresql_server() as server:
        for images in SIZES:
            events = await asyncio.to_thread(roads, images)
            for database in ("SQLite", "PostgreSQL"):
                rates: list[float] = []
                pages_ms: list[float] = []
                for run in range(runs if images == min(SIZES) else 1):
                    if database == "SQLite":
                        url = f"sqlite:///{directory / f'{images}-{run}.db'}"
                        rate, pages_ms = await project_and_list(url, events, directory)
                    else:
                        with postgresql_database(server) as url:
                            rate, pages_ms = await project_and_list(url, events, directory)
                    rates.append(rate)
                sample = Sample(tuple(rates))
                numbers = f"{sample.median:,.0f} ({min(rates):,.0f}–{max(rates):,.0f})"
                projected.append([database, f"{images * EVENTS_PER_IMAGE:,}", numbers])
                percentiles = [f"{percentile(pages_ms, percent):.1f}" for percent in (50, 99)]
                listed.append([database, f"{images:,}", *percentiles])
    return "\n\n".join(
        [
            table(["projection onto", "events", "events per second"], projected),
            table([f"list of {PAGE} images, over gRPC, on", "out of", "p50, ms", "p99, ms"], listed),
        ]
    )


async def project_and_list(url: str, events: Sequence[RecordedEvent], directory: Path) -> tuple[float, list[float]]:
    """Project ``events`` onto an empty database, then list: events per second, and milliseconds for each page."""
    settings = CatalogSection(database_url=url, data_dir=directory)
    async with AsyncExitStack() as stack:
        log = PrefilledLog(events)
        service = assemble(settings, stack, log, SystemClock(), LogSources(MemoryLogState(log), MemoryRollCall()))
        begin = time.perf_counter()
        projector = asyncio.create_task(service.background["projector"]())
        stack.callback(projector.cancel)
        while not await is_caught_up(service.health_checks["projection"]):  # noqa: ASYNC110  # it has no event to wait for
            await asyncio.sleep(0.01)
        rate = len(events) / (time.perf_counter() - begin)
        address, _ = await stack.enter_async_context(
            serving(service.registrations, service.service_names, "127.0.0.1:0", 1)
        )
        client = await stack.enter_async_context(tintype.client.connect(ClientConfig(catalog=address, project=PROJECT)))
        pages_ms = []
        for _ in range(LISTS):
            begin = time.perf_counter()
            found = [image async for image in client.images.list(limit=PAGE)]
            pages_ms.append((time.perf_counter() - begin) * 1000)
            if len(found) != PAGE:
                raise RuntimeError(f"a list of {PAGE} has {len(found)}")
        projector.cancel()
        await asyncio.gather(projector, return_exceptions=True)
    return rate, pages_ms


async def is_caught_up(check: Callable[[], Awaitable[None]]) -> bool:
    """Whether the projection has reached the log's head."""
    try:
        await check()
    except ProjectionLagError:
        return False
    return True
