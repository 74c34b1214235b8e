"""Whether an image's bytes are what its publisher signed: the chain of custody, link by link. Pure: no I/O, no clock.

publisher's signature → bytes as sent → guest's disk → converted bytes → these bytes

Nothing that the provenance tells counts by itself. The publisher's links are proven by the publisher's signature, those
of the service by its attestation; both, and what is told beside them, have to say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tintype.domain.errors import (
    AttestationForeignError,
    AttestationMissingError,
    CertificateInvalidError,
    CertificateNotFoundError,
    CustodyBrokenError,
    DigestMismatchError,
    SignatureMissingError,
    SizeMismatchError,
)
from tintype.domain.events import Verdict, Verification
from tintype.domain.provenance import Provenance
from tintype.domain.values import Digest, ImageId, ProjectId
from tintype.trust.chains import Chain, verify_alone
from tintype.trust.dsse import IN_TOTO, envelope_of, verified_payload
from tintype.trust.judging import judge_signature
from tintype.trust.policy import SignaturePolicy
from tintype.trust.signatures import declared_signature
from tintype.trust.statement import Attested, Converted, read_statement
from tintype.trust.trust_store import TrustStore

STRONG_DIGESTS = ("sha256", "sha512", "sha384", "sha224")
"""What proves that bytes are the same, the fastest first; md5 and sha1 prove nothing any more."""

_MAX_CERTIFICATES = 16


class LinkName(StrEnum):
    """The links of the chain, in their order."""

    SIGNATURE = "publisher's signature"
    ORIGIN = "origin"
    SENT = "bytes as sent"
    GUEST_DISK = "guest's disk"
    CONVERTED = "conversion"
    PUBLISHED = "published bytes"


class Proof(StrEnum):
    """Who vouches for a link."""

    PUBLISHER = "publisher"
    """The publisher's signature."""

    SERVICE = "service"
    """The service's attestation alone, or its own key, with which it signs the images of others too."""

    BOTH = "publisher and service"
    """Either would do."""

    NOBODY = "nobody"
    """There is nothing to prove it by; what follows does not rest on it."""


@dataclass(frozen=True, slots=True)
class Link:
    """One link, what it is about in a few words, and who vouches for it."""

    name: LinkName
    detail: str
    proof: Proof


@dataclass(frozen=True, slots=True)
class Custody:
    """What was proven: bytes of this ``size`` with these ``digests`` are the image.

    ``digests`` are the publisher's signed one alone where the bytes were published as they were sent, else those that
    the service attested. ``signer`` is whose signature it was, ``service_key_id`` the key of the attestation.
    """

    image_id: ImageId
    project: ProjectId
    size: int
    digests: Mapping[str, str]
    links: tuple[Link, ...]
    signer: Verification
    service_key_id: str
    policy: str
    verified_at: datetime

    @property
    def digest(self) -> Digest:
        """The digest by which bytes are recognised."""
        return next(Digest(name, self.digests[name]) for name in STRONG_DIGESTS if name in self.digests)

    @property
    def is_signed(self) -> bool:
        """Whether a publisher's signature was proven."""
        return self.signer.verdict is Verdict.SIGNED


@dataclass(frozen=True, slots=True)
class CustodyRules:
    """What is asked for: a publisher's signature unless ``allow_unsigned``, by one of ``allowed_signers`` (SHA-256
    fingerprints; empty is all that lead to a trusted root), of this image alone where ``image_id`` is given.

    ``trusts_service_signers``: a service's own keys, which attest, may have signed images as well.
    """

    image_id: ImageId | None = None
    allow_unsigned: bool = False
    allowed_signers: frozenset[str] = frozenset()
    trusts_service_signers: bool = True


