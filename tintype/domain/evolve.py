"""How an image follows from its events. Pure, and never refuses: the log only holds what was decided."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

from tintype.domain.errors import (
    AbandonedError,
    LogCorruptError,
)
from tintype.domain.events import (
    ConversionSkipped,
    ImageConverted,
    ImageCreated,
    ImageDeleted,
    ImagePublished,
    ImagePurged,
    ImageStaged,
    ImageStepFailed,
    ImageUpdated,
    ImageVerified,
    ImportMethod,
    ImportRequested,
    RecordedEvent,
    StagePurpose,
)
from tintype.domain.image import Conversion, Image, ImageData, Operation, OperationKind, OperationState
from tintype.domain.lifecycle import Status, target


def fold(events: Iterable[RecordedEvent], image: Image | None = None) -> Image | None:
    """The image that a history leads to; ``None`` for an empty one."""
    for event in events:
        image = evolve(image, event)
    return image


def evolve(image: Image | None, recorded: RecordedEvent) -> Image:
    """The image after one more event.

    Raises:
        LogCorruptError: the event cannot follow; only a damaged log holds such a one.
    """
    event = recorded.payload
    status = target(image.status if image else None, event)
    if image is None:
        return _created(recorded, status)
    image = replace(
        image,
        status=status,
        updated_at=recorded.event.time,
        version=recorded.version,
        position=recorded.position,
    )
    match event:
        case ImageCreated():
            raise LogCorruptError(f"image {image.id} was created twice")
        case ImageUpdated(attributes, _):
            return replace(image, attributes=attributes)
        case ImageDeleted():
            return replace(image, operation=_ended(image, recorded, OperationState.CANCELLED))
        case ImagePurged():
            return replace(image, is_purged=True)
        case ImagePublished():
            return _published(image, recorded, event)
        case _:
            return replace(image, operation=_advanced(image.operation, recorded, event))


def _created(recorded: RecordedEvent, status: Status) -> Image:
    if not isinstance(recorded.payload, ImageCreated):
        raise LogCorruptError(f"the history of image {recorded.image_id} does not begin with its creation")
    return Image(
        id=recorded.image_id,
        project=recorded.event.project,
        attributes=recorded.payload.attributes,
        status=status,
        created_at=recorded.event.time,
        updated_at=recorded.event.time,
        version=recorded.version,
        position=recorded.position,
    )


def _advanced(
    operation: Operation | None,
    recorded: RecordedEvent,
    event: ImportRequested | ImageStaged | ImageVerified | ImageConverted | ConversionSkipped | ImageStepFailed,
) -> Operation:
    now = recorded.event.time
    if isinstance(event, ImportRequested):
        staged = operation.staged if operation and event.source.method is ImportMethod.GLANCE_DIRECT else None
        return Operation(
            event.operation_id, OperationKind.IMPORT, OperationState.RUNNING, now, source=event.source, staged=staged
        )
    if isinstance(event, ImageStaged) and event.purpose is not StagePurpose.IMPORT:
        if event.purpose is StagePurpose.UPLOAD:
            return Operation(event.operation_id, OperationKind.UPLOAD, OperationState.RUNNING, now, staged=event.blob)
        return Operation(
            event.operation_id, OperationKind.STAGE, OperationState.SUCCEEDED, now, ended_at=now, staged=event.blob
        )
    if operation is None:
        raise LogCorruptError(f"image {recorded.image_id} has no operation to go on with")
    match event:
        case ImageStaged():
            return replace(operation, staged=event.blob)
        case ImageVerified():
            return replace(operation, verification=event.verification)
        case ImageConverted():
            made = Conversion(event.blob, None, event.tool, event.tool_version, event.arguments)
            return replace(operation, conversion=made)
        case ConversionSkipped():
            return replace(operation, conversion=Conversion(skipped=event.why))
        case ImageStepFailed():
            was_cancelled = event.failure.reason == AbandonedError.reason
            state = OperationState.CANCELLED if was_cancelled else OperationState.FAILED
            return replace(operation, state=state, ended_at=now, failure=event.failure, failed_step=event.step)
        case _:
            assert_never(event)


def _published(image: Image, recorded: RecordedEvent, event: ImagePublished) -> Image:
    operation = image.operation
    if operation is None or operation.staged is None or operation.verification is None:
        raise LogCorruptError(f"image {image.id} was published without having been staged and verified")
    now = recorded.event.time
    return replace(
        image,
        # A conversion changes the format that users see.
        attributes=replace(image.attributes, disk_format=event.blob.disk_format),
        data=ImageData(event.blob, event.locations, operation.staged, operation.verification, now),
        operation=replace(operation, state=OperationState.SUCCEEDED, ended_at=now),
    )


def _ended(image: Image, recorded: RecordedEvent, state: OperationState) -> Operation | None:
    operation = image.operation
    if operation is None or not operation.is_running:
        return operation
    return replace(operation, state=state, ended_at=recorded.event.time)
