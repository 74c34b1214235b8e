"""The chain of hashes through an image's history, by which loss and tampering show."""

from __future__ import annotations

from collections.abc import Iterable

from tintype.domain.errors import LogCorruptError
from tintype.domain.events import RecordedEvent


def require_chain(events: Iterable[RecordedEvent]) -> None:
    """Check that the events are one image's whole history, from its first event on.

    Raises:
        LogCorruptError: an event is missing, was changed, stands twice or belongs to another image.
    """
    previous: RecordedEvent | None = None
    for event in events:
        require_successor(previous, event)
        previous = event


def require_successor(previous: RecordedEvent | None, event: RecordedEvent) -> None:
    """Check that ``event`` comes right behind ``previous``; ``None`` stands before an image's first event.

    Raises:
        LogCorruptError: it does not.
    """
    version, hash_, position = (previous.version, previous.hash, previous.position) if previous else (0, "", 0)
    follows = (event.version, event.previous_hash) == (version + 1, hash_) and event.position > position
    if not follows or (previous is not None and previous.image_id != event.image_id):
        raise LogCorruptError(
            f"event {event.event.event_id} at position {event.position} does not follow version {version} "
            f"of image {event.image_id}: the history has a gap, or was changed"
        )
