"""Which copies of which images there should be, read from the log at once and not from each history."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace

import structlog

from tintype.domain.events import (
    CopyRemoved,
    Event,
    ImageDeleted,
    ImageExpired,
    ImagePlaced,
    ImagePublished,
    ImagePurged,
    ImageRestored,
)
from tintype.domain.values import ImageId
from tintype.ports.event_log import EventLog
from tintype.runtime.following import Entry, UnreadableEvent, entries_until

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Copies:
    """One image's copies: ``size`` bytes under ``key`` in each of the ``stores``.

    ``is_deleted``: it can be restored, and keeps its bytes until it expires.
    """

    key: str
    size: int
    stores: tuple[str, ...]
    is_deleted: bool = False

    @property
    def total(self) -> int:
        """Bytes in all stores together."""
        return self.size * len(self.stores)


class KeptCopies:
    """Follows the log as often as it is asked, and from where it was the last time."""

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log
        self._found: dict[ImageId, Copies] = {}
        self._position = 0
        self._reading = asyncio.Lock()

    async def now(self) -> Mapping[ImageId, Copies]:
        """All images whose bytes are kept: the active ones, and the deleted ones that can be restored.

        It is as old as the moment at which it was asked for: who acts upon it reads the image's history first.

        Raises:
            EventLogUnavailableError: the log does not answer.
        """
        async with self._reading:
            head = await self._log.head()
            if head < self._position:  # another log, such as one that was put back from a backup
                self._found, self._position = {}, 0
            async with aclosing(entries_until(self._log, head, after=self._position)) as entries:
                async for entry in entries:
                    self._note(entry)
                    self._position = entry.position
            return dict(self._found)

    def _note(self, entry: Entry) -> None:
        if isinstance(entry, UnreadableEvent):
            log.error("an event cannot be read", position=entry.position, reason=entry.reason, error=entry.error)
            return
        copies = _after(self._found.get(entry.image_id), entry.payload)
        if copies is None:
            self._found.pop(entry.image_id, None)
        else:
            self._found[entry.image_id] = copies


def _after(copies: Copies | None, event: Event) -> Copies | None:
    if isinstance(event, ImagePublished):
        return Copies(event.blob.ref.key, event.blob.size, tuple(ref.store for ref in event.locations))
    if copies is None:
        return None
    match event:
        case ImageExpired() | ImagePurged() | ImageDeleted(None):
            return None
        case ImageDeleted():
            return replace(copies, is_deleted=True)
        case ImageRestored():
            return replace(copies, is_deleted=False)
        case ImagePlaced(_, placed):
            return replace(copies, stores=tuple(dict.fromkeys((*copies.stores, *(ref.store for ref in placed)))))
        case CopyRemoved(ref):
            return replace(copies, stores=tuple(store for store in copies.stores if store != ref.store))
        case _:
            return copies
