"""How an image follows from its events. Pure, and never refuses: the log only holds what was decided."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
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
    CopyRemoved,
    CopyRequested,
    FailedStore,
    ImageAttested,
    ImageConverted,
    ImageCreated,
    ImageDeleted,
    ImageExpired,
    ImagePlaced,
    ImagePublished,
    ImagePurged,
    ImageRestored,
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
        case ImageDeleted(purge_after):
            cancelled = _ended(image, recorded, OperationState.CANCELLED)
            return replace(image, operation=cancelled, purge_after=purge_after)
        case ImageRestored():
            return replace(image, purge_after=None)
        case ImageExpired():
            return replace(image, is_expired=True)
        case ImagePurged():
            return replace(image, is_purged=True)
        case ImagePublished():
            return _published(image, recorded, event)
        case CopyDamaged(ref) | CopyHealed(ref):
            return replace(image, data=_with_copy(image, ref, is_damaged=isinstance(event, CopyDamaged)))
        case CopyRemoved(ref):
            return replace(image, data=_without_copy(image, ref))
        case ImagePlaced() if image.data is not None:
            return _copied(image, image.data, recorded, event)
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
    | CopyRequested
    | ImageStaged
    | ImageVerified
    | ImageConverted
    | ConversionSkipped
    | ImageAttested
    | ImagePlaced
    | ImageStepFailed,
) -> Operation:
    now = recorded.event.time
    if isinstance(event, ImportRequested):
        return _begun_import(operation, event, now)
    if isinstance(event, CopyRequested):
        running = Operation(event.operation_id, OperationKind.COPY, OperationState.RUNNING, now)
        return replace(running, placement=event.placement)
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
        case ImagePlaced():
            # Copies of staged bytes that were converted are none of the final ones.
            was_converted = operation.conversion is not None and operation.conversion.output is not None
            before = () if was_converted else operation.copies
            failures = merged_failures(operation.failed_stores, event.failed)
            return replace(operation, copies=(*before, *event.copies), failed_stores=failures, is_placed=True)
        case ImageStepFailed():
            was_cancelled = event.failure.reason == AbandonedError.reason
            state = OperationState.CANCELLED if was_cancelled else OperationState.FAILED
            return replace(operation, state=state, ended_at=now, failure=event.failure, failed_step=event.step)
        case _:
            assert_never(event)


def _begun_import(operation: Operation | None, event: ImportRequested, now: datetime) -> Operation:
    begun = Operation(
        event.operation_id,
        OperationKind.IMPORT,
        OperationState.RUNNING,
        now,
        source=event.source,
        placement=event.placement,
    )
    if operation is None or event.source.method is not ImportMethod.GLANCE_DIRECT:
        return begun
    # What was staged before goes where the upload was asked to put it, unless the import says something else.
    asked = event.placement.stores or event.placement.in_all
    return replace(
        begun,
        staged=operation.staged,
        received=operation.received,
        switched_off=operation.switched_off,
        placement=event.placement if asked else operation.placement,
        copies=operation.copies,
        failed_stores=operation.failed_stores,
    )


def _with_bytes(operation: Operation, event: ImageStaged) -> Operation:
    return replace(
        operation,
        staged=event.blob,
        received=event.received,
        switched_off=event.switched_off,
        placement=event.placement,
        copies=event.copies,
        failed_stores=event.failed,
    )


def merged_failures(before: tuple[FailedStore, ...], now: tuple[FailedStore, ...]) -> tuple[FailedStore, ...]:
    """Both, the later of the same store."""
    return tuple({failed.store: failed for failed in (*before, *now)}.values())


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
            failed_stores=operation.failed_stores,
        ),
        operation=replace(operation, state=OperationState.SUCCEEDED, ended_at=now),
    )


def _attributes_of_published(attributes: ImageAttributes, staged: Blob, published: Blob) -> ImageAttributes:
    """A conversion changes the format that users see; a disk that was taken out of an archive is bare."""
    if published.disk_format is staged.disk_format:
        return attributes
    container = ContainerFormat.BARE if staged.disk_format in ARCHIVES else attributes.container_format
    return replace(attributes, disk_format=published.disk_format, container_format=container)


def _copied(image: Image, data: ImageData, recorded: RecordedEvent, event: ImagePlaced) -> Image:
    """The end of a copy operation."""
    copied = {ref.store for ref in event.copies}
    failed = merged_failures(data.failed_stores, event.failed)
    return replace(
        image,
        data=replace(
            data,
            locations=tuple(dict.fromkeys((*data.locations, *event.copies))),
            damaged=tuple(ref for ref in data.damaged if ref not in event.copies),
            failed_stores=tuple(store for store in failed if store.store not in copied),
        ),
        operation=_ended(image, recorded, OperationState.SUCCEEDED),
    )


def _without_copy(image: Image, ref: BlobRef) -> ImageData:
    if image.data is None or ref not in image.data.locations:
        raise LogCorruptError(f"image {image.id} has no copy in store {ref.store!r} that could be removed")
    return replace(
        image.data,
        locations=tuple(other for other in image.data.locations if other != ref),
        damaged=tuple(other for other in image.data.damaged if other != ref),
    )


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
