"""The rules of change: which event a command leads to, or why it is refused. Pure: no clock, no chance, no outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never

from tintype.domain import attributes as attrs
from tintype.domain.commands import (
    CancelOperation,
    Command,
    CreateImage,
    DeleteImage,
    ExpireImage,
    RecordAttested,
    RecordConversionSkipped,
    RecordConverted,
    RecordCopyDamaged,
    RecordCopyHealed,
    RecordPlaced,
    RecordPublished,
    RecordPurged,
    RecordStaged,
    RecordStepFailed,
    RecordVerified,
    RemoveCopy,
    RequestCopy,
    RequestImport,
    RestoreImage,
    UpdateImage,
)
from tintype.domain.errors import (
    AbandonedError,
    ConversionChangedDiskError,
    CopyExistsError,
    CopyNotFoundError,
    EtagMismatchError,
    FormatFixedError,
    FormatMismatchError,
    FormatMissingError,
    HistoryFullError,
    ImageBusyError,
    ImageExistsError,
    ImageHasDataError,
    ImageHasNoDataError,
    ImageNotDeletedError,
    ImageNotFoundError,
    ImageProtectedError,
    LastCopyError,
    LogCorruptError,
    NothingStagedError,
    NotPermittedError,
    OperationDoneError,
    OperationNotFoundError,
    RestoreTooLateError,
    SignaturePropertiesFixedError,
    StaleStepError,
)
from tintype.domain.events import (
    ConversionSkipped,
    CopyDamaged,
    CopyHealed,
    CopyRemoved,
    CopyRequested,
    Event,
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
    StagePurpose,
    Step,
)
from tintype.domain.image import Image, Operation, failure_of
from tintype.domain.lifecycle import Status, next_step
from tintype.domain.staged import require_expected
from tintype.domain.values import Blob, OperationId, PropertyValue

MAX_VERSION_FOR_CHANGES = 1000
"""An image of so many events takes no further changes by users, so that its history stays readable in one go."""


def decide(image: Image | None, command: Command) -> Event:
    """The event that ``command`` leads to.

    Raises:
        TintypeError: the command is refused; the class says why.
    """
    if isinstance(command, CreateImage):
        if image is not None:
            raise ImageExistsError(f"image {image.id} exists already")
        _require_may_override(command, {}, command.attributes.overrides)
        return ImageCreated(attrs.checked(command.attributes))
    if image is None:
        raise ImageNotFoundError("no such image")
    if isinstance(command, RecordPurged):
        _require_step(image, None, Step.PURGE)
        return ImagePurged()
    if isinstance(command, RestoreImage):
        _require_room(image)
    if isinstance(command, RestoreImage | ExpireImage):
        return _end_deletion(image, command)
    if isinstance(command, DeleteImage) and command.skip_delay and image.can_be_restored:
        _require_etag(image, command.etag)
        return ImageExpired()
    if image.status is Status.DELETED:
        raise ImageNotFoundError(f"image {image.id} is deleted")
    if isinstance(command, UpdateImage | RequestImport | RequestCopy | RemoveCopy) or _begins_an_upload(command):
        _require_room(image)
    match command:
        case UpdateImage():
            return _update(image, command)
        case DeleteImage():
            _require_etag(image, command.etag)
            if image.attributes.protected:
                raise ImageProtectedError(f"image {image.id} is protected")
            return ImageDeleted(command.purge_after)
        case RequestImport():
            return _request_import(image, command)
        case RequestCopy():
            return _request_copy(image, command)
        case RemoveCopy():
            return _remove_copy(image, command)
        case CancelOperation():
            return _cancel(image, command)
        case RecordStaged():
            return _stage(image, command)
        case RecordVerified(operation_id, verification, evidence):
            _require_step(image, operation_id, Step.VERIFY)
            return ImageVerified(operation_id, verification, evidence)
        case RecordConverted():
            return _convert(image, command)
        case RecordConversionSkipped(operation_id, why, facts, digest):
            _require_step(image, operation_id, Step.CONVERT)
            return ConversionSkipped(operation_id, why, facts, digest)
        case RecordAttested(operation_id, key_id, envelope):
            _require_step(image, operation_id, Step.ATTEST)
            return ImageAttested(operation_id, key_id, envelope)
        case RecordCopyDamaged() | RecordCopyHealed():
            return _judge_copy(image, command)
        case RecordPlaced(operation_id, copies, failed):
            _require_step(image, operation_id, Step.PLACE)
            return ImagePlaced(operation_id, copies, failed)
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
    if operation.conversion is None:
        return operation.staged
    return replace(
        operation.staged,
        facts={**operation.staged.facts, **operation.conversion.facts},
        guest_digest=operation.conversion.guest_digest or operation.staged.guest_digest,
    )


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


def _begins_an_upload(command: Command) -> bool:
    return isinstance(command, RecordStaged) and command.purpose is not StagePurpose.IMPORT


def _require_room(image: Image) -> None:
    # Every reader of an image reads its whole history; what has begun may always end.
    if image.version >= MAX_VERSION_FOR_CHANGES:
        raise HistoryFullError(f"image {image.id} has been changed {image.version} times already")


def _update(image: Image, command: UpdateImage) -> Event:
    _require_etag(image, command.etag)
    before = image.attributes
    wanted = _without_what_was_read(image, attrs.merged(before, command.attributes, command.mask))
    _require_may_override(command, before.overrides, wanted.overrides)
    checked = attrs.checked(wanted)
    overrides = attrs.typed_as_read(before.overrides, checked.overrides, image.facts)
    after = replace(checked, overrides=overrides)
    if image.status is not Status.QUEUED:
        if (before.disk_format, before.container_format) != (after.disk_format, after.container_format):
            raise FormatFixedError(f"image {image.id} is {image.status}: its formats are fixed")
        if before.signature_properties() != after.signature_properties():
            raise SignaturePropertiesFixedError(f"image {image.id} is {image.status}: its signature is fixed")
    changed = tuple(name for name in attrs.UPDATABLE if getattr(before, name) != getattr(after, name))
    return ImageUpdated(after, changed)


def _without_what_was_read(image: Image, wanted: attrs.ImageAttributes) -> attrs.ImageAttributes:
    """Who sends back the least disk and memory that an image was shown with does not make them the owner's word."""
    before = image.attributes
    min_disk = before.min_disk if wanted.min_disk == image.effective_min_disk() else wanted.min_disk
    min_ram = before.min_ram if wanted.min_ram == image.effective_min_ram() else wanted.min_ram
    return replace(wanted, min_disk=min_disk, min_ram=min_ram)


