"""How the log itself is, for those who look after it: where its copies are, and what its work queues hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LogMember:
    """One server's copy of the log: ``lag`` is how many changes it is behind the leader's."""

    name: str
    is_leader: bool
    is_current: bool
    is_offline: bool
    lag: int


@dataclass(frozen=True, slots=True)
class LogState:
    """The log as the server tells it; ``size_bytes`` is of one copy, ``members`` are empty for a single server."""

    server_version: str
    cluster: str
    head: int
    newest_at: datetime | None
    size_bytes: int
    replicas: int
    members: tuple[LogMember, ...]


@dataclass(frozen=True, slots=True)
class QueueState:
    """A work queue: events that nobody was handed yet, those that are in hand or rest until they are tried again, those
    of them that were handed out before, and how many workers wait for an event.
    """

    name: str
    pending: int
    in_hand: int
    redelivered: int
    waiting_workers: int


class LogStateSource(Protocol):
    """Who can be asked how the log is. All methods raise ``EventLogUnavailableError`` where no answer comes in time."""

    async def log_state(self) -> LogState:
        """The log, and where its copies are."""
        ...

    async def queue_states(self) -> Sequence[QueueState]:
        """All work queues, by name."""
        ...

    async def recorded_at(self, position: int) -> datetime | None:
        """When the event at ``position`` was appended, by the log's own clock; ``None`` where there is none."""
        ...
