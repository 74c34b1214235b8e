"""The facts that the log keeps about images, in the past tense, and the envelope that each travels in.

An event's meaning never changes: what has to change becomes a new event with an upcaster in :mod:`tintype.codec`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from tintype.domain.attributes import ImageAttributes
from tintype.domain.values import (
    DEFAULT_PLACEMENT,
    Blob,
    BlobRef,
    CommandId,
    Digest,
    Fact,
    GuestDigest,
    ImageId,
    OperationId,
    Placement,
    ProjectId,
    PropertyValue,
    Received,
)


class ImportMethod(StrEnum):
    """Where an import takes its bytes from, in Glance's names."""

    WEB_DOWNLOAD = "web-download"
    GLANCE_DIRECT = "glance-direct"


class StagePurpose(StrEnum):
    """What follows once bytes are staged."""

    UPLOAD = "upload"
    """A plain upload: verify and publish the bytes as they are."""

    STAGE = "stage"
    """Keep the bytes until an import asks for them."""

    IMPORT = "import"
    """The importer fetched them for a running import."""


class Step(StrEnum):
    """The steps of an image's road, each done by one service."""

    STAGE = "stage"
    VERIFY = "verify"
    CONVERT = "convert"
    ATTEST = "attest"
    PLACE = "place"
    PUBLISH = "publish"
    PURGE = "purge"


class Verdict(StrEnum):
    """What the signer found."""

    UNSIGNED = "unsigned"
    SIGNED = "signed"


class SkipReason(StrEnum):
    """Why an image was published as it came."""

    NOT_AN_IMPORT = "not_an_import"
    ALREADY_PREFERRED = "already_preferred"
    DISABLED = "disabled"
    NOT_A_DISK = "not_a_disk"


class ImportPlugin(StrEnum):
    """What a deployment may do with the images that it imports, or leave."""

    DECOMPRESSION = "decompression"
    CONVERSION = "conversion"
    INTROSPECTION = "introspection"
    INJECTION = "injection"


@dataclass(frozen=True, slots=True)
class SignedChecksums:
    """A publisher's list of checksums at ``uri``, its detached OpenPGP signature at ``signature_uri`` (empty where the
    list holds it), and the OpenPGP certificate of the publisher, or several, armored or binary.
    """

    uri: str
    signature_uri: str
    publisher_key: bytes


@dataclass(frozen=True, slots=True)
class ImportSource:
    """What an import was asked to fetch; ``expected_*`` and ``checksums`` are enforced where they are given."""

    method: ImportMethod
    uri: str = ""
    expected_size: int | None = None
    expected_digest: Digest | None = None
    checksums: SignedChecksums | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """What was proven of where imported bytes come from: ``digest`` of the bytes as they came was expected by the user,
    or stood in the list at ``checksums_uri``, signed with the OpenPGP certificate whose primary key has that
    fingerprint (upper-case hex).
    """

    uri: str
    digest: Digest
    checksums_uri: str = ""
    publisher_fingerprint: str = ""

    @property
    def summary(self) -> str:
        """In a few words: the URL, and what named the digest."""
        listed = f", in {self.checksums_uri} signed with {self.publisher_fingerprint}" if self.checksums_uri else ""
        return f"{self.uri}, {self.digest}{listed}"


@dataclass(frozen=True, slots=True)
class Verification:
    """What the signer verified: over which digest, and with whose certificate (its SHA-256 fingerprint, hex)."""

    verdict: Verdict
    digest: Digest | None = None
    certificate_id: str = ""
    certificate_fingerprint: str = ""
    certificate_subject: str = ""
    key_type: str = ""


@dataclass(frozen=True, slots=True)
class VerificationEvidence:
    """What a verdict is based on.

    ``policy`` is the fingerprint of the rules that were applied. ``certificates`` are the chain in DER, the signer's
    first and the trusted root last; empty for an unsigned image.
    """

    policy: str
    certificates: tuple[bytes, ...] = ()