def verify_custody(
    provenance: Provenance,
    store: TrustStore,
    at: datetime,
    rules: CustodyRules = CustodyRules(),
) -> Custody:
    """Verify the whole chain, trusting ``store`` alone; every certificate is judged at ``at``. Blocks for milliseconds.

    Raises:
        RefusedContentError: a link is missing or does not hold; the steps say which reason.
    """
    # 1. There is an attestation (ATTESTATION_MISSING), signed by a trusted service's key (ATTESTATION_INVALID,
    #    SERVICE_KEY_UNKNOWN) whose certificate is in date (CERTIFICATE_EXPIRED, CERTIFICATE_NOT_YET_VALID).
    attested, key_id = _attested(provenance, store, at)
    # 2. It is about this image, and these published bytes (ATTESTATION_FOREIGN).
    _require_own(provenance, attested, rules)
    # 3. What is told of the bytes as sent, of their origin and of the verdict is what was attested (CUSTODY_BROKEN).
    _require_same(provenance, attested)
    # 4. The publisher's signature covers the bytes as sent (SIGNATURE_*), and the certificate is trusted
    #    (CERTIFICATE_*, SIGNER_NOT_ALLOWED); or there is none, and none is asked for.
    signer, chain = _publisher(provenance, attested, store, at, rules)
    # 5. The service verified the same signature (CUSTODY_BROKEN).
    _require_same_signer(attested.verification, signer)
    # 6. The published bytes are those that were sent, or hold the same disk (CUSTODY_BROKEN).
    digests = _published_digests(attested, signer)
    return Custody(
        attested.image_id,
        attested.project,
        attested.published.size,
        digests,
        _links(attested, signer, chain, _vouching(signer, chain, store)),
        signer,
        key_id,
        attested.policy,
        at,
    )


def require_bytes(custody: Custody, size: int, digest: Digest) -> None:
    """The last link: bytes of this size and digest (of the algorithm of ``custody.digest``) are the image.

    Raises:
        SizeMismatchError: there are more or fewer.
        DigestMismatchError: they are others.
    """
    if size != custody.size:
        raise SizeMismatchError(f"{size} bytes are there, and {custody.size} were attested")
    if digest != custody.digest:
        raise DigestMismatchError(f"the bytes' digest is {digest}, and that of the image {custody.digest}")


# --- the service ------------------------------------------------------------------------------------------------------


def _attested(provenance: Provenance, store: TrustStore, at: datetime) -> tuple[Attested, str]:
    if not provenance.attestation:
        raise AttestationMissingError(f"no service has attested the road of image {provenance.image_id}")
    envelope = envelope_of(provenance.attestation)
    payload, key_id = verified_payload(envelope, IN_TOTO, store.service_certificates)
    # A key that signs no more goes on to verify: its certificate is trusted by itself, until it is out of date.
    verify_alone(store.service_certificates[key_id], store, at)
    return read_statement(payload), key_id


def _require_own(provenance: Provenance, attested: Attested, rules: CustodyRules) -> None:
    for wanted in (provenance.image_id, rules.image_id or provenance.image_id):
        if attested.image_id != wanted:
            raise AttestationForeignError(f"the attestation is about image {attested.image_id}, and not {wanted}")
    if attested.project != provenance.project:
        raise AttestationForeignError(
            f"the attestation is about an image of project {attested.project!r}, and not {provenance.project!r}"
        )
    if attested.published != provenance.published:
        raise AttestationForeignError("the attestation is about other bytes than those that are said to be published")


def _require_same(provenance: Provenance, attested: Attested) -> None:
    if attested.sent != provenance.sent:
        raise CustodyBrokenError("the bytes that were attested as sent are not those that are said to have been sent")
    if attested.origin != provenance.origin:
        raise CustodyBrokenError("the origin that was attested is not the one that is told")
    if attested.verification != provenance.verification:
        raise CustodyBrokenError("the verdict on the signature that was attested is not the one that is told")


# --- the publisher ----------------------------------------------------------------------------------------------------


def _publisher(
    provenance: Provenance, attested: Attested, store: TrustStore, at: datetime, rules: CustodyRules
) -> tuple[Verification, Chain]:
    declared = declared_signature(provenance.signature_properties)
    if declared is None:
        if not rules.allow_unsigned:
            raise SignatureMissingError(f"image {attested.image_id} has no publisher's signature")
        return Verification(Verdict.UNSIGNED), ()
    value = attested.sent.digests.get(declared.digest_algorithm)
    if value is None:
        raise CustodyBrokenError(f"no {declared.digest_algorithm} digest of the bytes as sent was attested")
    policy = SignaturePolicy(requires_chain=True, allowed_signers=rules.allowed_signers)
    digest = Digest(declared.digest_algorithm, value)
    if not rules.trusts_service_signers:
        store = replace(store, service_certificates={})
    return judge_signature(declared, digest, _pem(provenance.certificates), store, policy, at)


