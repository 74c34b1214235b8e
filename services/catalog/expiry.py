"""Ends the deletions whose delay has passed: finds them in the tables, and appends that they have.

Every replica looks. The command is named after the image and the version that was found, so that one event comes of it,
and the log's own state decides: what was restored meanwhile, or deleted anew, is left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from services.catalog import queries
from services.catalog.projection import Projection
from services.catalog.queries import Waiting
from services.catalog.rows import microseconds
from tintype.domain.commands import ExpireImage
from tintype.domain.errors import TintypeError, UnavailableError
from tintype.domain.events import EventContext
from tintype.domain.values import CommandId
from tintype.ports.clock import Clock
from tintype.runtime.journal import Journal

log = structlog.get_logger(__name__)

ACTOR = "service:catalog"
INTERVAL_S = 5.0
"""Between two looks; each is one question to an index that holds only what waits."""

_BATCH = 100

Sleep = Callable[[float], Awaitable[object]]


class Expiry:
    """Looks for deletions that are due, until cancelled."""

    def __init__(
        self,
        journal: Journal,
        projection: Projection,
        clock: Clock,
        caught_up: Callable[[], Awaitable[None]],
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """``caught_up`` answers once the tables are as new as the log was at the start."""
        self._journal = journal
        self._projection = projection
        self._clock = clock
        self._caught_up = caught_up
        self._sleep = sleep

    async def run(self) -> None:
        """Look again and again, until cancelled; what failed is tried again the next time."""
        await self._caught_up()
        while True:
            try:
                await self.round()
            except UnavailableError as exc:
                log.warning("deletions that are due have to wait", reason=exc.reason, error=str(exc))
            except Exception:  # what ends a background task ends the process, and with it the catalog
                log.exception("expiry crashed")
            await self._sleep(INTERVAL_S)

    async def round(self) -> int:
        """End every deletion that is due; answers how many were.

        Raises:
            UnavailableError: the log or the tables do not answer; those that are left are still due.
        """
        now, after, ended = microseconds(self._clock.now()), (0, ""), 0
        while True:
            due = partial(queries.deletions_due, now=now, after=after, limit=_BATCH)
            found = await self._projection.read(due)
            for waiting in found:
                ended += await self._end(waiting)
            if len(found) < _BATCH:
                return ended
            after = (found[-1].purge_after, found[-1].image_id)

    async def _end(self, waiting: Waiting) -> bool:
        command_id = CommandId(f"expire:{waiting.image_id}:{waiting.version}")
        try:
            await self._journal.execute(
                waiting.image_id,
                ExpireImage,
                project=waiting.project,
                command_id=command_id,
                context=EventContext(actor=ACTOR, correlation_id=command_id, causation_id=command_id),
            )
        except UnavailableError:
            raise
        except TintypeError as exc:  # restored or ended by somebody else: the tables will say so in a moment
            log.info("deletion was left alone", image_id=waiting.image_id, reason=exc.reason)
            return False
        log.info("image expired", image_id=waiting.image_id)
        return True
