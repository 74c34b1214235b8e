"""A deployment's status as a person reads it: what is wrong first, and then everything in as few lines as can be.

Colours only repeat what words say. Nothing is cut where a terminal is narrow: lines are folded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from tintype.cli.plain import escaped, plain, size_text

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from tintype.client import (
        Failure,
        LogReplica,
        LogStatus,
        Operation,
        OperationsStatus,
        ProjectionStatus,
        Queue,
        ServiceStatus,
        Store,
        SystemStatus,
    )

_STYLES: Mapping[str, str] = {"good": "green", "doubtful": "yellow", "bad": "bold red"}
_NOT_KNOWN = "Not known"
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400

T = TypeVar("T")

Row = tuple[str, str]
"""A heading, and what stands beside it."""


def shown(status: SystemStatus) -> RenderableType:
    """The whole, in one screen where little is wrong."""
    from rich.console import Group

    parts: list[RenderableType] = [_headline(status)]
    if status.problems:
        parts.append(_problems(status))
    parts += [_services(status.services, status.taken_at), _facts(rows_of(status))]
    return Group(*parts)


def rows_of(status: SystemStatus) -> list[Row]:
    """Everything but problems and services, in one line each where it fits."""
    now = status.taken_at
    return [
        *_row("Log", status.log, lambda log: [_log(log, now)]),
        *_row("Tables", status.projection, lambda tables: [_projection(tables)]),
        *_row("Queues", status.queues, _queues),
        *_row("Images", status.images, lambda images: [_images(images)]),
        *_row("Operations", status.operations, lambda operations: _operations(operations, now)),
        *_row("Failed in 24 h", status.operations, lambda operations: _failures(operations, now)),
        *_row("Stores", status.stores, lambda stores: [_store(store, now) for store in stores]),
        *_row("Certificates", _certificates(status), list),
        *_row(_NOT_KNOWN, status.unknown, _unknown),
    ]


def _headline(status: SystemStatus) -> Text:
    from rich.text import Text

    counts = [(grade, sum(p.grade == grade for p in status.problems)) for grade in ("bad", "doubtful")]
    said = ", ".join(f"{count} {grade}" for grade, count in counts if count)
    verdict = {"good": "All is well", "doubtful": "Everything works", "bad": "Not well"}[status.grade]
    line = Text(verdict + (f": {said}" if said else ""), style=_STYLES[status.grade])
    return line.append(f"  {_stamp(status.taken_at)}", style="dim")


def _problems(status: SystemStatus) -> Table:
    from rich.text import Text

    table = _grid(3)
    for problem in status.problems:
        text = Text(escaped(f"{problem.message} [{problem.reason}]"))
        if problem.hint:
            text.append(escaped(f"\n{problem.hint}").replace("\\n", "\n", 1), style="dim")
        table.add_row(Text(problem.grade, style=_STYLES[problem.grade]), Text(escaped(problem.part)), text)
    return table


def _services(services: Sequence[ServiceStatus], now: datetime) -> Table:
    from rich.text import Text

    table = _grid(3)
    for service in services:
        state = _state(service)
        style = _STYLES["good" if state == "ready" else "bad"]
        table.add_row(
            Text(escaped(service.service), style="bold"),
            Text(state, style=style),
            Text(escaped(", ".join(filter(None, (service.address, *_replicas(service, now)))))),
        )
    return table


def _state(service: ServiceStatus) -> str:
    if service.address and not service.answers:
        return "away"
    return "ready" if service.ready else "not ready"


def _replicas(service: ServiceStatus, now: datetime) -> Iterable[str]:
    if service.versions:
        yield f"version {', '.join(service.versions)}"
    replicas = service.replicas
    if len(replicas) > 1:
        ready = sum(replica.ready for replica in replicas)
        yield f"{len(replicas)} replicas" if ready == len(replicas) else f"{ready} of {len(replicas)} replicas ready"
    if replicas:
        yield f"up {_duration(now - max(replica.started_at for replica in replicas))}"
    checks = [check for replica in replicas for check in replica.checks]
    failing = sum(not check.ok for check in checks)
    if failing:
        yield f"{failing} of {len(checks)} checks fail"


def _log(log: LogStatus, now: datetime) -> str:
    said = [f"position {log.head}" + (f", {_duration(now - log.newest_at)} ago" if log.newest_at else "")]
    said += [size_text(log.size_bytes), f"nats-server {log.server_version}"]
    members = [f"{member.name}{_member(member)}" for member in log.members]
    said.append(f"{log.replicas} copies in {log.cluster}: {', '.join(members)}" if members else "1 copy")
    return "; ".join(said)


def _member(member: LogReplica) -> str:
    if member.offline:
        return " (offline)"
    if member.leader:
        return " (leader)"
    return "" if member.current else " (behind)"


def _projection(projection: ProjectionStatus) -> str:
    said = f"position {projection.position}"
    if projection.lag_events is None:
        said += ", nobody knows how far behind"
    elif projection.lag_events:
        seconds = "" if projection.lag_s is None else f" and {projection.lag_s:.1f} s"
        said += f", {projection.lag_events} events{seconds} behind"
    else:
        said += ", nothing behind"
    if not projection.caught_up:
        said += "; catching up"
    if projection.rebuild_position is not None:
        said += f"; new ones are being built, at {projection.rebuild_position}"
    if projection.parked_events:
        said += f"; {projection.parked_events} events could not be applied"
    return said


def _queues(queues: Sequence[Queue]) -> list[str]:
    busy = [queue for queue in queues if queue.pending or queue.in_hand]
    busy.sort(key=lambda queue: (-queue.redelivered, -queue.pending, queue.name))
    lines = []
    for queue in busy:
        again = f", {queue.redelivered} of them again" if queue.redelivered else ""
        lines.append(f"{queue.name}: {queue.pending} waiting, {queue.in_hand} in hand{again}")
    idle = [queue.name for queue in queues if queue not in busy]
    return [*lines, *([f"empty: {', '.join(idle)}"] if idle else ())] or ["none yet"]


def _images(images: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in images.items()) or "none"


def _operations(operations: OperationsStatus, now: datetime) -> list[str]:
    if not operations.running:
        return ["none running"]
    more = operations.running - len(operations.oldest)
    return [*(_operation(each, now) for each in operations.oldest), *([f"and {more} more"] if more > 0 else ())]


def _operation(operation: Operation, now: datetime) -> str:
    said = f"{operation.kind} of image {operation.image_id}"
    if operation.started_at:
        said += f", for {_duration(now - operation.started_at)}"
    said += f": {operation.step or 'waiting for bytes'}"
    progress = operation.progress
    if progress:
        said += f" {size_text(progress.done)}" + (f" of {size_text(progress.total)}" if progress.total else "")
        if progress.waiting_for:
            said += f", waits: {progress.waiting_for.message} [{progress.waiting_for.reason}]"
    return said


def _failures(operations: OperationsStatus, now: datetime) -> list[str]:
    return [
        f"{each.operations} × {each.reason}, the last {_duration(now - each.newest_at)} ago"
        for each in operations.failures
    ]


def _store(store: Store, now: datetime) -> str:
    said = f"{store.name}: {store.kind}, {store.mode}"
    if store.failure:
        said += f" [{store.failure.reason}]"
    if store.since:
        said += f" for {_duration(now - store.since)}"
    if store.free_bytes is not None:
        total = f" of {size_text(store.total_bytes)}" if store.total_bytes else ""
        said += f", {size_text(store.free_bytes)}{total} free"
    return said + (", default" if store.is_default else "")


def _certificates(status: SystemStatus) -> list[str] | None:
    """Each file's next expiry once, the soonest first: replicas of a service have the same."""
    ends: dict[str, tuple[datetime, set[str]]] = {}
    for service in status.services:
        for replica in service.replicas:
            for each in replica.certificates:
                end, users = ends.get(each.file, (each.expires_at, set()))
                ends[each.file] = (min(end, each.expires_at), users | {service.service})
    return [
        f"{file}: until {_stamp(end)} ({', '.join(sorted(users))})"
        for file, (end, users) in sorted(ends.items(), key=lambda item: item[1][0])
    ] or None