def _require_may_override(
    command: CreateImage | UpdateImage, before: Mapping[str, PropertyValue], after: Mapping[str, PropertyValue]
) -> None:
    # Who sends back what was read changes nothing, and may. Types are compared as well: True equals 1.
    pairs = ({(key, type(value), value) for key, value in overrides.items()} for overrides in (before, after))
    changed = sorted(key for key, _, _ in set.symmetric_difference(*pairs))
    if changed and not command.may_override:
        raise NotPermittedError(f"override {changed[0][:80]!r}: only an administrator sets or clears overrides")


def _request_import(image: Image, command: RequestImport) -> Event:
    if command.source.method is ImportMethod.GLANCE_DIRECT and image.status is Status.QUEUED:
        raise NothingStagedError(f"image {image.id} has no staged bytes")
    if command.source.method is ImportMethod.WEB_DOWNLOAD and image.status is Status.UPLOADING:
        raise ImageBusyError(f"image {image.id} has staged bytes: import those with glance-direct")
    require_bytes_allowed(image, StagePurpose.IMPORT)
    if command.source.method is ImportMethod.GLANCE_DIRECT:
        require_expected(image, command.source)
    return ImportRequested(command.operation_id, command.source, command.placement)


def _request_copy(image: Image, command: RequestCopy) -> Event:
    if image.status is not Status.ACTIVE or image.data is None:
        raise ImageHasNoDataError(f"image {image.id} is {image.status}, and has no bytes to copy")
    if image.operation and image.operation.is_running:
        raise ImageBusyError(f"image {image.id} is being copied already")
    sound = {ref.store for ref in image.data.sound}
    if not command.placement.in_all and sound.issuperset(command.placement.stores):
        raise CopyExistsError(f"image {image.id} has a copy in each of {', '.join(command.placement.stores)[:200]}")
    return CopyRequested(command.operation_id, command.placement)


