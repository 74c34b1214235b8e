"""How an image follows from its events. Pure, and never refuses: the log only holds what was decided."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

from tintype.domain.attributes import ImageAttributes
from tintype.domain.errors import (
    AbandonedError,
    LogCorruptError,
)
from tintype.domain.events import (
    ConversionSkipped,
    CopyDamaged,
    CopyHealed,
    ImageAttested,
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
from tintype.domain.values import ARCHIVES, Blob, BlobRef, ContainerFormat


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
        case CopyDamaged(ref) | CopyHealed(ref):
            return replace(image, data=_with_copy(image, ref, is_damaged=isinstance(event, CopyDamaged)))
        case _:
            image = replace(image, operation=_advanced(image.operation, recorded, event))
    if isinstance(event, ImageStaged) and event.injected:
        properties = {**image.attributes.properties, **event.injected}
        return replace(image, attributes=replace(image.attributes, properties=properties))
    return image


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
    event: ImportRequested
    | ImageStaged
    | ImageVerified
    | ImageConverted
    | ConversionSkipped
    | ImageAttested
    | ImageStepFailed,
) -> Operation:
    now = recorded.event.time
    if isinstance(event, ImportRequested):
        begun = Operation(event.operation_id, OperationKind.IMPORT, OperationState.RUNNING, now, source=event.source)
        if operation is None or event.source.method is not ImportMethod.GLANCE_DIRECT:
            return begun
        return replace(begun, staged=operation.staged, received=operation.received, switched_off=operation.switched_off)
    if isinstance(event, ImageStaged) and event.purpose is not StagePurpose.IMPORT:
        if event.purpose is StagePurpose.UPLOAD:
            running = Operation(event.operation_id, OperationKind.UPLOAD, OperationState.RUNNING, now)
            return _with_bytes(running, event)
        kept = Operation(event.operation_id, OperationKind.STAGE, OperationState.SUCCEEDED, now, ended_at=now)
        return _with_bytes(kept, event)
    if operation is None:
        raise LogCorruptError(f"image {recorded.image_id} has no operation to go on with")
    match event:
        case ImageStaged():
            return _with_bytes(operation, event)
        case ImageVerified():
            return replace(operation, verification=event.verification)
        case ImageConverted():
            made = Conversion(
                output=event.blob,
                tool=event.tool,
                tool_version=event.tool_version,
                arguments=event.arguments,
                guest_digest=event.source_guest_digest,
            )
            return replace(operation, conversion=made)
        case ConversionSkipped():
            read = Conversion(skipped=event.why, facts=event.facts, guest_digest=event.guest_digest)
            return replace(operation, conversion=read)
        case ImageAttested():
            return replace(operation, attestation_key_id=event.key_id)
        case ImageStepFailed():
            was_cancelled = event.failure.reason == AbandonedError.reason
            state = OperationState.CANCELLED if was_cancelled else OperationState.FAILED
            return replace(operation, state=state, ended_at=now, failure=event.failure, failed_step=event.step)
        case _:
            assert_never(event)


def _with_bytes(operation: Operation, event: ImageStaged) -> Operation:
    return replace(operation, staged=event.blob, received=event.received, switched_off=event.switched_off)


def _published(image: Image, recorded: RecordedEvent, event: ImagePublished) -> Image:
    operation = image.operation
    if operation is None or operation.staged is None or operation.verification is None:
        raise LogCorruptError(f"image {image.id} was published without having been staged and verified")
    now = recorded.event.time
    return replace(
        image,
        attributes=_attributes_of_published(image.attributes, operation.staged, event.blob),
        data=ImageData(
            event.blob,
            event.locations,
            operation.staged,
            operation.verification,
            now,
            operation.received,
            operation.attestation_key_id or "",
        ),
        operation=replace(operation, state=OperationState.SUCCEEDED, ended_at=now),
    )


def _attributes_of_published(attributes: ImageAttributes, staged: Blob, published: Blob) -> ImageAttributes:
    """A conversion changes the format that users see; a disk that was taken out of an archive is bare."""
    if published.disk_format is staged.disk_format:
        return attributes
    container = ContainerFormat.BARE if staged.disk_format in ARCHIVES else attributes.container_format
    return replace(attributes, disk_format=published.disk_format, container_format=container)


def _with_copy(image: Image, ref: BlobRef, *, is_damaged: bool) -> ImageData:
    if image.data is None or ref not in image.data.locations:
        raise LogCorruptError(f"image {image.id} has no copy in store {ref.store!r} that could be damaged or healed")
    others = tuple(other for other in image.data.damaged if other != ref)
    return replace(image.data, damaged=(*others, ref) if is_damaged else others)


def _ended(image: Image, recorded: RecordedEvent, state: OperationState) -> Operation | None:
    operation = image.operation
    if operation is None or not operation.is_running:
        return operation
    return replace(operation, state=state, ended_at=recorded.event.time)
