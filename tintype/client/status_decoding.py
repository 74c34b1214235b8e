"""From the services' messages about a deployment's state to the SDK's models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.runtime.v1 import runtime_pb2
from tintype.api.types.v1 import types_pb2
from tintype.client import decoding
from tintype.client.decoding import understood
from tintype.client.status_models import (
    FailureCount,
    LogReplica,
    LogStatus,
    OperationsStatus,
    ProjectionStatus,
    Queue,
    ServiceInfo,
)
from tintype.codec import service_info, values
from tintype.domain.events import Failure

T = TypeVar("T")


class _Part(Protocol):
    """A part of the answer."""

    @property
    def failure(self) -> types_pb2.Failure:
        """Why it is not known."""
        ...


P = TypeVar("P", bound=_Part)


@dataclass(slots=True)
class CatalogReport:
    """What the catalog told; ``unknown`` is why a part is ``None``."""

    log: LogStatus | None = None
    projection: ProjectionStatus | None = None
    queues: tuple[Queue, ...] | None = None
    images: Mapping[str, int] | None = None
    operations: OperationsStatus | None = None
    replicas: tuple[ServiceInfo, ...] | None = None
    unknown: dict[str, Failure] = field(default_factory=dict)


def report(message: pb.SystemStatus) -> CatalogReport:
    """The whole report.

    Raises:
        ServiceDefectError: it has values that this release does not know.
    """
    told = CatalogReport()

    def part(name: str, its: P, decode: Callable[[P], T]) -> T | None:
        if its.failure.reason:
            told.unknown[name] = values.decode_failure(its.failure)
            return None
        return decode(its)

    with understood("the status"):
        told.log = part("log", message.log, _log)
        told.projection = part("projection", message.projection, _projection)
        told.queues = part("queues", message.work, _queues)
        told.images = part("images", message.images, _images)
        told.operations = part("operations", message.operations, _operations)
        told.replicas = part("replicas", message.replicas, _replicas)
    return told


def info(message: runtime_pb2.ServiceInfo) -> ServiceInfo:
    """What a replica tells of itself.

    Raises:
        ServiceDefectError: it has values that this release does not know.
    """
    with understood("what a service tells of itself"):
        return service_info.decode(message)


def _log(message: pb.LogStatus) -> LogStatus:
    return LogStatus(
        server_version=message.server_version,
        cluster=message.cluster,
        head=message.head,
        newest_at=values.decode_time(message.newest_at) if message.HasField("newest_at") else None,
        size_bytes=message.size,
        replicas=message.replicas,
        members=tuple(
            LogReplica(each.name, each.leader, each.current, each.offline, each.lag) for each in message.members
        ),
    )


def _projection(message: pb.ProjectionStatus) -> ProjectionStatus:
    return ProjectionStatus(
        position=message.position,
        caught_up=message.caught_up,
        lag_events=message.lag_events if message.HasField("lag_events") else None,
        lag_s=message.lag_seconds if message.HasField("lag_seconds") else None,
        rebuild_position=message.rebuild_position if message.HasField("rebuild_position") else None,
        parked_events=message.parked_events,
    )


def _queues(message: pb.WorkStatus) -> tuple[Queue, ...]:
    return tuple(
        Queue(each.name, each.pending, each.in_hand, each.redelivered, each.waiting_workers) for each in message.queues
    )


def _images(message: pb.ImagesStatus) -> Mapping[str, int]:
    return {values.STATUS.decode(each.status).value: each.images for each in message.counts}


def _operations(message: pb.OperationsStatus) -> OperationsStatus:
    failures = tuple(
        FailureCount(each.reason, each.operations, values.decode_time(each.newest_at)) for each in message.failures
    )
    return OperationsStatus(message.running, tuple(map(decoding.operation, message.oldest)), failures)


def _replicas(message: pb.ReplicasStatus) -> tuple[ServiceInfo, ...]:
    return tuple(service_info.decode(each) for each in message.services)
