"""How the log, the tables and the work are, for operators.

All parts are asked at once, each with its own deadline: one that does not answer is told as such, and hides no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from services.catalog import generations
from services.catalog.census import Census, Counting
from services.catalog.database import Database
from services.catalog.generations import Generation
from services.catalog.operations import OperationView, ProgressBoard
from services.catalog.projector import Projector
from services.catalog.schema import schema_version
from tintype.domain.errors import TintypeError, UnavailableError
from tintype.domain.events import Failure
from tintype.domain.image import failure_of
from tintype.ports.clock import Clock
from tintype.ports.log_state import LogState, LogStateSource, QueueState
from tintype.ports.service_info import RollCall, ServiceInfo

PART_TIMEOUT_S = 3.0
ROLL_CALL_S = 0.3

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ProjectionState:
    """How far the tables in use are; the lag is ``None`` while the log does not answer.

    ``rebuild_position`` is how far new tables are that are being built beside them.
    """

    position: int
    is_caught_up: bool
    lag_events: int | None
    lag_s: float | None
    rebuild_position: int | None


@dataclass(frozen=True, slots=True)
class Numbers:
    """The census, with how far the oldest operations are."""

    census: Census
    oldest: tuple[OperationView, ...]


@dataclass(frozen=True, slots=True)
class SystemStatus:
    """Everything; a part that did not answer is its failure."""

    log: LogState | Failure
    projection: ProjectionState | Failure
    queues: Sequence[QueueState] | Failure
    numbers: Numbers | Failure
    replicas: Sequence[ServiceInfo] | Failure


@dataclass(frozen=True, slots=True)
class LogSources:
    """Whom to ask about the log, and who is there."""

    state: LogStateSource
    roll_call: RollCall


class StatusReports:
    """Makes one report at a time for each who asks."""

    def __init__(
        self,
        sources: LogSources,
        database: Database,
        projector: Projector,
        counting: Counting,
        board: ProgressBoard,
        clock: Clock,
    ) -> None:
        self._log = sources.state
        self._roll_call = sources.roll_call
        self._database = database
        self._projector = projector
        self._counting = counting
        self._board = board
        self._clock = clock

    async def report(self) -> SystemStatus:
        """How everything is; takes :data:`PART_TIMEOUT_S` at most, and raises nothing."""
        log, queues, numbers, replicas, tables = await asyncio.gather(
            _answer(self._log.log_state()),
            _answer(self._log.queue_states()),
            _answer(self._numbers()),
            _answer(self._roll_call.ask(ROLL_CALL_S)),
            _answer(self._database.read(generations.listed)),
        )
        projection = tables if isinstance(tables, Failure) else await self._projection(tables, log)
        return SystemStatus(log, projection, queues, numbers, replicas)

    async def _numbers(self) -> Numbers:
        await self._projector.check()
        census = await self._counting.census()
        views = []
        for stored in census.oldest:
            progress = self._board.of(stored.operation.id)
            views.append(OperationView(stored, progress if progress and progress.step is stored.step else None))
        return Numbers(census, tuple(views))

    async def _projection(self, tables: Sequence[Generation], log: LogState | Failure) -> ProjectionState:
        mine = [table for table in tables if table.schema_version == schema_version()]
        building = [table.position for table in mine if not table.is_active]
        is_caught_up = self._projector.is_caught_up
        position = self._projector.position
        lag_events = lag_s = None
        if isinstance(log, LogState):
            lag_events = max(log.head - position, 0)
            lag_s = await self._lag_s(position) if lag_events else 0.0
        return ProjectionState(position, is_caught_up, lag_events, lag_s, max(building, default=None))

    async def _lag_s(self, position: int) -> float | None:
        recorded_at = await _answer(self._log.recorded_at(position + 1))
        if recorded_at is None or isinstance(recorded_at, Failure):
            return None
        return max((self._clock.now() - recorded_at).total_seconds(), 0.0)


async def _answer(asked: Awaitable[T]) -> T | Failure:
    try:
        async with asyncio.timeout(PART_TIMEOUT_S):
            return await asked
    except TintypeError as exc:
        return failure_of(exc)
    except TimeoutError:
        return failure_of(UnavailableError("no answer in time"))
