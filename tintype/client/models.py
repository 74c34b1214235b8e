"""What the SDK answers: images, operations, uploads, events. Frozen, typed, and named as the API names them.

The words that the values are made of (formats, states, steps) are the domain's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from tintype.client.errors import IntegrityError, ServiceUnavailableError
from tintype.domain.errors import ServiceKeyUnknownError
from tintype.domain.events import (
    EVENT_TOKENS,
    ConversionSkipped,
    CopyDamaged,
    CopyHealed,
    Event,
    FailedStore,
    Failure,
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
    ImportPlugin,
    ImportRequested,
    Origin,
    Progress,
    RecordedEvent,
    SignedChecksums,
    Step,
    Verification,
)
from tintype.domain.image import OperationKind, OperationState
from tintype.domain.lifecycle import Status
from tintype.domain.provenance import Artifact, Provenance
from tintype.domain.values import ContainerFormat, DiskFormat, Fact, PropertyValue, Visibility

if TYPE_CHECKING:
    from tintype.trust.custody import Custody

__all__ = [
    "Artifact",
    "ContainerFormat",
    "ConversionSkipped",
    "CopyDamaged",
    "CopyHealed",
    "DiskFormat",
    "Download",
    "Event",
    "Fact",
    "FailedStore",
    "Failure",
    "Image",
    "ImageAttested",
    "ImageConverted",
    "ImageCreated",
    "ImageDeleted",
    "ImageEvent",
    "ImagePublished",
    "ImagePurged",
    "ImageStaged",
    "ImageStepFailed",
    "ImageUpdated",
    "ImageVerified",
    "ImportMethod",
    "ImportPlugin",
    "ImportRequested",
    "LogCheck",
    "LogFault",
    "OnProgress",
    "Operation",
    "OperationKind",
    "OperationState",
    "Origin",
    "PluginState",
    "PolicyVerdict",
    "Progress",
    "PropertyValue",
    "Provenance",
    "RebuildProgress",
    "ScrubFinding",
    "ScrubProgress",
    "ScrubReport",
    "ServiceKey",
    "SignedCheckpoint",
    "SignedChecksums",
    "SignedDigest",
    "Status",
    "Step",
    "Trust",
    "Upload",
    "Verification",
    "Verify",
    "Visibility",
]

OnProgress = Callable[[int, int | None], None]
"""Called with what is done (bytes, events, messages), and with all there is of it where that is known."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image as the catalog shows it. Sizes are in bytes, ``min_disk`` in GiB, ``min_ram`` in MiB.

    ``size`` and what follows from the bytes is unset before they are published. ``read_facts`` is what was read from
    them, ``overrides`` what an administrator has put in the place of facts and properties, ``effective_properties``
    what counts. ``damaged_stores`` are those of the ``stores`` in which other bytes were found than the image's.
    ``failed_stores`` should hold the bytes and do not, each with its reason. A deleted image can be restored before
    ``purge_after``. ``failure`` says why the newest operation failed. ``position`` is the log position of the image's
    newest event.
    """

    id: str
    owner: str
    name: str
    status: Status
    visibility: Visibility
    disk_format: DiskFormat | None
    container_format: ContainerFormat | None
    size: int | None
    virtual_size: int | None
    digests: Mapping[str, str]
    min_disk: int
    min_ram: int
    protected: bool
    hidden: bool
    tags: tuple[str, ...]
    properties: Mapping[str, PropertyValue]
    created_at: datetime | None
    updated_at: datetime | None
    stores: tuple[str, ...]
    read_facts: Mapping[str, Fact]
    overrides: Mapping[str, PropertyValue]
    effective_properties: Mapping[str, PropertyValue]
    guest_digest: str
    verification: Verification | None
    source_digests: Mapping[str, str]
    attestation_key_id: str
    damaged_stores: tuple[str, ...]
    failed_stores: tuple[FailedStore, ...]
    purge_after: datetime | None
    failure: Failure | None
    operation_id: str
    etag: str
    position: int


@dataclass(frozen=True, slots=True)
class Operation:
    """An attempt to give an image its bytes, and how far it is; ``step`` and ``progress`` are unset when ``done``."""

    id: str
    image_id: str
    kind: OperationKind
    state: OperationState
    done: bool
    step: Step | None
    progress: Progress | None
    failure: Failure | None
    started_at: datetime | None
    ended_at: datetime | None
    position: int


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload: ``committed_size`` bytes are kept; ``complete`` when the image has all of them.

    ``operation_id`` is the operation that the upload becomes once it is finished.
    """

    upload_id: str
    operation_id: str
    image_id: str
    committed_size: int
    complete: bool


