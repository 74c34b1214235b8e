"""What a batch of events makes of the stored states. Pure: the same events give the same rows, however they are cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from services.catalog.rows import Row, operation_row
from tintype.domain.errors import LogCorruptError, TintypeError
from tintype.domain.events import EVENT_TOKENS, RecordedEvent
from tintype.domain.evolve import evolve
from tintype.domain.image import Image
from tintype.domain.values import ImageId, OperationId
from tintype.runtime.following import Entry, UnreadableEvent

_MAX_ERROR_LENGTH = 1000


@dataclass(slots=True)
class Changes:
    """The final states of the images and operations that a batch changed, and the events that could not be applied."""

    images: dict[ImageId, Image] = field(default_factory=dict)
    operations: dict[OperationId, Row] = field(default_factory=dict)
    parked: list[Row] = field(default_factory=list)


def fold_batch(stored: Mapping[ImageId, Image], events: Iterable[Entry]) -> Changes:
    """Fold ``events`` over the ``stored`` states of their images; an event that does not fit is parked."""
    changes = Changes()
    for event in events:
        if isinstance(event, UnreadableEvent):
            changes.parked.append(parked_row(event, event.reason, event.error))
            continue
        before = changes.images.get(event.image_id) or stored.get(event.image_id)
        try:
            after = _next(before, event)
        except TintypeError as exc:
            changes.parked.append(parked_row(event, exc.reason, exc.message))
            continue
        except Exception as exc:  # a defect here must not stop the catalog of all other images
            changes.parked.append(parked_row(event, "INTERNAL", f"{type(exc).__name__}: {exc}"))
            continue
        changes.images[after.id] = after
        if after.operation and (before is None or before.operation != after.operation):
            changes.operations[after.operation.id] = operation_row(after, after.operation)
    return changes


def parked_row(event: Entry, reason: str, error: str) -> Row:
    """The row that tells an operator about an event that could not be applied."""
    return {
        "position": event.position,
        "image_id": event.image_id if isinstance(event, RecordedEvent) else "",
        "event_id": event.event.event_id if isinstance(event, RecordedEvent) else "",
        "event_type": EVENT_TOKENS[type(event.payload)] if isinstance(event, RecordedEvent) else "",
        "reason": reason,
        "error": error[:_MAX_ERROR_LENGTH].replace("\x00", ""),
    }


def _next(before: Image | None, event: RecordedEvent) -> Image:
    expected = before.version + 1 if before else 1
    if event.version != expected:
        raise LogCorruptError(f"version {event.version} came where {expected} was due: an earlier event is missing")
    return evolve(before, event)