def _remove_copy(image: Image, command: RemoveCopy) -> Event:
    _require_etag(image, command.etag)
    if image.attributes.protected:
        raise ImageProtectedError(f"image {image.id} is protected")
    data = image.data
    ref = next((ref for ref in data.locations if ref.store == command.store), None) if data else None
    if data is None or ref is None:
        raise CopyNotFoundError(f"image {image.id} has no copy in store {command.store[:80]!r}")
    if image.operation and image.operation.is_running:
        raise ImageBusyError(f"image {image.id} is being copied")  # maybe from, or to, that store
    if not [other for other in data.sound if other != ref]:
        raise LastCopyError(f"image {image.id} has no sound copy but the one in store {command.store!r}")
    return CopyRemoved(ref)


def _end_deletion(image: Image, command: RestoreImage | ExpireImage) -> Event:
    if image.status is not Status.DELETED:
        raise ImageNotDeletedError(f"image {image.id} is not deleted")
    if image.purge_after is None or not image.can_be_restored:
        raise RestoreTooLateError(f"image {image.id} is deleted for good")
    if isinstance(command, RestoreImage):
        if command.at >= image.purge_after:
            raise RestoreTooLateError(f"image {image.id} could be restored until {image.purge_after.isoformat()}")
        return ImageRestored(with_data=image.data is not None)
    if command.at is not None and command.at < image.purge_after:  # deleted anew since somebody looked
        raise StaleStepError(f"image {image.id} can be restored until {image.purge_after.isoformat()}")
    return ImageExpired()


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
        declared = image.attributes.format_of_bytes()
        if declared is not command.blob.disk_format:  # it was changed while the bytes were on their way
            raise FormatMismatchError(f"the bytes are {command.blob.disk_format}, and the image is declared {declared}")
    return ImageStaged(
        command.operation_id,
        command.purpose,
        command.blob,
        command.received,
        command.injected,
        command.switched_off,
        command.origin,
        command.placement,
        command.copies,
        command.failed,
    )


def _judge_copy(image: Image, command: RecordCopyDamaged | RecordCopyHealed) -> Event:
    if image.data is None or command.ref not in image.data.locations:
        raise CopyNotFoundError(f"image {image.id} has no copy in store {command.ref.store!r}")
    is_damaged = command.ref in image.data.damaged
    if isinstance(command, RecordCopyDamaged):
        if is_damaged:
            raise StaleStepError(f"the copy of image {image.id} in store {command.ref.store!r} is known to be damaged")
        return CopyDamaged(command.ref, command.expected, command.found)
    if not is_damaged:
        raise StaleStepError(f"the copy of image {image.id} in store {command.ref.store!r} is not damaged")
    return CopyHealed(command.ref, command.source)


def _convert(image: Image, command: RecordConverted) -> Event:
    _require_step(image, command.operation_id, Step.CONVERT)
    if command.source_guest_digest and command.source_guest_digest != command.blob.guest_digest:
        raise ConversionChangedDiskError(
            f"the disk was {command.source_guest_digest} before the conversion, and is {command.blob.guest_digest} now"
        )
    return ImageConverted(
        command.operation_id,
        command.blob,
        command.tool,
        command.tool_version,
        command.arguments,
        command.source_guest_digest,
        command.sandbox,
    )


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
