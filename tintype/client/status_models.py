"""What the SDK answers about a deployment as a whole: what there is, how it is, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tintype.client.models import Operation
from tintype.client.store_models import Store
from tintype.domain.events import Failure
from tintype.ports.image_store import Grade
from tintype.ports.service_info import Certificate, Check, ServiceInfo

__all__ = [
    "Certificate",
    "Check",
    "FailureCount",
    "LogReplica",
    "LogStatus",
    "OperationsStatus",
    "Problem",
    "ProjectionStatus",
    "Queue",
    "ServiceInfo",
    "ServiceStatus",
    "SystemStatus",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it should be: ``bad`` does not work, ``doubtful`` works and wants to be looked at.

    ``part`` is what it is about: a service, ``log``, ``projection``, ``queue NAME``, ``store NAME``, …
    """

    grade: Grade
    part: str
    message: str
    reason: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """A service: whether it answers at ``address``, and is ``ready`` for calls.

    ``replicas`` are those that are known: the one that answered, and all that answered the catalog's roll call.
    ``failure`` says why nothing, or not everything, is known of it.
    """

    service: str
    address: str
    answers: bool
    ready: bool
    replicas: tuple[ServiceInfo, ...]
    failure: Failure | None

    @property
    def versions(self) -> tuple[str, ...]:
        """Of its replicas, each once."""
        return tuple(sorted({replica.version for replica in self.replicas}))


@dataclass(frozen=True, slots=True)
class LogReplica:
    """One server's copy of the log; ``lag`` is how many changes it is behind."""

    name: str
    leader: bool
    current: bool
    offline: bool
    lag: int


@dataclass(frozen=True, slots=True)
class LogStatus:
    """The event log, and the NATS that keeps it; ``size_bytes`` is of one copy, ``members`` are empty without cluster.

    ``head`` is the position of the newest event, ``newest_at`` when it came.
    """

    server_version: str
    cluster: str
    head: int
    newest_at: datetime | None
    size_bytes: int
    replicas: int
    members: tuple[LogReplica, ...]


@dataclass(frozen=True, slots=True)
class ProjectionStatus:
    """The catalog's tables; the lag is ``None`` while the log does not answer.

    Before they are ``caught_up`` the catalog answers no calls. ``rebuild_position`` is how far new tables are that are
    being built beside them; ``parked_events`` could not be applied.
    """

    position: int
    caught_up: bool
    lag_events: int | None
    lag_s: float | None
    rebuild_position: int | None
    parked_events: int


@dataclass(frozen=True, slots=True)
class Queue:
    """A work queue: events that ``pending`` nobody was handed yet, those ``in_hand`` or resting until they are tried
    again, those of them that were ``redelivered``, and how many workers wait for an event.
    """

    name: str
    pending: int
    in_hand: int
    redelivered: int
    waiting_workers: int


@dataclass(frozen=True, slots=True)
class FailureCount:
    """How many operations failed for one reason, and when the newest of them did."""

    reason: str
    operations: int
    newest_at: datetime


@dataclass(frozen=True, slots=True)
class OperationsStatus:
    """How many operations run, the ``oldest`` of them, and the ``failures`` of the last 24 hours by reason."""

    running: int
    oldest: tuple[Operation, ...]
    failures: tuple[FailureCount, ...]


@dataclass(frozen=True, slots=True)
class SystemStatus:
    """A deployment at a glance. ``grade`` is that of the worst problem, which comes first in ``problems``.

    What could not be found out is ``None``, and ``unknown`` says why, by the field's name.
    """

    taken_at: datetime
    grade: Grade
    problems: tuple[Problem, ...]
    services: tuple[ServiceStatus, ...]
    log: LogStatus | None
    projection: ProjectionStatus | None
    queues: tuple[Queue, ...] | None
    images: Mapping[str, int] | None
    operations: OperationsStatus | None
    stores: tuple[Store, ...] | None
    unknown: Mapping[str, Failure]
