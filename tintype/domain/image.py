"""The image itself: its state, folded from its events (:func:`evolve`), and the rules of change (:func:`decide`).

Both are pure. ``decide`` may refuse; ``evolve`` never does, because the log only holds what was decided.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from tintype.domain import attributes as attrs
from tintype.domain.attributes import ImageAttributes
from tintype.domain.commands import (
    CancelOperation,
    Command,
    CreateImage,
    DeleteImage,
    RecordConversionSkipped,
    RecordConverted,
    RecordPublished,
    RecordPurged,
    RecordStaged,
    RecordStepFailed,
    RecordVerified,
    RequestImport,
    UpdateImage,
)
from tintype.domain.errors import (
    AbandonedError,
    EtagMismatchError,
    FormatFixedError,
    FormatMissingError,
    ImageBusyError,
    ImageExistsError,
    ImageHasDataError,
    ImageNotFoundError,
    ImageProtectedError,
    LogCorruptError,
    NothingStagedError,
    OperationDoneError,
    OperationNotFoundError,
    SignaturePropertiesFixedError,
    StaleStepError,
    TintypeError,
)
from tintype.domain.events import (
    ConversionSkipped,
    Event,
    Failure,
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
    ImportSource,
    RecordedEvent,
    SkipReason,
    StagePurpose,
    Step,
    Verification,
)
from tintype.domain.lifecycle import Status, next_step, target
from tintype.domain.values import Blob, BlobRef, ImageId, OperationId, ProjectId


class OperationKind(StrEnum):
    """What an operation does."""

    UPLOAD = "upload"
    STAGE = "stage"
    IMPORT = "import"


class OperationState(StrEnum):
    """How an operation stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Conversion:
    """What the converter did: either ``output`` with the tool that made it, or the reason why it was ``skipped``."""

    output: Blob | None = None
    skipped: SkipReason | None = None
    tool: str = ""
    tool_version: str = ""
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One attempt to give an image its bytes, and how far it has come."""

    id: OperationId
    kind: OperationKind
    state: OperationState
    started_at: datetime
    ended_at: datetime | None = None
    source: ImportSource | None = None
    staged: Blob | None = None
    verification: Verification | None = None
    conversion: Conversion | None = None
    failure: Failure | None = None
    failed_step: Step | None = None

    @property
    def is_running(self) -> bool:
        """Whether workers still have steps to do."""
        return self.state is OperationState.RUNNING


@dataclass(frozen=True, slots=True)
class ImageData:
    """The published bytes: what they are, where they are, and what they were made from."""

    blob: Blob
    locations: tuple[BlobRef, ...]
    source: Blob
    verification: Verification
    published_at: datetime


@dataclass(frozen=True, slots=True)
class Image:
    """All that the log says about one image. ``version`` and ``position`` are those of its newest event."""

    id: ImageId
    project: ProjectId
    attributes: ImageAttributes
    status: Status
    created_at: datetime
    updated_at: datetime
    version: int
    position: int
    operation: Operation | None = None
    data: ImageData | None = None
    is_purged: bool = False

    @property
    def etag(self) -> str:
        """Changes with every event of the image."""
        return f'"{self.version}"'

    @property
    def failure(self) -> Failure | None:
        """Why the newest operation failed, if it did."""
        return self.operation.failure if self.operation else None

    def wanted_blobs(self) -> frozenset[BlobRef]:
        """The bytes that the image still needs; all others that carry its id may go."""
        wanted: set[BlobRef] = set()
        if self.status is Status.DELETED:
            return frozenset()
        if self.data:
            wanted.update(self.data.locations)
        operation = self.operation
        if operation and (operation.is_running or self.status is Status.UPLOADING):
            wanted.update(blob.ref for blob in (operation.staged,) if blob)
            if operation.conversion and operation.conversion.output:
                wanted.add(operation.conversion.output.ref)
        return frozenset(wanted)


def failure_of(error: TintypeError) -> Failure:
    """The failure that an error becomes when it ends an operation."""
    return Failure(error.reason, error.message[:1000], error.hint, error.retryable)


def fold(events: Iterable[RecordedEvent], image: Image | None = None) -> Image | None:
    """The image that a history leads to; ``None`` for an empty one."""
    for event in events:
        image = evolve(image, event)
    return image


# --- decide -----------------------------------------------------------------------------------------------------------


def decide(image: Image | None, command: Command) -> Event:
    """The event that ``command`` leads to.

    Raises:
        TintypeError: the command is refused; the class says why.
    """
    if isinstance(command, CreateImage):
        if image is not None:
            raise ImageExistsError(f"image {image.id} exists already")
        return ImageCreated(attrs.checked(command.attributes))
    if image is None:
        raise ImageNotFoundError("no such image")
    if isinstance(command, RecordPurged):
        _require_step(image, None, Step.PURGE)
        return ImagePurged()
    if image.status is Status.DELETED:
        raise ImageNotFoundError(f"image {image.id} is deleted")
    match command:
        case UpdateImage():
            return _update(image, command)
        case DeleteImage():
            _require_etag(image, command.etag)
            if image.attributes.protected:
                raise ImageProtectedError(f"image {image.id} is protected")
            return ImageDeleted()
        case RequestImport():
            return _request_import(image, command)
        case CancelOperation():
            return _cancel(image, command)
        case RecordStaged():
            return _stage(image, command)
        case RecordVerified(operation_id, verification):
            _require_step(image, operation_id, Step.VERIFY)
            return ImageVerified(operation_id, verification)
        case RecordConverted(operation_id, blob, tool, tool_version, arguments):
            _require_step(image, operation_id, Step.CONVERT)
            return ImageConverted(operation_id, blob, tool, tool_version, arguments)
        case RecordConversionSkipped(operation_id, why):
            _require_step(image, operation_id, Step.CONVERT)
            return ConversionSkipped(operation_id, why)
        case RecordPublished(operation_id, locations):
            operation = _require_step(image, operation_id, Step.PUBLISH)
            return ImagePublished(operation_id, final_blob(operation), locations)
        case RecordStepFailed(operation_id, step, failure):
            _require_step(image, operation_id, step)
            return ImageStepFailed(operation_id, step, failure)
        case _:
            assert_never(command)


def final_blob(operation: Operation) -> Blob:
    """The bytes that an operation publishes: the converted ones, or the staged ones where nothing was converted."""
    if operation.conversion and operation.conversion.output:
        return operation.conversion.output
    if operation.staged is None:
        raise LogCorruptError(f"operation {operation.id} has nothing to publish")
    return operation.staged


def require_bytes_allowed(image: Image, purpose: StagePurpose) -> None:
    """Check that bytes may be given to the image now; asked before the first byte is taken.

    Raises:
        PreconditionError: it has bytes, they are on their way, or its formats are not set.
    """
    if image.status is Status.ACTIVE:
        raise ImageHasDataError(f"image {image.id} has its bytes already")
    if image.status is Status.IMPORTING:
        raise ImageBusyError(f"image {image.id} is being imported")
    if image.status is Status.UPLOADING and purpose is StagePurpose.UPLOAD:
        raise ImageBusyError(f"image {image.id} has staged bytes that wait for an import")
    if image.attributes.disk_format is None or image.attributes.container_format is None:
        raise FormatMissingError(f"image {image.id} has no disk_format or no container_format")


def _update(image: Image, command: UpdateImage) -> Event:
    _require_etag(image, command.etag)
    before = image.attributes
    after = attrs.checked(attrs.merged(before, command.attributes, command.mask))
    if image.status is not Status.QUEUED:
        if (before.disk_format, before.container_format) != (after.disk_format, after.container_format):
            raise FormatFixedError(f"image {image.id} is {image.status}: its formats are fixed")
        if before.signature_properties() != after.signature_properties():
            raise SignaturePropertiesFixedError(f"image {image.id} is {image.status}: its signature is fixed")
    changed = tuple(name for name in attrs.UPDATABLE if getattr(before, name) != getattr(after, name))
    return ImageUpdated(after, changed)


def _request_import(image: Image, command: RequestImport) -> Event:
    if command.source.method is ImportMethod.GLANCE_DIRECT and image.status is Status.QUEUED:
        raise NothingStagedError(f"image {image.id} has no staged bytes")
    if command.source.method is ImportMethod.WEB_DOWNLOAD and image.status is Status.UPLOADING:
        raise ImageBusyError(f"image {image.id} has staged bytes: import those with glance-direct")
    require_bytes_allowed(image, StagePurpose.IMPORT)
    return ImportRequested(command.operation_id, command.source)


def _cancel(image: Image, command: CancelOperation) -> Event:
    operation = image.operation
    if operation is None or operation.id != command.operation_id:
        raise OperationNotFoundError(f"operation {command.operation_id} is not the newest one of image {image.id}")
    step = next_step(image)
    if not operation.is_running or step is None:
        raise OperationDoneError(f"operation {operation.id} has ended: {operation.state}")
    return ImageStepFailed(operation.id, step, failure_of(AbandonedError("the operation was cancelled")))


def _stage(image: Image, command: RecordStaged) -> Event:
    if command.purpose is StagePurpose.IMPORT:
        _require_step(image, command.operation_id, Step.STAGE)
    else:
        require_bytes_allowed(image, command.purpose)
    return ImageStaged(command.operation_id, command.purpose, command.blob)


def _require_step(image: Image, operation_id: OperationId | None, step: Step) -> Operation:
    operation = image.operation
    if next_step(image) is not step or (operation_id is not None and (not operation or operation.id != operation_id)):
        raise StaleStepError(f"step {step} of operation {operation_id} is no longer what image {image.id} waits for")
    if operation is None and step is not Step.PURGE:
        raise StaleStepError(f"image {image.id} has no operation")
    return operation  # type: ignore[return-value]  # only PURGE comes without one, and ignores it


def _require_etag(image: Image, etag: str) -> None:
    if etag and etag != image.etag:
        raise EtagMismatchError(f"image {image.id} has changed: its etag is {image.etag}, not {etag[:80]}")


# --- evolve -----------------------------------------------------------------------------------------------------------


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
