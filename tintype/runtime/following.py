"""Reading all of the log: an event that cannot be read is an entry of its own, and does not end the rest."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

from tintype.domain.errors import LogCorruptError
from tintype.domain.events import RecordedEvent
from tintype.ports.event_log import EventLog, Selection
from tintype.runtime.metrics import EVENTS_UNDECODABLE


@dataclass(frozen=True, slots=True)
class UnreadableEvent:
    """Something stands at ``position`` that cannot be decoded, and why."""

    position: int
    reason: str
    error: str


Entry = RecordedEvent | UnreadableEvent


async def entries(log: EventLog, *, after: int, selection: Selection | None = None) -> AsyncGenerator[Entry, None]:
    """Yield what stands in the log behind ``after``, then what comes; use it within ``aclosing``.

    Raises:
        EventLogUnavailableError: the log is away for good.
    """
    while True:
        follower = cast(
            "AsyncGenerator[RecordedEvent, None]", log.follow(after=after, selection=selection or Selection())
        )
        try:
            async with aclosing(follower) as events:
                async for event in events:
                    yield event
                    after = event.position
        except LogCorruptError as exc:
            if exc.position <= after:
                raise
            after = exc.position
            EVENTS_UNDECODABLE.inc()
            yield UnreadableEvent(exc.position, exc.reason, exc.message)


async def entries_until(log: EventLog, head: int, *, after: int = 0) -> AsyncGenerator[Entry, None]:
    """Yield what stands in the log behind position ``after`` and up to ``head``, its end; use it within ``aclosing``.

    Raises:
        EventLogUnavailableError: the log is away for good.
    """
    if head <= after:
        return
    async with aclosing(entries(log, after=after)) as following:
        async for entry in following:
            yield entry
            if entry.position >= head:
                return
