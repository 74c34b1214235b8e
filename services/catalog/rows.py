"""Domain states as rows: the columns that lists filter and sort by, and the whole state as JSON beside them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from tintype.domain.image import Image, Operation, OperationState
from tintype.domain.lifecycle import Status, next_step
from tintype.domain.values import PropertyValue

Row = dict[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MAX_PLAIN_TERM_LENGTH = 200

_encoder = msgspec.json.Encoder()
_image_decoder = msgspec.json.Decoder(Image)
_operation_decoder = msgspec.json.Decoder(Operation)


def microseconds(time: datetime) -> int:
    """A point in time as microseconds since 1970, in UTC; exact."""
    return (time - _EPOCH) // _MICROSECOND


def time_of(value: int) -> datetime:
    """The point in time that :func:`microseconds` told."""
    return _EPOCH + value * _MICROSECOND


def image_row(image: Image) -> Row:
    """The row of an image."""
    attributes = image.attributes
    return {
        "id": image.id,
        "project": image.project,
        "name": attributes.name,
        "status": image.status.value,
        "visibility": attributes.visibility.value,
        "disk_format": attributes.disk_format.value if attributes.disk_format else None,
        "container_format": attributes.container_format.value if attributes.container_format else None,
        "size": image.data.blob.size if image.data else None,
        "min_disk": image.effective_min_disk(),
        "min_ram": image.effective_min_ram(),
        "protected": attributes.protected,
        "hidden": attributes.hidden,
        "created_at": microseconds(image.created_at),
        "updated_at": microseconds(image.updated_at),
        "purge_after": microseconds(image.purge_after) if image.purge_after and image.can_be_restored else None,
        "version": image.version,
        "position": image.position,
        "state": _encoder.encode(image).decode(),
    }


def tag_rows(image: Image) -> list[Row]:
    """A row for each tag; none for a deleted image, which no list shows."""
    if image.status is Status.DELETED:
        return []
    return [{"image_id": image.id, "tag": tag} for tag in image.attributes.tags]


def property_rows(image: Image) -> list[Row]:
    """A row for each property as it counts; none for a deleted image."""
    if image.status is Status.DELETED:
        return []
    return [
        {"image_id": image.id, "key": key, "term": property_term(value)}
        for key, value in image.effective_properties().items()
    ]


def property_term(value: PropertyValue) -> str:
    """What a filter compares a property's value by: the value as text, or the hash of a long one.

    A PostgreSQL index takes no entry over 2,704 bytes, and lists only ever ask whether values are equal.
    """
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if len(text) <= _MAX_PLAIN_TERM_LENGTH:
        return text
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def operation_row(image: Image, operation: Operation) -> Row:
    """The row of an image's newest operation, as of the image's newest event."""
    step = next_step(image) if operation.is_running else None
    return {
        "id": operation.id,
        "image_id": image.id,
        "project": image.project,
        "step": step.value if step else None,
        "started_at": microseconds(operation.started_at),
        "ended_at": microseconds(operation.ended_at) if operation.ended_at else None,
        "reason": operation.failure.reason if operation.state is OperationState.FAILED and operation.failure else None,
        "position": image.position,
        "state": _encoder.encode(operation).decode(),
    }


def image_of(state: str) -> Image:
    """The image that a row's state is."""
    return _image_decoder.decode(state)


def operation_of(state: str) -> Operation:
    """The operation that a row's state is."""
    return _operation_decoder.decode(state)
