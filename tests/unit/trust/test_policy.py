"""Policies: their fingerprints, and what each rule lets in."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

import pytest
from cryptography import x509

from tintype.domain.errors import (
    CertificateInvalidError,
    CertificateTooOldError,
    CertificateUntrustedError,
    InvalidArgumentError,
    RefusedContentError,
    SignatureInvalidError,
    SignatureMissingError,
    SignerNotAllowedError,
)
from tintype.domain.events import Verification
from tintype.domain.values import Digest
from tintype.testing.certificates import ec_key, pem, root_authority, usage
from tintype.testing.clock import START
from tintype.trust.chains import Chain
from tintype.trust.judging import judge_signature, judge_unsigned
from tintype.trust.policy import SignaturePolicy, parse_fingerprint
from tintype.trust.signatures import declared_signature, fingerprint_of
from tintype.trust.signing import sign_digest, signature_properties
from tintype.trust.trust_store import TrustStore

ROOT = root_authority()
MIDDLE = ROOT.authority("Middle")
KEY = ec_key("signer")
SIGNER = MIDDLE.issue("Signer", KEY.public_key())
CHAIN = pem(SIGNER, MIDDLE.certificate)
STORE = TrustStore((ROOT.certificate,))
DIGEST = Digest("sha256", hashlib.sha256(b"the bytes").hexdigest())
SIGNATURE = sign_digest(KEY, DIGEST)
TRUSTED = SignaturePolicy(requires_chain=True)


def judged(
    policy: SignaturePolicy,
    *,
    store: TrustStore = STORE,
    certificates: bytes = CHAIN,
    at: datetime = START,
    signature: bytes = SIGNATURE,
) -> tuple[Verification, Chain]:
    """All the steps."""
    declared = declared_signature(signature_properties(signature, DIGEST, "ECC_SECP256R1", "publisher"))
    assert declared is not None
    return judge_signature(declared, DIGEST, certificates, store, policy, at)


# --- fingerprints -----------------------------------------------------------------------------------------------------


def test_the_fingerprint_of_a_policy_never_changes() -> None:
    # Events carry it for ever: whoever changes what it covers gives it another version.
    assert SignaturePolicy().fingerprint(TrustStore()) == (
        "51c17e49ff2e23434bd81980d0a4a8e32c82dd7324ec65da137463a119b1ba42"
    )


def test_every_rule_and_every_trusted_certificate_is_in_the_fingerprint() -> None:
    changed = [
        SignaturePolicy(require_signature=True).fingerprint(STORE),
        SignaturePolicy(requires_chain=True).fingerprint(STORE),
        SignaturePolicy(allowed_signers=frozenset({"ab" * 32})).fingerprint(STORE),
        SignaturePolicy(max_certificate_age_days=1).fingerprint(STORE),
        SignaturePolicy(clock_skew_s=1).fingerprint(STORE),
        SignaturePolicy(max_chain_length=3).fingerprint(STORE),
        SignaturePolicy().fingerprint(TrustStore()),
        SignaturePolicy().fingerprint(TrustStore((ROOT.certificate,), (MIDDLE.certificate,))),
        SignaturePolicy().fingerprint(TrustStore((ROOT.certificate,), service_certificates={"key": SIGNER})),
        SignaturePolicy().fingerprint(STORE),
    ]
    assert len(set(changed)) == len(changed)


def test_the_order_of_rules_and_roots_is_no_matter_and_revocation_lists_are_no_rules() -> None:
    other = root_authority("Other")
    one = SignaturePolicy(allowed_signers=frozenset({"ab" * 32, "cd" * 32}))
    two = SignaturePolicy(allowed_signers=frozenset({"cd" * 32, "ab" * 32}))
    forth = TrustStore((ROOT.certificate, other.certificate))
    back = TrustStore((other.certificate, ROOT.certificate), revocation_lists=(ROOT.revocation_list(),))
    assert one.fingerprint(forth) == two.fingerprint(back)


@pytest.mark.parametrize("text", [":".join(["AB"] * 32), "ab" * 32, "AB" * 32, f" {'ab' * 32} "])
def test_fingerprints_are_read_as_openssl_writes_them(text: str) -> None:
    assert parse_fingerprint(text) == "ab" * 32


@pytest.mark.parametrize("text", ["", "ab", "xy" * 32, "ab" * 20, "ab" * 33, "sha256:" + "ab" * 32, "²" * 64])
def test_what_is_no_fingerprint_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        parse_fingerprint(text)


# --- rules ------------------------------------------------------------------------------------------------------------


def test_a_chain_to_a_root_is_asked_for_where_roots_are_set() -> None:
    verification, chain = judged(TRUSTED)
    assert chain == (SIGNER, MIDDLE.certificate, ROOT.certificate)
    assert verification.certificate_fingerprint == fingerprint_of(SIGNER)
    with pytest.raises(CertificateUntrustedError):
        judged(TRUSTED, store=TrustStore())
    with pytest.raises(CertificateUntrustedError):
        judged(TRUSTED, certificates=pem(SIGNER))


def test_without_roots_a_certificate_that_an_operator_placed_is_trusted_as_it_is() -> None:
    assert judged(SignaturePolicy(), store=TrustStore())[1] == (SIGNER,)


def test_a_key_of_the_service_needs_no_root() -> None:
    store = TrustStore((), service_certificates={"tintype-1": SIGNER})
    assert judged(TRUSTED, store=store)[1] == (SIGNER,)


def test_only_allowed_signers_may_sign() -> None:
    allowed = SignaturePolicy(requires_chain=True, allowed_signers=frozenset({fingerprint_of(SIGNER)}))
    assert judged(allowed)
    others = SignaturePolicy(requires_chain=True, allowed_signers=frozenset({fingerprint_of(ROOT.certificate)}))
    with pytest.raises(SignerNotAllowedError):
        judged(others)


def test_a_key_of_the_service_has_to_be_allowed_like_others() -> None:
    store = TrustStore((), service_certificates={"tintype-1": SIGNER})
    with pytest.raises(SignerNotAllowedError):
        judged(SignaturePolicy(requires_chain=True, allowed_signers=frozenset({"ab" * 32})), store=store)


def aged(days: float) -> bytes:
    """A signer's certificate that was issued so long ago."""
    begins = START.replace(microsecond=0) - timedelta(days=days)
    return pem(ROOT.issue("Signer", KEY.public_key(), begins=begins))


