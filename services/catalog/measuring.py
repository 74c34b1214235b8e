"""What the catalog tells of the whole deployment: how far behind the log it is, and what there is in it.

It asks beside everything else, and what it cannot find out it does not tell.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable

import structlog

from services.catalog.census import Counting
from services.catalog.projector import Projector
from tintype.domain.errors import TintypeError
from tintype.domain.lifecycle import Status
from tintype.ports.clock import Clock
from tintype.ports.event_log import EventLog
from tintype.runtime.metrics import (
    IMAGES,
    LOG_HEAD,
    OLDEST_OPERATION_SECONDS,
    OPERATIONS_RUNNING,
    PROJECTION_LAG_SECONDS,
)

log = structlog.get_logger(__name__)

HEAD_INTERVAL_S = 5.0
CENSUS_INTERVAL_S = 30.0
_LARGEST_SHARE = 0.05
"""Of the time, that a census may take: where it takes long it is taken seldom."""

_MAX_SAMPLES = 1024


class ProjectionLag:
    """For how long events have been in the log that the tables do not have; as exact as the log is asked often."""

    def __init__(self, position: Callable[[], int], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._position = position
        self._monotonic = monotonic
        self._heads: deque[tuple[float, int]] = deque()
        """When the log was first seen to be so far, oldest first; bounded, as the newest may be left out."""

    def note_head(self, head: int) -> None:
        """Remember how far the log is now."""
        newest = self._heads[-1][1] if self._heads else 0
        if head > max(newest, self._position()) and len(self._heads) < _MAX_SAMPLES:
            self._heads.append((self._monotonic(), head))

    def seconds(self) -> float:
        """Since when there is more in the log than in the tables; 0 where they have all that is known of."""
        position = self._position()
        while self._heads and self._heads[0][1] <= position:
            self._heads.popleft()
        return self._monotonic() - self._heads[0][0] if self._heads else 0.0


class Measuring:
    """Asks the log and the tables, until cancelled."""

    def __init__(self, event_log: EventLog, counting: Counting, projector: Projector, clock: Clock) -> None:
        self._log = event_log
        self._counting = counting
        self._clock = clock
        self._projector = projector
        self._lag = ProjectionLag(lambda: projector.position)

    async def run(self) -> None:
        """Measure again and again."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_head())
            tasks.create_task(self._count_images())

    async def measure_head(self) -> None:
        """Ask the log how far it is.

        Raises:
            EventLogUnavailableError: it does not answer.
        """
        head = await self._log.head()
        LOG_HEAD.set(head)
        self._lag.note_head(head)

    async def measure_images(self) -> None:
        """Count what the tables have.

        Raises:
            CatalogDatabaseError: the database does not answer.
        """
        census = await self._counting.census()
        for status in Status:
            IMAGES.labels(status.value).set(census.images.get(status, 0))
        OPERATIONS_RUNNING.set(census.running)
        oldest = census.oldest[0].operation.started_at if census.oldest else None
        OLDEST_OPERATION_SECONDS.set(max((self._clock.now() - oldest).total_seconds(), 0.0) if oldest else 0.0)

    async def _watch_head(self) -> None:
        while True:
            try:
                await self.measure_head()
            except TintypeError as exc:
                log.debug("the log's head is not known", error=str(exc))
            PROJECTION_LAG_SECONDS.set(self._lag.seconds())
            await asyncio.sleep(HEAD_INTERVAL_S)

    async def _count_images(self) -> None:
        _forget_images()
        await self._projector.caught_up()
        while True:
            begin = time.monotonic()
            try:
                await self.measure_images()
            except TintypeError as exc:
                _forget_images()
                log.debug("images were not counted", error=str(exc))
            taken_s = time.monotonic() - begin
            await asyncio.sleep(max(CENSUS_INTERVAL_S, taken_s / _LARGEST_SHARE))


def _forget_images() -> None:
    """Tell no number: an old one would look like a good one. What has no labels is there all the same, as no number."""
    IMAGES.clear()
    OPERATIONS_RUNNING.set(math.nan)
    OLDEST_OPERATION_SECONDS.set(math.nan)
