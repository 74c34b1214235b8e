"""What is wrong with a deployment, by what it tells of itself. Pure: the same answers give the same judgement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from tintype.client.models import Operation
from tintype.client.status_decoding import CatalogReport
from tintype.client.status_models import (
    LogStatus,
    OperationsStatus,
    Problem,
    ProjectionStatus,
    Queue,
    ServiceInfo,
    ServiceStatus,
    SystemStatus,
)
from tintype.client.store_models import Store
from tintype.domain import errors
from tintype.domain.events import Failure
from tintype.ports.image_store import Grade, StoreMode

LAG_S = 30.0
"""Behind by more, the catalog shows what is no longer so."""

EXPIRY = timedelta(days=14)
"""Certificates are renewed long before."""

STORE_CHECK = "store "
"""Before a store's name, what the checks of it are called."""

OPERATORS_REASONS = frozenset(
    error.reason for error in errors.every_error() if issubclass(error, errors.UnavailableError | errors.InternalError)
)
"""Failures that are the deployment's own; all others are for whoever sent the image."""

_ORDER = (Grade.BAD, Grade.DOUBTFUL, Grade.GOOD)


def judged(
    taken_at: datetime,
    services: tuple[ServiceStatus, ...],
    report: CatalogReport,
    stores: tuple[Store, ...] | None,
    unknown: Mapping[str, Failure],
) -> SystemStatus:
    """The status, with what is wrong: the worst first."""
    problems = [
        *_of_services(services, stores or (), unknown, taken_at),
        *_of_unknown(services, unknown),
        *(_of_log(report.log) if report.log else ()),
        *(_of_projection(report.projection) if report.projection else ()),
        *(problem for queue in report.queues or () for problem in _of_queue(queue)),
        *(_of_operations(report.operations) if report.operations else ()),
        *(problem for store in stores or () for problem in _of_store(store)),
    ]
    problems = sorted(_merged(problems), key=lambda problem: _ORDER.index(problem.grade))
    return SystemStatus(
        taken_at=taken_at,
        grade=problems[0].grade if problems else Grade.GOOD,
        problems=tuple(problems),
        services=tuple(sorted(services, key=_is_fine)),
        log=report.log,
        projection=report.projection,
        queues=report.queues,
        images=report.images,
        operations=report.operations,
        stores=stores,
        unknown=unknown,
    )


def _is_fine(service: ServiceStatus) -> bool:
    return service.ready and (service.answers or not service.address)


def _merged(problems: list[Problem]) -> Iterator[Problem]:
    """One problem for each cause: a log that is away is the trouble of all services alike."""
    causes: dict[tuple[Grade, str, str], list[Problem]] = {}
    for problem in problems:
        causes.setdefault((problem.grade, problem.message, problem.reason), []).append(problem)
    for alike in causes.values():
        yield replace(alike[0], part=", ".join(dict.fromkeys(problem.part for problem in alike)))


def _of_services(
    services: tuple[ServiceStatus, ...], stores: tuple[Store, ...], unknown: Mapping[str, Failure], now: datetime
) -> Iterator[Problem]:
    told = {(f"{STORE_CHECK}{store.name}", store.failure.reason) for store in stores if store.failure}
    for service in services:
        if service.address and not service.answers and service.failure:
            yield _failed(service.service, f"does not answer at {service.address}", service.failure)
        elif not service.ready:
            yield from _of_unready(service)
        elif service.failure and service.failure not in unknown.values():
            why = "tells nothing of itself: "
            yield _failed(service.service, f"{why}{service.failure.message}", service.failure, Grade.DOUBTFUL)
        for replica in service.replicas:
            yield from _of_checks(service, replica, told)
            yield from _of_certificates(replica, now)
    versions = sorted({version for service in services for version in service.versions})
    if len(versions) > 1:
        message = f"several versions run beside each other: {', '.join(versions)}"
        yield Problem(Grade.DOUBTFUL, "services", message, "SEVERAL_VERSIONS", "Finish the upgrade, or undo it.")


def _of_unready(service: ServiceStatus) -> Iterator[Problem]:
    """Said of the service itself only where no check of it says why."""
    if not any(not check.ok and check.required for replica in service.replicas for check in replica.checks):
        yield Problem(Grade.BAD, service.service, "is not ready", "NOT_READY", "Its log says why.")


def _of_checks(service: ServiceStatus, replica: ServiceInfo, told: set[tuple[str, str]]) -> Iterator[Problem]:
    """All that fail, but for a store whose own line says the same."""
    where = f" (on {replica.instance})" if len(service.replicas) > 1 else ""
    for check in replica.checks:
        if check.failure and (check.name, check.failure.reason) not in told:
            yield _failed(service.service, f"{check.name}: {check.failure.message}{where}", check.failure)