class Verify(StrEnum):
    """What is verified of a download before it gets its name."""

    NOTHING = "nothing"
    """Only that as many bytes came as the catalog tells of."""

    DIGEST = "digest"
    """The digest that the catalog tells of; of a range, its size."""

    CUSTODY = "custody"
    """That the bytes are what their publisher signed, or what a trusted service attests to have made of it."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to trust: a ``directory`` of certificates and nobody else, or those certificates that the signer has under
    these ids, or whom the signer names where neither is given.
    """

    directory: Path | None = None
    certificate_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Download:
    """A finished download: ``size`` bytes; ``digest`` (ALGORITHM:HEX) is what was verified, empty if nothing was.

    ``custody`` is what was proven of these bytes, and by whom, where that was asked for.
    """

    image_id: str
    size: int
    digest: str
    custody: Custody | None = None


@dataclass(frozen=True, slots=True)
class ImageEvent:
    """A fact about an image, with its envelope.

    ``position`` is its place in the whole log, ``version`` its place in the image's own history. ``type`` is the last
    token of its subject, such as ``published``, and ``payload`` the fact itself.
    """

    position: int
    version: int
    event_id: str
    image_id: str
    project: str
    time: datetime
    actor: str
    command_id: str
    correlation_id: str
    causation_id: str
    traceparent: str
    previous_hash: str
    hash: str
    type: str
    payload: Event

    @classmethod
    def of(cls, recorded: RecordedEvent) -> ImageEvent:
        """The event that the log recorded."""
        event = recorded.event
        return cls(
            position=recorded.position,
            version=recorded.version,
            event_id=event.event_id,
            image_id=event.image_id,
            project=event.project,
            time=event.time,
            actor=event.context.actor,
            command_id=event.command_id,
            correlation_id=event.context.correlation_id,
            causation_id=event.context.causation_id,
            traceparent=event.context.traceparent,
            previous_hash=recorded.previous_hash,
            hash=recorded.hash,
            type=EVENT_TOKENS[type(event.payload)],
            payload=event.payload,
        )


@dataclass(frozen=True, slots=True)
class PluginState:
    """Whether a deployment does something with imports; ``description`` says what, in one sentence."""

    plugin: ImportPlugin
    enabled: bool
    description: str


@dataclass(frozen=True, slots=True)
class RebuildProgress:
    """How far the new tables are: at ``position`` of ``head``; ``switched`` once they are in use."""

    position: int
    head: int
    images: int
    switched: bool


@dataclass(frozen=True, slots=True)
class LogFault:
    """Where the log is not what was once written.

    ``reason`` is ``LOG_CORRUPT`` where an image's chain of hashes is broken, and one of a checkpoint's reasons where
    the log is not what a checkpoint says, or that one is not genuine; then ``image_id`` is empty.
    """

    image_id: str
    position: int
    message: str
    reason: str = "LOG_CORRUPT"


