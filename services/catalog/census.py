"""What there is in numbers: images by status, running operations, and why recent ones failed.

Everything is counted from indexes. Many may ask at once and often, so that a count is made once at a time and counts
for a moment: whoever asks meanwhile gets the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from services.catalog.projection import Projection
from services.catalog.queries import StoredOperation, stored_operation
from services.catalog.rows import microseconds, time_of
from services.catalog.schema import FAILED, RUNNING, Tables
from tintype.domain.lifecycle import Status
from tintype.ports.clock import Clock

FRESH = timedelta(seconds=2)
RECENT = timedelta(hours=24)
OLDEST = 5
MAX_REASONS = 50


@dataclass(frozen=True, slots=True)
class FailureCount:
    """How many operations failed for one reason, and when the newest of them did."""

    reason: str
    operations: int
    newest_at: datetime


@dataclass(frozen=True, slots=True)
class Census:
    """Images by status, the number of running operations with the ``oldest`` of them, the recent failures, and how many
    events could not be applied to the tables.
    """

    taken_at: datetime
    images: Mapping[Status, int]
    running: int
    oldest: tuple[StoredOperation, ...]
    failures: tuple[FailureCount, ...]
    parked: int


class Counting:
    """Counts what is in the tables in use."""

    def __init__(self, projection: Projection, clock: Clock) -> None:
        self._projection = projection
        self._clock = clock
        self._newest: Census | None = None
        self._running: asyncio.Task[Census] | None = None

    async def census(self) -> Census:
        """The numbers, two seconds old at most.

        Raises:
            CatalogDatabaseError: the database does not answer.
            ProjectionReplacedError: the tables are not open yet.
        """
        if self._newest is not None and self._clock.now() - self._newest.taken_at < FRESH:
            return self._newest
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._take())
        # Whoever gives up waiting leaves the count to the others: a thread of the database cannot be interrupted.
        return await asyncio.shield(self._running)

    async def _take(self) -> Census:
        now = self._clock.now()
        self._newest = await self._projection.read(lambda connection, tables: taken(connection, tables, now))
        return self._newest

    async def close(self) -> None:
        """End the count that is under way."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)


def taken(connection: Connection, tables: Tables, now: datetime) -> Census:
    """Count everything, in one transaction."""
    images, operations = tables.images.c, tables.operations.c
    by_status = connection.execute(select(images.status, func.count()).group_by(images.status))
    oldest = (
        select(*(operations[name] for name in ("state", "image_id", "project", "step", "position")))
        .where(RUNNING)
        .order_by(operations.started_at, operations.id)
        .limit(OLDEST)
    )
    return Census(
        taken_at=now,
        images={Status(status): count for status, count in by_status},
        running=connection.execute(select(func.count()).select_from(tables.operations).where(RUNNING)).scalar_one(),
        oldest=tuple(stored_operation(row) for row in connection.execute(oldest)),
        failures=_failures(connection, tables, now - RECENT),
        parked=connection.execute(select(func.count()).select_from(tables.parked)).scalar_one(),
    )


def _failures(connection: Connection, tables: Tables, since: datetime) -> tuple[FailureCount, ...]:
    columns = tables.operations.c
    count = func.count().label("count")
    query = (
        select(columns.reason, count, func.max(columns.ended_at))
        .where(FAILED, columns.ended_at >= microseconds(since))
        .group_by(columns.reason)
        .order_by(count.desc(), columns.reason)
        .limit(MAX_REASONS)
    )
    return tuple(FailureCount(reason, number, time_of(newest)) for reason, number, newest in connection.execute(query))
