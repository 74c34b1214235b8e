"""What may be asked of an image, in the imperative. Users ask the upper ones; workers report with the lower ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tintype.domain.attributes import ImageAttributes
from tintype.domain.events import (
    FailedStore,
    Failure,
    ImportPlugin,
    ImportSource,
    Origin,
    SandboxProfile,
    SkipReason,
    StagePurpose,
    Step,
    Verification,
    VerificationEvidence,
)
from tintype.domain.values import (
    DEFAULT_PLACEMENT,
    Blob,
    BlobRef,
    Digest,
    Fact,
    GuestDigest,
    OperationId,
    Placement,
    PropertyValue,
    Received,
)


@dataclass(frozen=True, slots=True)
class CreateImage:
    """Make an image without bytes; with overrides only where ``may_override`` is set."""

    attributes: ImageAttributes
    may_override: bool = False


@dataclass(frozen=True, slots=True)
class UpdateImage:
    """Change the attributes that ``mask`` names (paths as in :func:`tintype.domain.attributes.merged`).

    With an ``etag``, only if the image is still the one that the etag was read from. Overrides change only where
    ``may_override`` is set.
    """

    attributes: ImageAttributes
    mask: tuple[str, ...]
    etag: str = ""
    may_override: bool = False


@dataclass(frozen=True, slots=True)
class DeleteImage:
    """Remove the image and its bytes; these not before ``purge_after``, until when the image can be restored.

    With ``skip_delay`` also the bytes of an image that is deleted already, and could be restored until now.
    """

    etag: str = ""
    purge_after: datetime | None = None
    skip_delay: bool = False


@dataclass(frozen=True, slots=True)
class RestoreImage:
    """Undo a deletion whose delay has not passed ``at`` that time, whether or not that was noted already."""

    at: datetime


@dataclass(frozen=True, slots=True)
class ExpireImage:
    """Let a deleted image's bytes go: ``at`` that time it can no longer be restored; without it, by an end before."""

    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RequestImport:
    """Fetch the image's bytes."""

    operation_id: OperationId
    source: ImportSource
    placement: Placement = DEFAULT_PLACEMENT


@dataclass(frozen=True, slots=True)
class RequestCopy:
    """Copy an active image to further stores."""

    operation_id: OperationId
    placement: Placement


@dataclass(frozen=True, slots=True)
class RemoveCopy:
    """Give up the copy in ``store``; with an ``etag``, only if the image is still the one that it was read from."""

    store: str
    etag: str = ""


@dataclass(frozen=True, slots=True)
class CancelOperation:
    """End a running operation; the image is queued again."""

    operation_id: OperationId


@dataclass(frozen=True, slots=True)
class RecordStaged:
    """Bytes are staged; the fields are those of :class:`~tintype.domain.events.ImageStaged`."""

    operation_id: OperationId
    purpose: StagePurpose
    blob: Blob
    received: Received | None = None
    injected: Mapping[str, PropertyValue] = field(default_factory=dict)
    switched_off: tuple[ImportPlugin, ...] = ()
    origin: Origin | None = None
    placement: Placement = DEFAULT_PLACEMENT
    copies: tuple[BlobRef, ...] = ()
    failed: tuple[FailedStore, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordVerified:
    """The signer is content."""

    operation_id: OperationId
    verification: Verification
    evidence: VerificationEvidence | None = None


@dataclass(frozen=True, slots=True)
class RecordConverted:
    """The converter made the preferred format."""

    operation_id: OperationId
    blob: Blob
    tool: str
    tool_version: str
    arguments: tuple[str, ...]
    source_guest_digest: GuestDigest | None = None
    sandbox: SandboxProfile | None = None


@dataclass(frozen=True, slots=True)
class RecordConversionSkipped:
    """The converter had nothing to convert; it may have read the guest's disk."""

    operation_id: OperationId
    why: SkipReason
    facts: Mapping[str, Fact] = field(default_factory=dict)
    guest_digest: GuestDigest | None = None


@dataclass(frozen=True, slots=True)
class RecordAttested:
    """The signer has signed a statement about the image's road; see :class:`~tintype.domain.events.ImageAttested`."""

    operation_id: OperationId
    key_id: str
    envelope: bytes


@dataclass(frozen=True, slots=True)
class RecordPlaced:
    """The final bytes are in further stores; the fields are those of :class:`~tintype.domain.events.ImagePlaced`."""

    operation_id: OperationId
    copies: tuple[BlobRef, ...]
    failed: tuple[FailedStore, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordPublished:
    """The final bytes are in place, at ``locations``."""

    operation_id: OperationId
    locations: tuple[BlobRef, ...]


@dataclass(frozen=True, slots=True)
class RecordStepFailed:
    """A step cannot be done."""

    operation_id: OperationId
    step: Step
    failure: Failure


@dataclass(frozen=True, slots=True)
class RecordCopyDamaged:
    """A copy of the published bytes is not what it should be, or cannot be read (``found`` is ``None``)."""

    ref: BlobRef
    expected: Digest
    found: Digest | None


@dataclass(frozen=True, slots=True)
class RecordCopyHealed:
    """A damaged copy is sound again, written anew from the copy in the store ``source``."""

    ref: BlobRef
    source: str


@dataclass(frozen=True, slots=True)
class RecordPurged:
    """The bytes of a deleted image are gone."""


Command = (
    CreateImage
    | UpdateImage
    | DeleteImage
    | RestoreImage
    | ExpireImage
    | RequestImport
    | RequestCopy
    | RemoveCopy
    | CancelOperation
    | RecordStaged
    | RecordVerified
    | RecordConverted
    | RecordConversionSkipped
    | RecordAttested
    | RecordPlaced
    | RecordPublished
    | RecordStepFailed
    | RecordCopyDamaged
    | RecordCopyHealed
    | RecordPurged
)