def _pem(certificates: tuple[bytes, ...]) -> bytes:
    if not certificates:
        raise CertificateNotFoundError("the provenance of a signed image holds no certificate")
    if len(certificates) > _MAX_CERTIFICATES:
        raise CertificateInvalidError(f"the provenance holds more than {_MAX_CERTIFICATES} certificates")
    try:
        parsed = [x509.load_der_x509_certificate(each) for each in certificates]
        return b"".join(each.public_bytes(Encoding.PEM) for each in parsed)
    except (ValueError, TypeError, x509.InvalidVersion) as exc:
        raise CertificateInvalidError("the provenance holds what is no X.509 certificate in DER") from exc


def _require_same_signer(attested: Verification, signer: Verification) -> None:
    if attested.verdict is not signer.verdict:
        raise CustodyBrokenError(
            f"the service attested an image that is {attested.verdict}, and what is told of it is {signer.verdict}"
        )
    if attested != signer:
        raise CustodyBrokenError("the service attested another signature, or another certificate, than there is")


# --- the bytes --------------------------------------------------------------------------------------------------------


def _published_digests(attested: Attested, signer: Verification) -> Mapping[str, str]:
    sent, published = attested.sent, attested.published
    if isinstance(attested.conversion, Converted) or sent.compression:
        # Where no disk could be read before, as in a container archive, the service's word is all there is.
        if sent.guest_digest is not None and sent.guest_digest != published.guest_digest:
            raise CustodyBrokenError("the disk in the published bytes is not the disk that was sent")
        digests = {name: value for name, value in published.digests.items() if name in STRONG_DIGESTS}
    else:
        if (sent.size, dict(sent.digests)) != (published.size, dict(published.digests)):
            raise CustodyBrokenError("nothing was converted, and the published bytes are not those that were sent")
        digests = {name: value for name, value in sent.digests.items() if name in STRONG_DIGESTS}
        if signer.digest is not None:
            digests = {signer.digest.algorithm: signer.digest.hex}
    if not digests:
        raise CustodyBrokenError("no digest of the published bytes was attested that proves anything")
    return digests


def _vouching(signer: Verification, chain: Chain, store: TrustStore) -> Proof:
    """Whose word the signature is: what the service signed for a caller is no publisher's."""
    if signer.verdict is not Verdict.SIGNED:
        return Proof.NOBODY
    return Proof.SERVICE if chain[0] in store.service_certificates.values() else Proof.PUBLISHER


def _links(attested: Attested, signer: Verification, chain: Chain, by: Proof) -> tuple[Link, ...]:
    sent, published, made = attested.sent, attested.published, attested.conversion
    is_same = not isinstance(made, Converted) and not sent.compression
    both = Proof.BOTH if by is Proof.PUBLISHER else Proof.SERVICE
    links = [Link(LinkName.SIGNATURE, _signature(signer, chain, by), by)]
    if attested.origin is not None:
        links.append(Link(LinkName.ORIGIN, attested.origin.summary, Proof.SERVICE))
    links.append(Link(LinkName.SENT, str(signer.digest or _strongest(sent.digests)), both))
    links.append(
        Link(
            LinkName.GUEST_DISK,
            sent.guest_digest or published.guest_digest or "not known",
            Proof.SERVICE if sent.guest_digest or published.guest_digest else Proof.NOBODY,
        )
    )
    links.append(Link(LinkName.CONVERTED, _conversion(made, sent.compression), Proof.SERVICE))
    told = signer.digest if is_same else None
    links.append(
        Link(LinkName.PUBLISHED, str(told or _strongest(published.digests)), both if is_same else Proof.SERVICE)
    )
    return tuple(links)


def _signature(signer: Verification, chain: Chain, by: Proof) -> str:
    match by:
        case Proof.NOBODY:
            return "none"
        case Proof.SERVICE:
            whose = "a key of the service"
        case _:
            whose = "a chain of one certificate" if len(chain) == 1 else f"a chain of {len(chain)} certificates"
    return f"{signer.key_type} by {signer.certificate_subject}, {whose}"


def _conversion(made: Converted | object, compression: str) -> str:
    unpacked = f"decompressed ({compression}); " if compression else ""
    if not isinstance(made, Converted):
        return f"{unpacked}none: {made}"
    sandbox = f", sandbox: {made.sandbox.kind}" if made.sandbox else ""
    return f"{unpacked}{made.tool} {made.version} {' '.join(made.arguments)}{sandbox}"[:400]


def _strongest(digests: Mapping[str, str]) -> str:
    return next((f"{name}:{digests[name]}" for name in STRONG_DIGESTS if name in digests), "")
