"""Operations: how they stand according to the tables, how far they are according to whoever tells."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from services.catalog import queries
from services.catalog.commands import Commands, Request
from services.catalog.projection import Projection
from services.catalog.queries import StoredOperation
from services.catalog.reading import Freshness
from services.catalog.watermark import Watermark
from tintype.domain.access import Caller
from tintype.domain.errors import OperationDoneError, OperationNotFoundError, UnavailableError
from tintype.domain.events import Progress
from tintype.domain.image import Image
from tintype.domain.values import OperationId
from tintype.ports.event_log import EventLog

log = structlog.get_logger(__name__)

MAX_WAIT_S = 60.0
_MAX_PROGRESS = 10_000
_RETRY_S = 1.0


class ProgressBoard:
    """The newest progress of each operation, as far as it was heard; bounded, and lost with the process."""

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log
        self._newest: OrderedDict[OperationId, Progress] = OrderedDict()

    def of(self, operation: OperationId) -> Progress | None:
        """What was heard last."""
        return self._newest.get(operation)

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                async for progress in self._log.follow_progress():
                    self._note(progress)
            except UnavailableError as exc:
                log.warning("progress is not heard", error=str(exc))
            await asyncio.sleep(_RETRY_S)

    def _note(self, progress: Progress) -> None:
        self._newest[progress.operation_id] = progress
        self._newest.move_to_end(progress.operation_id)
        if len(self._newest) > _MAX_PROGRESS:
            self._newest.popitem(last=False)


@dataclass(frozen=True, slots=True)
class OperationView:
    """An operation, and how far its step is."""

    stored: StoredOperation
    progress: Progress | None


class Operations:
    """Answers questions about operations, which only their own project may ask."""

    def __init__(
        self,
        event_log: EventLog,
        commands: Commands,
        projection: Projection,
        watermark: Watermark,
        board: ProgressBoard,
        ready: Callable[[], Awaitable[None]],
    ) -> None:
        """``ready`` raises while the tables must not be read yet."""
        self._log = event_log
        self._commands = commands
        self._projection = projection
        self._watermark = watermark
        self._board = board
        self._ready = ready

    async def get(self, caller: Caller, operation: OperationId, freshness: Freshness) -> OperationView:
        """The operation as it stands.

        Raises:
            OperationNotFoundError: there is none for this caller.
            ProjectionLagError: the catalog is not as far as asked.
        """
        await self._ready()
        await self._watermark.reach(freshness.position, freshness.timeout_s)
        stored = await self._projection.read(lambda c, t: queries.operation_by_id(c, t, operation))
        if stored is None or not (caller.is_admin or stored.project == caller.project):
            raise OperationNotFoundError(f"no such operation: {operation}")
        # Of the running step only: what an earlier step told last says nothing about this one.
        progress = self._board.of(operation)
        return OperationView(stored, progress if progress and progress.step is stored.step else None)

    async def wait(
        self, caller: Caller, operation: OperationId, timeout_s: float, freshness: Freshness
    ) -> OperationView:
        """The operation as soon as it is done, or as it stands after ``timeout_s`` seconds, at most 60.

        Raises:
            OperationNotFoundError: there is none for this caller.
        """
        view = await self.get(caller, operation, freshness)
        try:
            async with (
                asyncio.timeout(min(max(timeout_s, 0.0), MAX_WAIT_S)),
                self._watermark.changes(view.stored.image_id) as changed,
            ):
                while True:
                    changed.clear()
                    view = await self.get(caller, operation, freshness)
                    if not view.stored.operation.is_running:
                        return view
                    await changed.wait()
        except TimeoutError:
            return view

    async def cancel(self, request: Request, operation: OperationId) -> Image:
        """End the operation; answers its image.

        Raises:
            OperationNotFoundError: there is none for this caller.
            OperationDoneError: it has ended.
        """
        view = await self._newest(request.caller, operation)
        try:
            return await self._commands.cancel(request, view.stored.image_id, operation)
        except OperationNotFoundError:  # it exists: a newer operation took its place
            raise OperationDoneError(f"operation {operation} has ended: {view.stored.operation.state}") from None

    async def _newest(self, caller: Caller, operation: OperationId) -> OperationView:
        try:
            return await self.get(caller, operation, Freshness())
        except OperationNotFoundError:
            # Perhaps it was begun a moment ago: look again when the tables are where the log is.
            return await self.get(caller, operation, Freshness(await self._log.head()))
