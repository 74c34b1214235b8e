"""The projector: follows the log, and brings the tables forward in the batches that form by themselves.

While a batch is being written the next one queues: a single event is projected at once, a flood in large batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import structlog

from services.catalog.generations import Generation
from services.catalog.log_identity import Seen, require_same_log
from services.catalog.projection import Projection
from services.catalog.watermark import Watermark
from tintype.domain.errors import (
    CatalogDatabaseError,
    LogReplacedError,
    ProjectionLagError,
    ProjectionReplacedError,
    UnavailableError,
)
from tintype.domain.events import RecordedEvent
from tintype.ports.event_log import EventLog
from tintype.runtime.following import Entry, entries
from tintype.runtime.metrics import LOG_REPLACED, PROJECTION_POSITION

log = structlog.get_logger(__name__)

MAX_BATCH = 5000
_FIRST_DELAY_S = 0.05
_LONGEST_DELAY_S = 5.0
LOOK_EVERY_S = 10.0
"""How often it is looked whether the log is still the same: it may be lost and put back under a running catalog."""


class Projector:
    """Keeps one process's view of the tables up to date."""

    def __init__(self, event_log: EventLog, projection: Projection, watermark: Watermark) -> None:
        self._log = event_log
        self._projection = projection
        self._watermark = watermark
        self._caught_up = asyncio.Event()
        self.position = 0
        """How far the tables are, caught up or not."""
        self._seen: Seen | None = None

    async def run(self) -> None:
        """Project until cancelled; begin anew when the tables are replaced, wait while log or database are away."""
        delay_s = _FIRST_DELAY_S
        while True:
            try:
                await self._project()
            except* ProjectionReplacedError as group:
                log.info("projection begins anew", error=str(group.exceptions[0]))
                delay_s = _FIRST_DELAY_S
            except* LogReplacedError:
                delay_s = _FIRST_DELAY_S
            except* UnavailableError as group:
                log.warning("projection waits", delay_s=delay_s, error=str(group.exceptions[0]))
                delay_s = min(delay_s * 2, _LONGEST_DELAY_S)
            await asyncio.sleep(delay_s)

    async def check(self) -> None:
        """Say whether the catalog may answer.

        Raises:
            ProjectionLagError: the tables have not yet reached what was the log's head at the start.
        """
        if not self._caught_up.is_set():
            raise ProjectionLagError(f"the catalog is catching up: it is at position {self._watermark.position}")

    @property
    def is_caught_up(self) -> bool:
        """Whether the tables have reached what was the log's head at the start."""
        return self._caught_up.is_set()

    async def caught_up(self) -> None:
        """Wait until the tables have reached what was the log's head at the start."""
        await self._caught_up.wait()

    async def _project(self) -> None:
        generation = await self._opened()
        if not generation.is_active:  # half-built tables are not to be read, also when the whole database was replaced
            self._caught_up.clear()
        if generation.position < self._watermark.position:
            self._watermark.restart()
        head = await self._log.head()
        queue: asyncio.Queue[Entry] = asyncio.Queue(MAX_BATCH)
        await self._advance(generation.position, head, ())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(generation.position, queue))
            tasks.create_task(self._apply(head, queue))
            tasks.create_task(self._watch_log())

    async def _opened(self) -> Generation:
        """The tables to go on with: new ones, if those that there are were made of another log."""
        generation = await self._projection.open()
        self.position, self._seen = generation.position, await self._projection.newest_seen()
        try:
            await require_same_log(self._log, self.position, self._seen)
        except LogReplacedError as exc:
            log.error("the catalog's tables are built anew", reason=exc.reason, error=exc.message)
            LOG_REPLACED.inc()
            self._caught_up.clear()
            await self._projection.give_up()
            generation = await self._projection.open()
            self.position, self._seen = generation.position, None
        return generation

    async def _watch_log(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await require_same_log(self._log, self.position, self._seen)
            except UnavailableError as exc:  # whoever follows waits for it already
                log.debug("the log was not looked at", error=str(exc))

    async def _follow(self, after: int, queue: asyncio.Queue[Entry]) -> None:
        async with aclosing(entries(self._log, after=after)) as following:
            async for entry in following:
                await queue.put(entry)

    async def _apply(self, head: int, queue: asyncio.Queue[Entry]) -> None:
        while True:
            batch = [await queue.get()]
            while len(batch) < MAX_BATCH and not queue.empty():
                batch.append(queue.get_nowait())
            position = await self._apply_batch(batch)
            self._seen = next(
                (_seen(event) for event in reversed(batch) if isinstance(event, RecordedEvent)), self._seen
            )
            await self._advance(position, head, batch)

    async def _apply_batch(self, batch: Sequence[Entry]) -> int:
        delay_s = _FIRST_DELAY_S
        while True:
            try:
                return (await self._projection.apply(batch)).position
            except CatalogDatabaseError as exc:
                log.warning("batch will be repeated", events=len(batch), delay_s=delay_s, error=str(exc))
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, _LONGEST_DELAY_S)

    async def _advance(self, position: int, head: int, batch: Sequence[Entry]) -> None:
        self.position = position
        PROJECTION_POSITION.set(position)
        if position >= head and not self._projection.generation.is_active:
            await self._projection.put_into_use()
        if position >= head and not self._caught_up.is_set():
            self._caught_up.set()
            log.info("catalog caught up", position=position, head=head)
        if self._caught_up.is_set():
            await self._watermark.advance(
                position, {event.image_id for event in batch if isinstance(event, RecordedEvent)}
            )


def _seen(event: RecordedEvent) -> Seen:
    return Seen(event.image_id, event.version, event.position)
