"""Which images have bytes now, and how many: told by one pass over the log, and not by every history."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, field

import structlog

from tintype.domain.events import (
    CopyRemoved,
    ImageDeleted,
    ImageExpired,
    ImagePlaced,
    ImagePublished,
    ImageRestored,
    RecordedEvent,
)
from tintype.domain.values import ImageId
from tintype.ports.event_log import EventLog
from tintype.runtime.following import UnreadableEvent, entries_until

log = structlog.get_logger(__name__)


async def active_images(event_log: EventLog) -> dict[ImageId, int]:
    """All images that have bytes now, and how many in all copies.

    Raises:
        EventLogUnavailableError: the log does not answer.
    """
    found = _Found()
    async with aclosing(entries_until(event_log, await event_log.head())) as entries:
        async for entry in entries:
            if isinstance(entry, UnreadableEvent):
                log.error("event was left out", position=entry.position, reason=entry.reason, error=entry.error)
            else:
                found.note(entry)
    return {image: each.size * len(each.stores) for image, each in found.active.items()}


@dataclass(slots=True)
class _Bytes:
    size: int
    stores: set[str]


@dataclass(slots=True)
class _Found:
    active: dict[ImageId, _Bytes] = field(default_factory=dict)
    restorable: dict[ImageId, _Bytes] = field(default_factory=dict)

    def note(self, event: RecordedEvent) -> None:
        image, payload = event.image_id, event.payload
        match payload:
            case ImagePublished(blob=blob, locations=locations):
                self.active[image] = _Bytes(blob.size, {ref.store for ref in locations})
            case ImagePlaced(copies=copies) if image in self.active:  # before it is published, that tells of them
                self.active[image].stores.update(ref.store for ref in copies)
            case CopyRemoved(ref=ref) if image in self.active:
                self.active[image].stores.discard(ref.store)
            case ImageDeleted(purge_after=purge_after):
                deleted = self.active.pop(image, None)
                if deleted and purge_after:
                    self.restorable[image] = deleted
            case ImageRestored() if image in self.restorable:
                self.active[image] = self.restorable.pop(image)
            case ImageExpired():
                self.restorable.pop(image, None)
            case _:
                pass
