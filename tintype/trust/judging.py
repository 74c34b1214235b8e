"""Whether a signature counts: the signature itself, then who stands behind it, then what the project's policy says.

The signer judges by it on an image's road, and the client before a download gets its name.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509

from tintype.domain.errors import (
    CertificateTooOldError,
    RefusedContentError,
    SignatureMissingError,
    SignerNotAllowedError,
)
from tintype.domain.events import Verification
from tintype.domain.values import Digest
from tintype.trust.chains import Chain, verify_alone, verify_chain
from tintype.trust.pem import certificates_of
from tintype.trust.policy import SignaturePolicy
from tintype.trust.public_keys import name_of
from tintype.trust.signatures import DeclaredSignature, fingerprint_of, subject_of, verify_signature
from tintype.trust.trust_store import TrustStore


def judge_signature(
    declared: DeclaredSignature,
    digest: Digest,
    certificates_pem: bytes,
    store: TrustStore,
    policy: SignaturePolicy,
    at: datetime,
) -> tuple[Verification, Chain]:
    """Verify the signature over the digest, and that its certificate is trusted at that time under the policy.

    ``certificates_pem`` holds the signer's certificate first, and intermediate ones in any order. Blocks for some
    milliseconds.

    Raises:
        RefusedContentError: one of its subclasses, as the steps say; its evidence names the policy, and the certificate
            as far as it could be read.
    """
    evidence = {"policy": policy.fingerprint(store), "certificate_id": declared.certificate_id[:128]}
    try:
        # 1. There is a certificate (CERTIFICATE_INVALID).
        certificate, *intermediates = certificates_of(certificates_pem, f"certificate {declared.certificate_id[:80]!r}")
        evidence["certificate_fingerprint"] = fingerprint_of(certificate)
        evidence["certificate_subject"] = subject_of(certificate)
        # 2. The signature over the digest is its key's (SIGNATURE_INVALID, KEY_TYPE_MISMATCH, WEAK_KEY).
        verification = verify_signature(declared, digest, certificate)
        # 3. The certificate is trusted (CERTIFICATE_UNTRUSTED, _EXPIRED, _REVOKED, …: RFC 5280 in `chains`).
        chain = _trusted(certificate, intermediates, store, policy, at)
        # 4. The policy lets this certificate sign (SIGNER_NOT_ALLOWED), and finds it new enough (CERTIFICATE_TOO_OLD).
        _require_allowed(certificate, policy)
        _require_new(certificate, policy, at)
    except RefusedContentError as exc:
        exc.evidence = {**exc.evidence, **evidence}
        raise
    return verification, chain


def judge_unsigned(store: TrustStore, policy: SignaturePolicy) -> None:
    """Whether the policy takes an image that declares no signature.

    Raises:
        SignatureMissingError: it does not.
    """
    if policy.require_signature:
        raise SignatureMissingError(
            "only signed images are taken here, and the image has no signature",
            evidence={"policy": policy.fingerprint(store)},
        )


def _trusted(
    certificate: x509.Certificate,
    intermediates: list[x509.Certificate],
    store: TrustStore,
    policy: SignaturePolicy,
    at: datetime,
) -> Chain:
    # A key of the service itself needs no authority, and where there are no roots, whoever placed it here vouches.
    if not policy.requires_chain or certificate in store.service_certificates.values():
        return verify_alone(certificate, store, at, clock_skew=policy.clock_skew)
    return verify_chain(
        certificate, intermediates, store, at, max_length=policy.max_chain_length, clock_skew=policy.clock_skew
    )


def _require_allowed(certificate: x509.Certificate, policy: SignaturePolicy) -> None:
    if policy.allowed_signers and fingerprint_of(certificate) not in policy.allowed_signers:
        raise SignerNotAllowedError(f"{name_of(certificate)} is not among those that may sign here")


def _require_new(certificate: x509.Certificate, policy: SignaturePolicy, at: datetime) -> None:
    if policy.max_certificate_age_days is None:
        return
    age = at - certificate.not_valid_before_utc
    if age > timedelta(days=policy.max_certificate_age_days) + policy.clock_skew:
        raise CertificateTooOldError(
            f"{name_of(certificate)} is {age.days} days old; {policy.max_certificate_age_days} are accepted"
        )
