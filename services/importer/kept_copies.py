"""Which copies of which images there should be, read from the whole log at once and not from each history."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass

import structlog

from tintype.domain.events import (
    CopyRemoved,
    ImageDeleted,
    ImageExpired,
    ImagePlaced,
    ImagePublished,
    ImagePurged,
    ImageRestored,
    RecordedEvent,
)
from tintype.domain.values import ImageId
from tintype.ports.event_log import EventLog
from tintype.runtime.following import UnreadableEvent, entries_until

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Copies:
    """One image's copies: ``size`` bytes under ``key`` in each of the ``stores``."""

    key: str
    size: int
    stores: tuple[str, ...]
    is_deleted: bool = False
    """It can be restored, and keeps its bytes until it expires."""

    @property
    def total(self) -> int:
        """Bytes in all stores together."""
        return self.size * len(self.stores)


async def kept_copies(event_log: EventLog) -> dict[ImageId, Copies]:
    """All images whose bytes are kept: the active ones, and the deleted ones that can be restored.

    It is as old as the moment at which it was asked for: who acts upon it reads the image's history first.

    Raises:
        EventLogUnavailableError: the log does not answer.
    """
    found: dict[ImageId, Copies] = {}
    async with aclosing(entries_until(event_log, await event_log.head())) as entries:
        async for entry in entries:
            if isinstance(entry, UnreadableEvent):
                log.error("an event cannot be read", position=entry.position, reason=entry.reason, error=entry.error)
            else:
                _note(found, entry)
    return found


def _note(found: dict[ImageId, Copies], recorded: RecordedEvent) -> None:
    image_id = recorded.image_id
    match recorded.payload:
        case ImagePublished(_, blob, locations):
            found[image_id] = Copies(blob.ref.key, blob.size, tuple(ref.store for ref in locations))
            return
        case ImageExpired() | ImagePurged():
            found.pop(image_id, None)
            return
    copies = found.get(image_id)
    if copies is None:
        return
    match recorded.payload:
        case ImagePlaced(_, placed):
            copies.stores = tuple(dict.fromkeys((*copies.stores, *(ref.store for ref in placed))))
        case CopyRemoved(ref):
            copies.stores = tuple(store for store in copies.stores if store != ref.store)
        case ImageDeleted(None):
            del found[image_id]
        case ImageDeleted():
            copies.is_deleted = True
        case ImageRestored():
            copies.is_deleted = False
