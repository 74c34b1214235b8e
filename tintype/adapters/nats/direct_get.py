"""All messages of a filter, read straight from the stream without a consumer (ADR-31 of NATS: batched direct get)."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

from nats.aio.msg import Msg

from tintype.adapters.nats.backoff import Backoff
from tintype.adapters.nats.connection import NatsConnection
from tintype.codec.subjects import STREAM
from tintype.domain.errors import EventLogUnavailableError

_BATCH = 256
_MAX_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class _Batch:
    """Collects the answers to one request."""

    messages: list[Msg] = field(default_factory=list)
    end: asyncio.Future[Msg] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def on_message(self, message: Msg) -> None:
        # An event always has a sequence; a status never.
        if "Nats-Sequence" in (message.headers or {}):
            self.messages.append(message)
        elif not self.end.done():
            self.end.set_result(message)


async def read_messages(connection: NatsConnection, subject_filter: str) -> list[Msg]:
    """All messages of the filter, oldest first; their headers tell ``Nats-Subject`` and ``Nats-Sequence``.

    A replica answers that may be behind the leader; where none does, it is asked again. The caller sets the deadline.

    Raises:
        EventLogUnavailableError: there is no connection, or the server refuses.
    """
    found: list[Msg] = []
    next_position = 1
    backoff = Backoff()
    while True:
        batch, pending = await _read_batch(connection, subject_filter, next_position)
        if pending is None:
            await backoff.wait()
            continue
        found += batch
        if not pending or not batch:
            return found
        next_position = int(batch[-1].headers["Nats-Sequence"]) + 1  # type: ignore[index]


async def _read_batch(connection: NatsConnection, subject_filter: str, position: int) -> tuple[list[Msg], int | None]:
    """The messages, and how many more there are; ``None`` where nobody answered."""
    batch = _Batch()
    inbox = connection.new_inbox()
    request = {"seq": position, "batch": _BATCH, "max_bytes": _MAX_BYTES, "next_by_subj": subject_filter}
    subscription = await connection.subscribe(inbox, batch.on_message)
    try:
        await connection.publish(f"$JS.API.DIRECT.GET.{STREAM}", json.dumps(request).encode(), reply=inbox)
        end = await batch.end
    finally:
        await connection.unsubscribe(subscription)
    headers = end.headers or {}
    match headers.get("Status"):
        case "204":
            return batch.messages, int(headers.get("Nats-Num-Pending", "0"))
        case "404":
            return batch.messages, 0
        case "503":
            return [], None
        case status:
            raise EventLogUnavailableError(f"stream {STREAM} cannot be read: {status} {headers.get('Description')}")
