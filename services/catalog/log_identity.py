"""Whether the log is the one that the catalog's tables were made of.

A log that was put back from an older backup ends before the tables do; another log has something else where the tables
saw their newest event. To follow either behind the tables' position would leave out what is new there, silently.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass

from tintype.domain.errors import EventLogUnavailableError, LogReplacedError
from tintype.domain.events import RecordedEvent
from tintype.domain.values import ImageId
from tintype.ports.event_log import EventLog
from tintype.runtime.following import Entry, entries

CONFIRM_DELAY_S = 1.0
_LOOKS = 3
_READ_DEADLINE_S = 5.0


@dataclass(frozen=True, slots=True)
class Seen:
    """Something that the tables were made of: the event ``version`` of an image, at ``position``."""

    image_id: ImageId
    version: int
    position: int


async def require_same_log(log: EventLog, position: int, seen: Seen | None) -> None:
    """Check that the log goes as far as ``position``, and has at its place what was ``seen`` there.

    It is looked at several times: a cluster that elects a leader may be behind for a moment.

    Raises:
        LogReplacedError: it is another log, or an older state of it.
        EventLogUnavailableError: it does not answer.
    """
    for look in range(1, _LOOKS + 1):
        try:
            return await _require(log, position, seen)
        except LogReplacedError:
            if look == _LOOKS:
                raise
        await asyncio.sleep(CONFIRM_DELAY_S)


async def _require(log: EventLog, position: int, seen: Seen | None) -> None:
    head = await log.head()
    if head < position:
        raise LogReplacedError(
            f"the log ends at position {head}, and the catalog's tables were made of {position}: "
            f"it was put back from an older backup, or is another log"
        )
    if seen is None:
        return
    found = await _at(log, seen.position)
    if not isinstance(found, RecordedEvent) or (found.image_id, found.version) != (seen.image_id, seen.version):
        raise LogReplacedError(
            f"the log has another event at position {seen.position} than the catalog's tables were made of: "
            f"it is another log"
        )


async def _at(log: EventLog, position: int) -> Entry | None:
    """What stands at a position; ``None`` if nothing does."""
    try:
        async with asyncio.timeout(_READ_DEADLINE_S), aclosing(entries(log, after=position - 1)) as following:
            async for entry in following:
                return entry if entry.position == position else None
    except TimeoutError as exc:
        raise EventLogUnavailableError(f"the event at position {position} was not had in time") from exc
    return None