@dataclass(frozen=True, slots=True)
class LogCheck:
    """What a check of the whole log found: all is well where there are no ``faults``.

    ``checkpoints`` are how many the log was held against and agreed with, ``covered`` the position of the last of
    them: nothing up to there was changed, or has vanished. ``keys_from`` says whose word for the service's keys was
    taken: ``trust store``, ``signer``, or ``nobody`` where no signature was verified.
    """

    events: int
    images: int
    head: int
    faults: tuple[LogFault, ...]
    checkpoints: int = 0
    covered: int = 0
    keys_from: str = "nobody"

    def require_sound(self) -> None:
        """Check that there are no faults.

        Raises:
            IntegrityError: there are; its reason is that of a checkpoint where one of them is about a checkpoint.
        """
        if not self.faults:
            return
        worst = next((fault for fault in self.faults if not fault.image_id), self.faults[0])
        more = f", and {len(self.faults) - 1} faults more" if len(self.faults) > 1 else ""
        about = f"image {worst.image_id} at position {worst.position}: " if worst.image_id else ""
        if worst.reason == ServiceKeyUnknownError.reason:  # nothing is known to be wrong, and nothing proven
            message = f"the log cannot be held against its checkpoints: {worst.message}{more}"
            raise IntegrityError(message, reason=worst.reason, hint=ServiceKeyUnknownError.hint)
        raise IntegrityError(
            f"the log is damaged: {about}{worst.message}{more}",
            reason=worst.reason,
            hint="Keep the log as it is, compare it with a backup, and look for who could write to its files.",
        )


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A signed statement about the whole log up to ``position``; not verified.

    ``root`` is over the newest events of all ``images``; ``previous`` is the digest of the checkpoint before it.
    ``envelope`` is what to save (JSON). ``complaint`` says why the signer publishes no further ones, if it does not.
    """

    number: int
    position: int
    events: int
    images: int
    root: str
    time: datetime
    previous: str
    key_id: str
    complaint: Failure | None
    envelope: str


@dataclass(frozen=True, slots=True)
class ScrubFinding:
    """What became of a copy that is not sound, or that could not be looked at.

    ``expected`` and ``found`` are digests (ALGORITHM:HEX); ``found`` is empty where the copy cannot be read. It was
    ``healed``, or ``failure`` says why not. ``STORE_UNAVAILABLE`` says nothing about the copy.
    """

    image_id: str
    store: str
    expected: str
    found: str
    healed: bool
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class ScrubProgress:
    """How far a scrub is: bytes read of ``total``, copies looked at, and what was found just now."""

    done: int
    total: int
    copies: int
    finding: ScrubFinding | None


@dataclass(frozen=True, slots=True)
class ScrubReport:
    """What a whole scrub found: all copies are sound where there are no ``findings`` but healed ones."""

    done: int
    copies: int
    findings: tuple[ScrubFinding, ...]

    def require_sound(self) -> None:
        """Check that every copy is sound, or was healed.

        Raises:
            IntegrityError: reason ``BLOB_DAMAGED``: some are damaged.
            ServiceUnavailableError: reason ``STORE_UNAVAILABLE``: none is known to be, and some could not be read.
        """
        left = [finding for finding in self.findings if not finding.healed]
        if not left:
            return
        worst = next((finding for finding in left if not _says_nothing(finding)), left[0])
        more = f", and {len(left) - 1} more" if len(left) > 1 else ""
        where = f"image {worst.image_id}" + (f" in store {worst.store!r}" if worst.store else "")
        why = f": {worst.failure.message}" if worst.failure else ""
        hint = worst.failure.hint if worst.failure else ""
        if _says_nothing(worst):
            raise ServiceUnavailableError(
                f"a copy of {where} could not be read{more}{why}", reason="STORE_UNAVAILABLE", hint=hint
            )
        raise IntegrityError(
            f"the copy of {where} is damaged, and was not healed{more}{why}", reason="BLOB_DAMAGED", hint=hint
        )


def _says_nothing(finding: ScrubFinding) -> bool:
    return finding.failure is not None and finding.failure.reason == "STORE_UNAVAILABLE" and not finding.found


@dataclass(frozen=True, slots=True)
class PolicyVerdict:
    """What a project's signature policy says about one of its images: let in with ``verification``, or a ``failure``.

    ``policy`` is the fingerprint of the rules that were applied.
    """

    image_id: str
    project: str
    allowed: bool
    verification: Verification | None
    failure: Failure | None
    policy: str


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """A key that the service signs with. ``certificate`` is in PEM, ``key_type`` as img_signature_key_type names it.

    The ``active`` one signs now; the others verify what they signed before.
    """

    id: str
    key_type: str
    active: bool
    created_at: datetime | None
    certificate: str


@dataclass(frozen=True, slots=True)
class SignedDigest:
    """A signature by the service: the four properties to set on an image, and the key's certificate in PEM."""

    properties: Mapping[str, str]
    certificate: str