def _of_certificates(replica: ServiceInfo, now: datetime) -> Iterator[Problem]:
    for certificate in replica.certificates:
        left = certificate.expires_at - now
        if left < EXPIRY:
            is_over = left <= timedelta()
            when = "has expired" if is_over else f"expires in {left.days} days"
            yield Problem(
                Grade.BAD if is_over else Grade.DOUBTFUL,
                replica.service,
                f"the certificate {certificate.file} {when}",
                "CERTIFICATE_EXPIRED" if is_over else "CERTIFICATE_EXPIRES",
                "Put a new one in its place: it is read again without a restart.",
            )


def _of_unknown(services: tuple[ServiceStatus, ...], unknown: Mapping[str, Failure]) -> Iterator[Problem]:
    """What nobody could tell; of a service that is away that has been said already."""
    away = {service.service for service in services if not service.answers}
    for part, failure in unknown.items():
        if ("importer" if part == "stores" else "catalog") not in away:
            yield Problem(Grade.BAD, part, failure.message, failure.reason, failure.hint)


def _of_log(log: LogStatus) -> Iterator[Problem]:
    hint = "Look at that nats-server; with a second one away nothing can be written."
    for member in log.members:
        if member.offline:
            yield Problem(Grade.BAD, "log", f"its copy on {member.name} is offline", "LOG_REPLICA_OFFLINE", hint)
        elif not member.current:
            message = f"its copy on {member.name} is {member.lag} changes behind"
            yield Problem(Grade.DOUBTFUL, "log", message, "LOG_REPLICA_BEHIND", hint)
    if log.members and not any(member.leader for member in log.members):
        yield Problem(Grade.BAD, "log", "it has no leader: nothing can be written", "LOG_LEADERLESS", hint)


def _of_projection(projection: ProjectionStatus) -> Iterator[Problem]:
    behind = f"{projection.lag_events} events" if projection.lag_events is not None else "an unknown number of events"
    if not projection.caught_up:
        yield Problem(
            Grade.BAD,
            "projection",
            f"the tables are being built, and {behind} behind",
            "PROJECTION_LAG",
            "Wait; the catalog answers once they have caught up.",
        )
    elif projection.lag_s is not None and projection.lag_s > LAG_S:
        message = f"the tables are {behind} and {projection.lag_s:.0f} s behind the log"
        hint = "Look at the catalog's log and at its database."
        yield Problem(Grade.BAD, "projection", message, "PROJECTION_LAG", hint)
    if projection.parked_events:
        message = f"{projection.parked_events} events could not be applied"
        hint = "The catalog's log names them; `tintype admin check-log` finds what is damaged."
        yield Problem(Grade.DOUBTFUL, "projection", message, "EVENTS_PARKED", hint)
    if projection.rebuild_position is not None and projection.caught_up:
        message = f"new tables are being built, and are at {projection.rebuild_position}"
        yield Problem(Grade.DOUBTFUL, "projection", message, "REBUILD_RUNS", "Nothing needs to be done.")


def _of_queue(queue: Queue) -> Iterator[Problem]:
    part = f"queue {queue.name}"
    if queue.pending and not queue.in_hand and not queue.waiting_workers:
        message = f"{queue.pending} events wait, and nobody works on them"
        yield Problem(Grade.BAD, part, message, "QUEUE_ABANDONED", "Start the service that works on it.")
    elif queue.redelivered:
        message = f"{queue.redelivered} events are being tried again"
        hint = "The log of the service that works on it says why."
        yield Problem(Grade.DOUBTFUL, part, message, "WORK_REPEATED", hint)


def _of_operations(operations: OperationsStatus) -> Iterator[Problem]:
    for operation in operations.oldest:
        waiting_for = operation.progress.waiting_for if operation.progress else None
        if waiting_for:
            yield _failed("operations", _waits(operation, waiting_for), waiting_for, Grade.DOUBTFUL)
    for each in operations.failures:
        if each.reason in OPERATORS_REASONS:
            message = f"{each.operations} operations failed in 24 hours, the last at {each.newest_at:%Y-%m-%d %H:%M}Z"
            yield Problem(Grade.DOUBTFUL, "operations", message, each.reason)


def _waits(operation: Operation, failure: Failure) -> str:
    return f"{operation.step} of image {operation.image_id} waits: {failure.message}"


def _of_store(store: Store) -> Iterator[Problem]:
    if store.mode is StoreMode.READ_WRITE and not store.failure:
        return
    is_away = store.mode is StoreMode.AWAY
    message = store.failure.message if store.failure else f"it is {store.mode}"
    reason = store.failure.reason if store.failure else "STORE_READ_ONLY"
    hint = (store.failure.hint if store.failure else "") or f"`tintype store check {store.name}` looks at everything."
    grade = Grade.BAD if is_away or store.is_default else Grade.DOUBTFUL
    yield Problem(grade, f"{STORE_CHECK}{store.name}", message, reason, hint)


def _failed(part: str, message: str, failure: Failure, grade: Grade = Grade.BAD) -> Problem:
    return Problem(grade, part, message, failure.reason, failure.hint)