def _unknown(unknown: Mapping[str, Failure]) -> list[str]:
    """Each cause once, behind all that it hides."""
    causes: dict[str, list[str]] = {}
    for part, failure in unknown.items():
        causes.setdefault(f"{failure.message} [{failure.reason}]", []).append(part)
    return [f"{', '.join(parts)}: {cause}" for cause, parts in causes.items()]


def _row(heading: str, value: T | None, lines: Callable[[T], Sequence[str]]) -> list[Row]:
    """The heading beside its first line; nothing where there is nothing to say."""
    if value is None:
        return []
    return [(heading if number == 0 else "", line) for number, line in enumerate(lines(value))]


def _facts(rows: Sequence[Row]) -> Table:
    from rich.text import Text

    table = _grid(2)
    for heading, line in rows:
        table.add_row(Text(heading, style=_STYLES["bad"] if heading == _NOT_KNOWN else "bold"), Text(escaped(line)))
    return table


def _grid(columns: int) -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(columns):
        table.add_column(overflow="fold")
    return table


def _stamp(time: datetime) -> str:
    return str(plain(time.replace(microsecond=0)))


def _duration(span: timedelta) -> str:
    """A time in its largest unit that says enough; a clock that is ahead of this one's makes it no less than 0."""
    seconds = max(int(span.total_seconds()), 0)
    for unit, size in (("d", _DAY_S), ("h", _HOUR_S), ("min", _MINUTE_S)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
