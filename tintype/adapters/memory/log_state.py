"""How a log in memory is; it is all there, on one server that is none."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.ports.log_state import LogState, QueueState


class MemoryLogState:
    """Looks into the log itself."""

    def __init__(self, log: MemoryEventLog) -> None:
        self._log = log

    async def log_state(self) -> LogState:
        """The log; see :meth:`tintype.ports.log_state.LogStateSource.log_state`."""
        head = await self._log.head()
        return LogState("memory", "", head, await self.recorded_at(head), size_bytes=0, replicas=1, members=())

    async def queue_states(self) -> Sequence[QueueState]:
        """All work queues; see :meth:`tintype.ports.log_state.LogStateSource.queue_states`."""
        return self._log.queue_states()

    async def recorded_at(self, position: int) -> datetime | None:
        """When it was appended; see :meth:`tintype.ports.log_state.LogStateSource.recorded_at`."""
        return self._log.recorded_at(position)
