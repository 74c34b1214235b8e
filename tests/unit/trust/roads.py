"""Roads of images with everything that vouches for them: an authority, a publisher, a service's key, a history."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tintype.domain.events import (
    ConversionSkipped,
    Event,
    ImageAttested,
    ImageConverted,
    ImageCreated,
    ImagePublished,
    ImageStaged,
    ImageVerified,
    ImportMethod,
    ImportRequested,
    ImportSource,
    Origin,
    RecordedEvent,
    SandboxKind,
    SandboxProfile,
    SkipReason,
    StagePurpose,
    Verdict,
    Verification,
    VerificationEvidence,
)
from tintype.domain.provenance import Provenance, provenance_of, road_of
from tintype.domain.values import Blob, BlobRef, Digest, DiskFormat, Received
from tintype.testing.events import ATTRIBUTES, GUEST_DIGEST, OPERATION, EventBuilder, an_image_id
from tintype.trust.certificates import service_certificate
from tintype.trust.dsse import IN_TOTO, sealed
from tintype.trust.signatures import HASH_BY_ALGORITHM, fingerprint_of, subject_of
from tintype.trust.signing import sign_digest, signature_properties
from tintype.trust.statement import statement_of
from tintype.trust.trust_store import TrustStore

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
KEY_ID = "tintype-20261127-1a2b3c4d"
SENT = b"what the publisher has"
CONVERTED = b"the same disk in another format"
REF = BlobRef("default", "images/1")


@dataclass(frozen=True)
class Issued:
    """A certificate, with its key."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


@functools.cache
def key(name: str) -> ec.EllipticCurvePrivateKey:
    """The key that stands for ``name``, for the time of the test run."""
    return ec.generate_private_key(ec.SECP384R1())


def issued(
    name: str, by: Issued | None = None, *, begins: datetime = NOW - timedelta(days=1), days: int = 30
) -> Issued:
    """A certificate for signing, or a root where nobody issues it."""
    own = key(name)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
    )
    return Issued(own, builder.sign(by.key if by else own, hashes.SHA384()))


@functools.cache
def root() -> Issued:
    return issued("Root")


@functools.cache
def publisher() -> Issued:
    return issued("Publisher", root())


@functools.cache
def service(key_id: str = KEY_ID) -> x509.Certificate:
    """The certificate of a key of the service."""
    return x509.load_pem_x509_certificate(service_certificate(key(key_id), key_id, NOW))


def store(*roots: Issued, keys: Sequence[str] = (KEY_ID,)) -> TrustStore:
    """Who trusts these roots, and these keys of the service."""
    return TrustStore(
        tuple(each.certificate for each in roots), service_certificates={key_id: service(key_id) for key_id in keys}
    )


def trusting() -> TrustStore:
    """Who trusts all that a road needs."""
    return store(root())


def digests(content: bytes) -> dict[str, str]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "sha512": hashlib.sha512(content).hexdigest()}


@dataclass(frozen=True)
class RoadCase:
    """What may be about a road; the defaults are a signed image that is imported and converted."""

    signer: Issued | None = None
    is_signed: bool = True
    is_converted: bool = True
    is_compressed: bool = False
    has_guest_digest: bool = True
    origin: Origin | None = None
    image: str = "image"
    project: str = "demo"
    key_id: str = KEY_ID
    sent: bytes = SENT

    @functools.cache  # noqa: B019
    def _events(self) -> tuple[Event, ...]:
        signer = self.signer or publisher()
        guest = GUEST_DIGEST if self.has_guest_digest else None
        covered = self.sent
        digest = Digest("sha512", digests(covered)["sha512"])
        signed = signature_properties(sign_digest(signer.key, digest), digest, "ECC_SECP384R1", "publisher-1")
        properties = dict(signed) if self.is_signed else {}
        staged = Blob(REF, len(covered), digests(covered), DiskFormat.QCOW2, 1024, {}, guest)
        received = None
        if self.is_compressed:
            received = Received(len(covered), digests(covered), "gzip")
            unpacked = covered * 2
            staged = replace(staged, size=len(unpacked), digests=digests(unpacked))
        raw = {"sha512": digests(CONVERTED)["sha512"]}
        converted = Blob(REF, len(CONVERTED), raw, DiskFormat.RAW, 1024, {}, guest)
        verification = Verification(
            Verdict.SIGNED,
            digest,
            "publisher-1",
            fingerprint_of(signer.certificate),
            subject_of(signer.certificate),
            "ECC_SECP384R1",
        )
        conversion: Event = ConversionSkipped(OPERATION, SkipReason.ALREADY_PREFERRED, {}, guest)
        if self.is_converted:
            sandbox = SandboxProfile(SandboxKind.BUBBLEWRAP, {"cpu_s": 7200}, is_seccomp_filtered=True)
            conversion = ImageConverted(OPERATION, converted, "qemu-img", "7.2.0", ("convert", "-p"), guest, sandbox)
        return (
            ImageCreated(replace(ATTRIBUTES, properties={**ATTRIBUTES.properties, **properties})),
            ImportRequested(OPERATION, ImportSource(ImportMethod.WEB_DOWNLOAD, "https://example.org/a?token=secret")),
            ImageStaged(OPERATION, StagePurpose.IMPORT, staged, received, origin=self.origin),
            ImageVerified(
                OPERATION,
                verification if self.is_signed else Verification(Verdict.UNSIGNED),
                VerificationEvidence("78" * 32, (signer.der, root().der) if self.is_signed else ()),
            ),
            conversion,
        )

    def history(self) -> list[RecordedEvent]:
        """As far as the conversion."""
        builder = EventBuilder(image_id=an_image_id(self.image), project=self.project)  # type: ignore[arg-type]
        return builder.recorded(self._events())

    def envelope(self) -> bytes:
        """The service's attestation."""
        return sealed_by(self.key_id, statement_of(road_of(self.history()), "1.2.3"))

    def provenance(self) -> Provenance:
        """What the catalog tells once it is published."""
        events = self._events()
        made = events[-1]
        blob = made.blob if isinstance(made, ImageConverted) else events[2].blob  # type: ignore[union-attr]
        if isinstance(made, ConversionSkipped):
            blob = replace(blob, guest_digest=made.guest_digest)
        attested = ImageAttested(OPERATION, self.key_id, self.envelope())
        builder = EventBuilder(image_id=an_image_id(self.image), project=self.project)  # type: ignore[arg-type]
        return provenance_of(builder.recorded((*events, attested, ImagePublished(OPERATION, blob, (REF,)))))


def sealed_by(key_id: str, payload: bytes, payload_type: str = IN_TOTO, *, signed_with: str = "") -> bytes:
    """The envelope around a payload, with the signature of the key of that id (or of another, under its id)."""

    async def sign(asked: str, digest: Digest) -> bytes:
        algorithm = Prehashed(HASH_BY_ALGORITHM[digest.algorithm])
        return key(signed_with or asked).sign(bytes.fromhex(digest.hex), ec.ECDSA(algorithm))

    return asyncio.run(sealed(payload, payload_type, key_id, sign))
