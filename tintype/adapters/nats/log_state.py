"""How the stream of events is, and its work queues, as JetStream tells them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tintype.adapters.nats.connection import NatsConnection
from tintype.codec.subjects import STREAM
from tintype.domain.errors import EventLogUnavailableError
from tintype.ports.log_state import LogMember, LogState, QueueState

MAX_QUEUES = 1024
_FRACTION = re.compile(r"\.([0-9]{6})[0-9]*")
"""The server tells nanoseconds, and ``datetime`` reads no more than microseconds."""


class NatsLogState:
    """Asks the server that the connection leads to, which asks the others of its cluster."""

    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection

    async def log_state(self) -> LogState:
        """The log; see :meth:`tintype.ports.log_state.LogStateSource.log_state`."""
        answer = await self._ask(f"STREAM.INFO.{STREAM}")
        state, cluster = _table(answer, "state"), _table(answer, "cluster")
        head = int(state.get("last_seq", 0))
        return LogState(
            server_version=self._connection.server_version,
            cluster=str(cluster.get("name", "")),
            head=head,
            newest_at=_time(state.get("last_ts")) if head else None,
            size_bytes=int(state.get("bytes", 0)),
            replicas=int(_table(answer, "config").get("num_replicas", 1)),
            members=_members(cluster),
        )

    async def queue_states(self) -> Sequence[QueueState]:
        """The durable consumers; whoever only follows the log for a while has one that is not durable."""
        found: list[QueueState] = []
        offset = total = 0
        while True:
            answer = await self._ask(f"CONSUMER.LIST.{STREAM}", {"offset": offset})
            consumers = answer.get("consumers") or []
            found += [_queue(each) for each in consumers if _table(each, "config").get("durable_name")]
            offset, total = offset + len(consumers), int(answer.get("total", 0))
            if not consumers or offset >= min(total, MAX_QUEUES):
                return sorted(found, key=lambda queue: queue.name)

    async def recorded_at(self, position: int) -> datetime | None:
        """When it was appended; see :meth:`tintype.ports.log_state.LogStateSource.recorded_at`."""
        body = json.dumps({"seq": position}).encode()
        reply = await self._connection.request(f"$JS.API.DIRECT.GET.{STREAM}", body)
        # An answer without an event is a status, and has no such header.
        return _time((reply.headers or {}).get("Nats-Time-Stamp"))

    async def _ask(self, call: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        if not self._connection.is_connected:  # it is known already, and an answer is waited for
            raise EventLogUnavailableError("there is no connection to NATS")
        answer = await self._connection.api(call, body)
        if error := answer.get("error"):
            raise EventLogUnavailableError(f"stream {STREAM}: {error.get('description')}")
        return answer


def _table(answer: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = answer.get(name)
    return table if isinstance(table, dict) else {}


def _members(cluster: Mapping[str, Any]) -> tuple[LogMember, ...]:
    followers = cluster.get("replicas") or ()
    # A server that is in no cluster names itself as the leader, and has no name that means anything.
    if not followers:
        return ()
    leader = str(cluster.get("leader", ""))
    members = [LogMember(leader, is_leader=True, is_current=True, is_offline=False, lag=0)] if leader else []
    for each in followers:
        is_offline = bool(each.get("offline"))
        is_current = bool(each.get("current")) and not is_offline
        members.append(LogMember(str(each.get("name", "")), False, is_current, is_offline, int(each.get("lag", 0))))
    return tuple(members)


def _queue(consumer: Mapping[str, Any]) -> QueueState:
    return QueueState(
        name=str(consumer.get("name", "")),
        pending=int(consumer.get("num_pending", 0)),
        in_hand=int(consumer.get("num_ack_pending", 0)),
        redelivered=int(consumer.get("num_redelivered", 0)),
        waiting_workers=int(consumer.get("num_waiting", 0)),
    )


def _time(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(_FRACTION.sub(r".\1", text)).astimezone(UTC)
    except ValueError:
        return None