class SandboxKind(StrEnum):
    """What confines the tool that converts an image."""

    BUBBLEWRAP = "bubblewrap"
    """Namespaces of its own: no network, and of the file system only what it needs."""

    NONE = "none"
    """Limits alone: an operator has switched the sandbox off."""

    IN_PROCESS = "in-process"
    """No other program ran: Tintype's own readers did it."""


@dataclass(frozen=True, slots=True)
class SandboxProfile:
    """How a tool was confined: ``limits`` by their names (seconds, bytes, counts), and whether system calls that start
    programs were filtered.
    """

    kind: SandboxKind
    limits: Mapping[str, int] = field(default_factory=dict)
    is_seccomp_filtered: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something did not work: the stable reason, a sentence for the user, what to do, and what it is based on."""

    reason: str
    message: str
    hint: str = ""
    retryable: bool = False
    evidence: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FailedStore:
    """A store that should hold the bytes, and does not: why."""

    store: str
    failure: Failure


# --- the facts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ImageCreated:
    """An image exists, without bytes."""

    attributes: ImageAttributes


@dataclass(frozen=True, slots=True)
class ImageUpdated:
    """A user changed the attributes: all of them as they are now, and which of them changed."""

    attributes: ImageAttributes
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImportRequested:
    """A user asked to fetch the image's bytes."""

    operation_id: OperationId
    source: ImportSource
    placement: Placement = DEFAULT_PLACEMENT


@dataclass(frozen=True, slots=True)
class ImageStaged:
    """The bytes are in a store, hashed and inspected, and not visible to anyone.

    ``received`` is what came, where it was decompressed: a publisher's signature covers it. ``injected`` are
    properties that the site adds; ``switched_off`` is what is not done with this image. ``origin`` is what was proven
    of where the bytes come from.

    ``placement`` names every store that the published bytes shall be in, the default one by its name as well; it is
    empty in events of releases that knew one store. ``copies`` are where the same bytes were written at once;
    ``failed`` are stores that could not take them.
    """

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
class ImageVerified:
    """The signer found nothing against the image."""

    operation_id: OperationId
    verification: Verification
    evidence: VerificationEvidence | None = None


@dataclass(frozen=True, slots=True)
class ImageConverted:
    """The same disk exists in the preferred format; ``source_guest_digest`` is that of the disk before.

    ``sandbox`` is how the tool was confined; ``None`` in events of releases that did not tell.
    """

    operation_id: OperationId
    blob: Blob
    tool: str
    tool_version: str
    arguments: tuple[str, ...]
    source_guest_digest: GuestDigest | None = None
    sandbox: SandboxProfile | None = None


@dataclass(frozen=True, slots=True)
class ConversionSkipped:
    """The image is published as it came; ``facts`` and ``guest_digest`` were read from the guest's disk meanwhile."""

    operation_id: OperationId
    why: SkipReason
    facts: Mapping[str, Fact] = field(default_factory=dict)
    guest_digest: GuestDigest | None = None


@dataclass(frozen=True, slots=True)
class ImageAttested:
    """The signer put its name to the image's road: ``envelope`` is a DSSE envelope (JSON) around an in-toto Statement,
    signed with the service's key ``key_id``.
    """

    operation_id: OperationId
    key_id: str
    envelope: bytes


@dataclass(frozen=True, slots=True)
class CopyRequested:
    """A user asked for copies of an active image in further stores."""

    operation_id: OperationId
    placement: Placement


@dataclass(frozen=True, slots=True)
class ImagePlaced:
    """The final bytes are at ``copies`` as well; ``failed`` are stores that could not take them."""

    operation_id: OperationId
    copies: tuple[BlobRef, ...]
    failed: tuple[FailedStore, ...] = ()


@dataclass(frozen=True, slots=True)
class ImagePublished:
    """The image is active: these are its bytes, for ever, and where they are."""

    operation_id: OperationId
    blob: Blob
    locations: tuple[BlobRef, ...]


@dataclass(frozen=True, slots=True)
class ImageStepFailed:
    """A step could not be done: the operation is over, and the image is queued again."""

    operation_id: OperationId
    step: Step
    failure: Failure


