"""The road of an image's bytes, as its history tells it: from what was sent to what is served, and who vouches for it.

Pure: what is told here is proven by :mod:`tintype.trust.custody`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tintype.domain.errors import ImageHasNoDataError, InternalError
from tintype.domain.events import (
    ConversionSkipped,
    ImageAttested,
    ImageConverted,
    ImagePublished,
    ImageStaged,
    ImageStepFailed,
    ImageVerified,
    ImportMethod,
    ImportRequested,
    Origin,
    RecordedEvent,
    StagePurpose,
    Verification,
    VerificationEvidence,
)
from tintype.domain.evolve import fold
from tintype.domain.values import Blob, DiskFormat, GuestDigest, ImageId, OperationId, ProjectId

MAX_CERTIFICATES = 16
"""In one publisher's chain."""

MAX_BUNDLE_BYTES = 2 * 1024 * 1024
"""Of a provenance in a file."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """Some bytes. ``disk_format`` is ``None`` where they are compressed, ``guest_digest`` where it is not known."""

    size: int
    digests: Mapping[str, str]
    disk_format: DiskFormat | None = None
    guest_digest: GuestDigest | None = None
    compression: str = ""


@dataclass(frozen=True, slots=True)
class Road:
    """What led to an image's bytes, without what failed before.

    ``conversion`` is the recorded event, upon which an attestation is based.
    """

    image_id: ImageId
    project: ProjectId
    operation_id: OperationId
    method: str
    signature_properties: Mapping[str, str]
    staged: ImageStaged
    verified: ImageVerified
    conversion: RecordedEvent

    @property
    def sent(self) -> Artifact:
        """The bytes as they were sent, which a publisher's signature covers."""
        blob, received, digest = self.staged.blob, self.staged.received, self._source_guest_digest
        if received is not None:
            return Artifact(received.size, received.digests, None, digest, received.compression)
        return Artifact(blob.size, blob.digests, blob.disk_format, digest)

    @property
    def published(self) -> Artifact:
        """The bytes that are to be served."""
        made = self.conversion.payload
        if isinstance(made, ImageConverted):
            return artifact_of(made.blob)
        return replace(artifact_of(self.staged.blob), guest_digest=self._source_guest_digest)

    @property
    def _source_guest_digest(self) -> GuestDigest | None:
        match self.conversion.payload:
            case ImageConverted(source_guest_digest=digest) | ConversionSkipped(guest_digest=digest):
                return digest or self.staged.blob.guest_digest
            case _:
                raise InternalError(f"{type(self.conversion.payload).__name__} ends no conversion")


@dataclass(frozen=True, slots=True)
class Provenance:
    """All that is needed to check an image's chain of custody without asking anybody, but for whom to trust.

    ``certificates`` are the publisher's chain in DER, the signer's first. ``attestation`` is a DSSE envelope in JSON;
    empty for what was published before roads were attested.
    """

    image_id: ImageId
    project: ProjectId
    sent: Artifact
    published: Artifact
    verification: Verification
    signature_properties: Mapping[str, str] = field(default_factory=dict)
    certificates: tuple[bytes, ...] = ()
    origin: Origin | None = None
    attestation: bytes = b""
    attestation_key_id: str = ""


def artifact_of(blob: Blob) -> Artifact:
    """What is told of stored bytes."""
    return Artifact(blob.size, blob.digests, blob.disk_format, blob.guest_digest)


def road_of(history: Sequence[RecordedEvent]) -> Road:
    """The road that the newest operation of an image has come, up to its conversion.

    Raises:
        ImageHasNoDataError: it has not come so far.
    """
    return _walked(history)[0]


def provenance_of(history: Sequence[RecordedEvent]) -> Provenance:
    """What an image's whole history tells of its published bytes.

    Raises:
        ImageHasNoDataError: none are published.
    """
    road, attested, published = _walked(history)
    if published is None:
        raise ImageHasNoDataError(f"image {road.image_id} has no published bytes yet")
    evidence = road.verified.evidence or VerificationEvidence("")
    return Provenance(
        road.image_id,
        road.project,
        road.sent,
        artifact_of(published.blob),
        road.verified.verification,
        road.signature_properties,
        evidence.certificates,
        road.staged.origin,
        attested.envelope if attested else b"",
        attested.key_id if attested else "",
    )


def _walked(history: Sequence[RecordedEvent]) -> tuple[Road, ImageAttested | None, ImagePublished | None]:
    image = fold(history)
    requested: ImportRequested | None = None
    staged: ImageStaged | None = None
    verified: ImageVerified | None = None
    conversion: RecordedEvent | None = None
    attested: ImageAttested | None = None
    published: ImagePublished | None = None
    for recorded in history:
        match recorded.payload:
            case ImportRequested() as requested:
                if requested.source.method is not ImportMethod.GLANCE_DIRECT:
                    staged = None
            case ImageStaged() as staged:
                requested = requested if staged.purpose is StagePurpose.IMPORT else None
            case ImageStepFailed():
                requested = staged = verified = conversion = attested = None
            case ImageVerified() as verified:
                conversion = attested = None
            case ImageConverted() | ConversionSkipped():
                conversion = recorded
            case ImageAttested() as attested:
                pass
            case ImagePublished() as published:
                pass
            case _:
                pass
    if image is None or staged is None or verified is None or conversion is None:
        raise ImageHasNoDataError("the image has no bytes whose road could be told yet")
    method = str(requested.source.method) if requested else StagePurpose.UPLOAD.value
    properties = {key: str(value) for key, value in image.attributes.signature_properties().items()}
    road = Road(image.id, image.project, verified.operation_id, method, properties, staged, verified, conversion)
    return road, attested, published
