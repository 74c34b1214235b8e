"""The image itself: all that the log says about it, as :mod:`tintype.domain.evolve` folds it from its events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from tintype.domain.attributes import OVERRIDABLE_SIZES, ImageAttributes
from tintype.domain.errors import (
    TintypeError,
)
from tintype.domain.events import (
    FailedStore,
    Failure,
    ImportPlugin,
    ImportSource,
    SkipReason,
    Step,
    Verification,
)
from tintype.domain.lifecycle import Status
from tintype.domain.values import (
    DEFAULT_PLACEMENT,
    Blob,
    BlobRef,
    Fact,
    GuestDigest,
    ImageId,
    OperationId,
    Placement,
    ProjectId,
    PropertyValue,
    Received,
)


class OperationKind(StrEnum):
    """What an operation does."""

    UPLOAD = "upload"
    STAGE = "stage"
    IMPORT = "import"
    COPY = "copy"


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
    facts: Mapping[str, Fact] = field(default_factory=dict)
    """What was read from the guest's disk of an image that was not converted."""
    guest_digest: GuestDigest | None = None
    """Of the source's disk, where the converter has read it."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One attempt to give an image its bytes, or further copies of them, and how far it has come.

    ``copies`` are where the staged bytes are besides :attr:`staged` or, once :attr:`is_placed`, the final ones;
    ``failed_stores`` are those of the ``placement`` that could not take them.
    """

    id: OperationId
    kind: OperationKind
    state: OperationState
    started_at: datetime
    ended_at: datetime | None = None
    source: ImportSource | None = None
    staged: Blob | None = None
    received: Received | None = None
    switched_off: tuple[ImportPlugin, ...] = ()
    verification: Verification | None = None
    conversion: Conversion | None = None
    attestation_key_id: str | None = None
    """Of the service's key that signed the attestation; the attestation itself is in the history."""
    placement: Placement = DEFAULT_PLACEMENT
    copies: tuple[BlobRef, ...] = ()
    failed_stores: tuple[FailedStore, ...] = ()
    is_placed: bool = False
    failure: Failure | None = None
    failed_step: Step | None = None

    @property
    def is_running(self) -> bool:
        """Whether workers still have steps to do."""
        return self.state is OperationState.RUNNING


@dataclass(frozen=True, slots=True)
class ImageData:
    """The published bytes: what they are, where they are, and what they were made from.

    ``locations`` is where they are now; ``blob.ref`` is where they were first, and its key is that of every copy.
    ``failed_stores`` should hold a copy, and do not.

    ``received`` is what came, where it was decompressed before it became ``source``. ``damaged`` are those of the
    ``locations`` where other bytes were found. ``attestation_key_id`` is empty for what was published before the road
    was attested.
    """

    blob: Blob
    locations: tuple[BlobRef, ...]
    source: Blob
    verification: Verification
    published_at: datetime
    received: Received | None = None
    attestation_key_id: str = ""
    damaged: tuple[BlobRef, ...] = ()
    failed_stores: tuple[FailedStore, ...] = ()

    @property
    def sound(self) -> tuple[BlobRef, ...]:
        """The locations where no other bytes were found."""
        return tuple(ref for ref in self.locations if ref not in self.damaged)


@dataclass(frozen=True, slots=True)
class Image:
    """All that the log says about one image. ``version`` and ``position`` are those of its newest event.

    ``purge_after`` is of a deleted image: until then it can be restored. ``is_expired``: not any more.
    """

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
    purge_after: datetime | None = None
    is_expired: bool = False

    @property
    def etag(self) -> str:
        """Changes with every event of the image."""
        return f'"{self.version}"'

    @property
    def failure(self) -> Failure | None:
        """Why the newest operation failed, if it did."""
        return self.operation.failure if self.operation else None

    @property
    def facts(self) -> Mapping[str, Fact]:
        """What was read from the published bytes; empty before there are any."""
        return self.data.blob.facts if self.data else {}

    def effective_properties(self) -> dict[str, PropertyValue]:
        """What counts: of each key the administrator's override, else the owner's property, else the fact.

        What stands for an attribute (``min_disk``, ``min_ram``) is not among them: it counts as that attribute.
        """
        read = {key: fact.value for key, fact in self.facts.items() if key not in OVERRIDABLE_SIZES}
        put = {key: value for key, value in self.attributes.overrides.items() if key not in OVERRIDABLE_SIZES}
        return {**read, **self.attributes.properties, **put}

    def effective_min_disk(self) -> int:
        """The least disk that the image boots on, in GiB: an override, else the owner's word, else as read."""
        return self._effective_size("min_disk", self.attributes.min_disk)

    def effective_min_ram(self) -> int:
        """The least memory that the image boots with, in MiB: an override, else the owner's word, else as read."""
        return self._effective_size("min_ram", self.attributes.min_ram)

    def _effective_size(self, key: str, owners: int) -> int:
        read = self.facts.get(key)
        value = self.attributes.overrides.get(key, owners or (read.value if read else 0))
        return value if isinstance(value, int) else owners

    @property
    def can_be_restored(self) -> bool:
        """Whether it is deleted, and its bytes are still kept."""
        return self.status is Status.DELETED and self.purge_after is not None and not self.is_expired

    def wants(self, ref: BlobRef) -> bool:
        """Whether the image still needs the bytes at ``ref``; all others that carry its id may go."""
        if self.status is Status.DELETED and not self.can_be_restored:
            return False
        if self.data and ref in self.data.locations:
            return True
        operation = self.operation
        if operation is None or not (operation.is_running or self.status is Status.UPLOADING):
            return False
        made = operation.conversion.output if operation.conversion else None
        if ref in operation.copies or any(blob and blob.ref == ref for blob in (operation.staged, made)):
            return True
        # Every copy has the final bytes' key: what is under it in any store may be one that is being written.
        final = self.data.blob if self.data else made or operation.staged
        return operation.is_running and final is not None and final.ref.key == ref.key


def failure_of(error: TintypeError) -> Failure:
    """The failure that an error becomes when it ends an operation."""
    return Failure(error.reason, error.message[:1000], error.hint, error.retryable, error.evidence)
