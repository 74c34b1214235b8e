"""Status reports as messages."""

from __future__ import annotations

from services.catalog.operations_servicer import encode_view
from services.catalog.system_status import Numbers, ProjectionState, SystemStatus
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.codec import service_info, values
from tintype.domain.events import Failure
from tintype.ports.log_state import LogState

MAX_REASON = 100
"""Characters: events of other programs may have reasons of any length."""


def encode_status(status: SystemStatus) -> pb.SystemStatus:
    """A whole report."""
    return pb.SystemStatus(
        log=_log(status.log),
        projection=_projection(status.projection, status.numbers),
        work=_work(status),
        images=_images(status.numbers),
        operations=_operations(status.numbers),
        replicas=_replicas(status),
    )


def _log(log: LogState | Failure) -> pb.LogStatus:
    if isinstance(log, Failure):
        return pb.LogStatus(failure=values.encode_failure(log))
    return pb.LogStatus(
        server_version=log.server_version,
        cluster=log.cluster,
        head=log.head,
        newest_at=values.encode_time(log.newest_at) if log.newest_at else None,
        size=log.size_bytes,
        replicas=log.replicas,
        members=[
            pb.LogReplica(
                name=each.name, leader=each.is_leader, current=each.is_current, offline=each.is_offline, lag=each.lag
            )
            for each in log.members
        ],
    )


def _projection(projection: ProjectionState | Failure, numbers: Numbers | Failure) -> pb.ProjectionStatus:
    if isinstance(projection, Failure):
        return pb.ProjectionStatus(failure=values.encode_failure(projection))
    return pb.ProjectionStatus(
        position=projection.position,
        caught_up=projection.is_caught_up,
        lag_events=projection.lag_events,
        lag_seconds=projection.lag_s,
        rebuild_position=projection.rebuild_position,
        parked_events=0 if isinstance(numbers, Failure) else numbers.census.parked,
    )


def _work(status: SystemStatus) -> pb.WorkStatus:
    if isinstance(status.queues, Failure):
        return pb.WorkStatus(failure=values.encode_failure(status.queues))
    return pb.WorkStatus(
        queues=[
            pb.WorkQueue(
                name=each.name,
                pending=each.pending,
                in_hand=each.in_hand,
                redelivered=each.redelivered,
                waiting_workers=each.waiting_workers,
            )
            for each in status.queues
        ]
    )


def _images(numbers: Numbers | Failure) -> pb.ImagesStatus:
    if isinstance(numbers, Failure):
        return pb.ImagesStatus(failure=values.encode_failure(numbers))
    counts = sorted(numbers.census.images.items(), key=lambda pair: values.STATUS.encode(pair[0]))
    return pb.ImagesStatus(
        counts=[pb.StatusCount(status=values.STATUS.encode(status), images=count) for status, count in counts]
    )


def _operations(numbers: Numbers | Failure) -> pb.OperationsStatus:
    if isinstance(numbers, Failure):
        return pb.OperationsStatus(failure=values.encode_failure(numbers))
    census = numbers.census
    return pb.OperationsStatus(
        running=census.running,
        oldest=[encode_view(view) for view in numbers.oldest],
        failures=[
            pb.FailureCount(
                reason=each.reason[:MAX_REASON],
                operations=each.operations,
                newest_at=values.encode_time(each.newest_at),
            )
            for each in census.failures
        ],
    )


def _replicas(status: SystemStatus) -> pb.ReplicasStatus:
    if isinstance(status.replicas, Failure):
        return pb.ReplicasStatus(failure=values.encode_failure(status.replicas))
    return pb.ReplicasStatus(services=[service_info.encode(info) for info in status.replicas])