def test_certificates_grow_too_old_at_the_border() -> None:
    now = START.replace(microsecond=0)
    policy = SignaturePolicy(requires_chain=True, max_certificate_age_days=30)
    assert judged(policy, certificates=aged(30), at=now)
    with pytest.raises(CertificateTooOldError):
        judged(policy, certificates=aged(30), at=now + timedelta(seconds=1))
    skewed = SignaturePolicy(requires_chain=True, max_certificate_age_days=30, clock_skew_s=5)
    assert judged(skewed, certificates=aged(30), at=now + timedelta(seconds=5))
    with pytest.raises(CertificateTooOldError):
        judged(skewed, certificates=aged(30), at=now + timedelta(seconds=6))


def test_an_image_without_a_signature_is_let_in_where_none_is_asked_for() -> None:
    judge_unsigned(STORE, SignaturePolicy())
    with pytest.raises(SignatureMissingError) as caught:
        judge_unsigned(STORE, SignaturePolicy(require_signature=True))
    assert caught.value.evidence == {"policy": SignaturePolicy(require_signature=True).fingerprint(STORE)}


# --- evidence ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refused", "error"),
    [
        (lambda: judged(TRUSTED, signature=sign_digest(ec_key("other"), DIGEST)), SignatureInvalidError),
        (lambda: judged(TRUSTED, store=TrustStore()), CertificateUntrustedError),
        (lambda: judged(SignaturePolicy(allowed_signers=frozenset({"ab" * 32}))), SignerNotAllowedError),
    ],
)
def test_a_refusal_carries_what_it_is_based_on(refused: object, error: type[RefusedContentError]) -> None:
    assert callable(refused)
    with pytest.raises(error) as caught:
        refused()
    assert caught.value.evidence["certificate_fingerprint"] == fingerprint_of(SIGNER)
    assert caught.value.evidence["certificate_subject"] == "CN=Signer"
    assert caught.value.evidence["certificate_id"] == "publisher"
    assert len(caught.value.evidence["policy"]) == 64


def test_a_refusal_of_what_is_no_certificate_still_names_the_policy() -> None:
    with pytest.raises(CertificateInvalidError) as caught:
        judged(TRUSTED, certificates=b"nonsense")
    assert set(caught.value.evidence) == {"policy", "certificate_id"}


def test_the_signature_is_verified_before_anything_is_said_of_trust() -> None:
    for_servers = ROOT.issue("Signer", KEY.public_key(), uses=usage("key_agreement"))
    assert isinstance(for_servers, x509.Certificate)
    with pytest.raises(SignatureInvalidError):
        judged(TRUSTED, certificates=pem(for_servers), signature=sign_digest(ec_key("other"), DIGEST))