@dataclass(frozen=True, slots=True)
class CopyDamaged:
    """The bytes at ``ref`` are not the image's any more: ``found`` is their digest, ``None`` where they cannot
    be read.
    """

    ref: BlobRef
    expected: Digest
    found: Digest | None


@dataclass(frozen=True, slots=True)
class CopyHealed:
    """The bytes at ``ref`` are the image's again, copied from the store ``source``; its own where they were sound."""

    ref: BlobRef
    source: str


@dataclass(frozen=True, slots=True)
class CopyRemoved:
    """A user gave up the copy at ``ref``; the image has others."""

    ref: BlobRef


@dataclass(frozen=True, slots=True)
class ImageDeleted:
    """The image is gone for its users; its bytes are about to be, and not before ``purge_after`` where that is set."""

    purge_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class ImageRestored:
    """A deleted image is there again, ``with_data`` where it had its bytes."""

    with_data: bool


@dataclass(frozen=True, slots=True)
class ImageExpired:
    """The time in which a deleted image could be restored has passed."""


@dataclass(frozen=True, slots=True)
class ImagePurged:
    """No byte of the image is kept any more."""


Event = (
    ImageCreated
    | ImageUpdated
    | ImportRequested
    | ImageStaged
    | ImageVerified
    | ImageConverted
    | ConversionSkipped
    | ImageAttested
    | CopyRequested
    | ImagePlaced
    | ImagePublished
    | ImageStepFailed
    | CopyDamaged
    | CopyHealed
    | CopyRemoved
    | ImageDeleted
    | ImageRestored
    | ImageExpired
    | ImagePurged
)

EVENT_TOKENS: Mapping[type[Event], str] = {
    ImageCreated: "created",
    ImageUpdated: "updated",
    ImportRequested: "import_requested",
    ImageStaged: "staged",
    ImageVerified: "verified",
    ImageConverted: "converted",
    ConversionSkipped: "conversion_skipped",
    ImageAttested: "attested",
    CopyRequested: "copy_requested",
    ImagePlaced: "placed",
    ImagePublished: "published",
    ImageStepFailed: "step_failed",
    CopyDamaged: "copy_damaged",
    CopyHealed: "copy_healed",
    CopyRemoved: "copy_removed",
    ImageDeleted: "deleted",
    ImageRestored: "restored",
    ImageExpired: "expired",
    ImagePurged: "purged",
}
"""The last token of an event's subject, by which subscribers filter."""


# --- the envelope -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EventContext:
    """Who caused an event, and what it belongs to.

    ``correlation_id`` is the same for everything that follows from one request; ``causation_id`` is the event or
    command that led here; ``traceparent`` is W3C Trace Context. ``is_admin`` tells a command of an administrator.
    """

    actor: str
    correlation_id: str
    causation_id: str
    traceparent: str = ""
    is_admin: bool = False


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event that is about to be appended; the log gives it version, position and hashes."""

    image_id: ImageId
    project: ProjectId
    command_id: CommandId
    event_id: str
    time: datetime
    payload: Event
    context: EventContext


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event as the log holds it.

    ``position`` is its place in the whole log (from 1, rising, with gaps), ``version`` its place in the image's own
    history (from 1, without gaps). ``hash`` covers the event and ``previous_hash``, the hash of the image's previous
    event (empty for the first): 64 lower-case hexadecimal digits of SHA-256.
    """

    event: NewEvent
    version: int
    position: int
    previous_hash: str
    hash: str

    @property
    def payload(self) -> Event:
        """The fact itself."""
        return self.event.payload

    @property
    def image_id(self) -> ImageId:
        """The image that the fact is about."""
        return self.event.image_id


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step has come. Not a fact: it is told while it lasts, and kept nowhere.

    ``done`` and ``total`` are bytes of the step's own work; ``total`` is ``None`` where nobody knows it.
    ``waiting_for`` is what keeps the step from going on, for the time being.
    """

    image_id: ImageId
    project: ProjectId
    operation_id: OperationId
    step: Step
    done: int
    total: int | None
    time: datetime = field(compare=False)
    waiting_for: Failure | None = None
