"""The chain of custody: what is proven, and why each broken link is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.trust.roads import (
    CONVERTED,
    KEY_ID,
    NOW,
    SENT,
    Issued,
    RoadCase,
    digests,
    issued,
    key,
    publisher,
    root,
    sealed_by,
    service,
    store,
    trusting,
)
from tintype.domain import errors
from tintype.domain.events import Origin, Verdict
from tintype.domain.provenance import Provenance
from tintype.domain.values import Digest, GuestDigest
from tintype.testing.events import GUEST_DIGEST, an_image_id
from tintype.trust.custody import Custody, CustodyRules, LinkName, Proof, require_bytes, verify_custody
from tintype.trust.signatures import fingerprint_of
from tintype.trust.trust_store import TrustStore

ORIGIN = Origin("https://example.org/a.qcow2", Digest("sha256", "ab" * 32), "https://example.org/SUMS", "0A" * 20)
ALLOW_UNSIGNED = CustodyRules(allow_unsigned=True)


def verify(provenance: Provenance, trust: TrustStore | None = None, **rules: Any) -> Custody:
    return verify_custody(provenance, trust or trusting(), NOW, CustodyRules(**rules))


def is_refused(provenance: Provenance, reason: type[errors.TintypeError], **options: Any) -> str:
    with pytest.raises(errors.RefusedContentError) as refused:
        verify(provenance, **options)
    assert type(refused.value) is reason, refused.value
    return refused.value.message


def proofs(custody: Custody) -> dict[LinkName, Proof]:
    return {link.name: link.proof for link in custody.links}


# --- what is proven ---------------------------------------------------------------------------------------------------


def test_of_converted_bytes_the_attested_digest_counts() -> None:
    custody = verify(RoadCase().provenance())
    assert dict(custody.digests) == {"sha512": digests(CONVERTED)["sha512"]}
    assert (custody.size, custody.service_key_id, custody.policy) == (len(CONVERTED), KEY_ID, "78" * 32)
    assert custody.is_signed and custody.signer.certificate_fingerprint == fingerprint_of(publisher().certificate)
    assert proofs(custody) == {
        LinkName.SIGNATURE: Proof.PUBLISHER,
        LinkName.SENT: Proof.BOTH,
        LinkName.GUEST_DISK: Proof.SERVICE,
        LinkName.CONVERTED: Proof.SERVICE,
        LinkName.PUBLISHED: Proof.SERVICE,
    }


def test_of_bytes_that_were_not_converted_the_publishers_own_digest_counts() -> None:
    custody = verify(RoadCase(is_converted=False).provenance())
    assert dict(custody.digests) == {"sha512": digests(SENT)["sha512"]}
    assert proofs(custody)[LinkName.PUBLISHED] is Proof.BOTH


def test_of_decompressed_bytes_the_attested_digest_counts() -> None:
    custody = verify(RoadCase(is_converted=False, is_compressed=True).provenance())
    assert dict(custody.digests) == digests(SENT * 2)
    assert proofs(custody)[LinkName.PUBLISHED] is Proof.SERVICE


def test_an_unsigned_image_is_refused_unless_that_is_allowed() -> None:
    provenance = RoadCase(is_signed=False).provenance()
    is_refused(provenance, errors.SignatureMissingError)
    custody = verify(provenance, allow_unsigned=True)
    assert custody.signer.verdict is Verdict.UNSIGNED
    assert proofs(custody)[LinkName.SIGNATURE] is Proof.NOBODY


def test_a_signed_image_is_held_to_its_signature_where_unsigned_ones_are_allowed() -> None:
    is_refused(RoadCase().provenance(), errors.CertificateUntrustedError, trust=store(), allow_unsigned=True)


def test_where_no_disk_could_be_read_before_the_service_vouches_alone() -> None:
    custody = verify(RoadCase(has_guest_digest=False).provenance())
    assert proofs(custody)[LinkName.GUEST_DISK] is Proof.NOBODY


def test_a_proven_origin_is_a_link_and_says_whose_word_it_is() -> None:
    (told,) = (each for each in verify(RoadCase(origin=ORIGIN).provenance()).links if each.name is LinkName.ORIGIN)
    assert (told.detail, told.proof) == (
        f"https://example.org/a.qcow2, sha256:{'ab' * 32}, in https://example.org/SUMS signed with {'0A' * 20}",
        Proof.SERVICE,
    )


def test_what_the_service_signed_for_a_caller_is_the_services_word_and_no_publishers() -> None:
    own = Issued(key(KEY_ID), service(KEY_ID))
    found = proofs(verify(RoadCase(signer=own, is_converted=False).provenance()))
    assert {found[name] for name in (LinkName.SIGNATURE, LinkName.SENT, LinkName.PUBLISHED)} == {Proof.SERVICE}


def test_what_an_older_key_attested_stays_verifiable() -> None:
    provenance = RoadCase(key_id="key-of-last-year").provenance()
    assert verify(provenance, store(root(), keys=("key-of-this-year", "key-of-last-year"))).service_key_id


def test_these_bytes_are_compared_by_size_and_digest() -> None:
    custody = verify(RoadCase().provenance())
    digest = Digest("sha512", digests(CONVERTED)["sha512"])
    require_bytes(custody, len(CONVERTED), digest)
    with pytest.raises(errors.SizeMismatchError):
        require_bytes(custody, len(CONVERTED) + 1, digest)
    with pytest.raises(errors.DigestMismatchError):
        require_bytes(custody, len(CONVERTED), Digest("sha512", "00" * 64))


# --- the service ------------------------------------------------------------------------------------------------------


def test_an_image_without_attestation_is_refused() -> None:
    is_refused(replace(RoadCase().provenance(), attestation=b""), errors.AttestationMissingError)


def test_an_attestation_by_a_key_that_nobody_trusts_is_refused() -> None:
    is_refused(RoadCase().provenance(), errors.ServiceKeyUnknownError, trust=store(root(), keys=("another",)))


def test_an_attestation_signed_with_another_key_under_a_trusted_id_is_refused() -> None:
    honest = RoadCase().provenance()
    payload = base64.b64decode(json.loads(honest.attestation)["payload"])
    forged = replace(honest, attestation=sealed_by(KEY_ID, payload, signed_with="the attacker's"))
    is_refused(forged, errors.AttestationInvalidError)


def edited(provenance: Provenance, edit: Callable[[dict[str, Any]], None], *, resigned: bool = False) -> Provenance:
    envelope = json.loads(provenance.attestation)
    statement = json.loads(base64.b64decode(envelope["payload"]))
    edit(statement)
    payload = json.dumps(statement).encode()
    if resigned:
        return replace(provenance, attestation=sealed_by(KEY_ID, payload))
    envelope["payload"] = base64.b64encode(payload).decode()
    return replace(provenance, attestation=json.dumps(envelope).encode())


def test_a_statement_that_was_edited_is_refused() -> None:
    def edit(statement: dict[str, Any]) -> None:
        statement["subject"][0]["digest"]["sha512"] = "00" * 64

    is_refused(edited(RoadCase().provenance(), edit), errors.AttestationInvalidError)


def test_a_payload_of_another_type_is_refused_though_it_is_signed() -> None:
    honest = RoadCase().provenance()
    payload = base64.b64decode(json.loads(honest.attestation)["payload"])
    other = replace(honest, attestation=sealed_by(KEY_ID, payload, "application/vnd.tintype.checkpoint+json"))
    is_refused(other, errors.AttestationInvalidError)


@pytest.mark.parametrize(
    "path",
    [("_type",), ("predicateType",), ("predicate", "buildDefinition", "buildType")],
    ids=lambda path: path[-1],
)
def test_a_statement_of_another_kind_is_refused(path: tuple[str, ...]) -> None:
    def edit(statement: dict[str, Any]) -> None:
        for name in path[:-1]:
            statement = statement[name]
        statement[path[-1]] = "https://example.org/other"

    is_refused(edited(RoadCase().provenance(), edit, resigned=True), errors.AttestationInvalidError)


def test_fields_that_are_not_known_are_left_aside() -> None:
    def edit(statement: dict[str, Any]) -> None:
        statement["predicate"]["runDetails"]["of_a_later_release"] = {"a": [1]}

    assert verify(edited(RoadCase().provenance(), edit, resigned=True)).is_signed


def test_the_attestation_of_another_image_is_foreign() -> None:
    replayed = replace(RoadCase().provenance(), attestation=RoadCase(image="other").envelope())
    is_refused(replayed, errors.AttestationForeignError)


def test_the_whole_provenance_of_another_image_is_foreign_to_whoever_asks_for_one() -> None:
    is_refused(RoadCase(image="other").provenance(), errors.AttestationForeignError, image_id=an_image_id())


def test_the_attestation_of_the_same_image_id_in_another_project_is_foreign() -> None:
    replayed = replace(RoadCase().provenance(), attestation=RoadCase(project="other").envelope())
    is_refused(replayed, errors.AttestationForeignError)


def test_exchanged_published_digests_are_foreign() -> None:
    honest = RoadCase().provenance()
    published = replace(honest.published, digests={"sha512": "00" * 64})
    is_refused(replace(honest, published=published), errors.AttestationForeignError)


def test_a_conversion_that_was_left_out_is_foreign() -> None:
    honest = RoadCase().provenance()
    is_refused(replace(honest, published=honest.sent), errors.AttestationForeignError)


def test_a_service_key_is_judged_at_the_time_of_the_verification() -> None:
    ten_years = NOW + timedelta(days=3660)
    with pytest.raises(errors.CertificateExpiredError):
        verify_custody(RoadCase(is_signed=False).provenance(), trusting(), ten_years, ALLOW_UNSIGNED)
    with pytest.raises(errors.CertificateNotYetValidError):
        verify_custody(RoadCase(is_signed=False).provenance(), trusting(), NOW - timedelta(days=1), ALLOW_UNSIGNED)


# --- the links between ------------------------------------------------------------------------------------------------


def test_exchanged_digests_of_what_was_sent_break_the_chain() -> None:
    honest = RoadCase().provenance()
    sent = replace(honest.sent, digests={**honest.sent.digests, "sha256": "00" * 32})
    is_refused(replace(honest, sent=sent), errors.CustodyBrokenError)


def test_another_disk_than_was_sent_breaks_the_chain() -> None:
    other = GuestDigest(f"guest-disk-v1:{'00' * 32}")

    def edit(statement: dict[str, Any]) -> None:
        statement["subject"][0]["annotations"]["guest_digest"] = other

    honest = RoadCase().provenance()
    lying = replace(honest, published=replace(honest.published, guest_digest=other))
    assert "disk" in is_refused(edited(lying, edit, resigned=True), errors.CustodyBrokenError)
    assert honest.sent.guest_digest == GUEST_DIGEST


def test_other_bytes_without_any_conversion_break_the_chain() -> None:
    def edit(statement: dict[str, Any]) -> None:
        statement["predicate"]["buildDefinition"]["internalParameters"]["conversion"] = {"skipped": "disabled"}

    is_refused(edited(RoadCase().provenance(), edit, resigned=True), errors.CustodyBrokenError)


@pytest.mark.parametrize("origin", [None, replace(ORIGIN, uri="https://example.org/b.qcow2")])
def test_another_origin_than_was_attested_breaks_the_chain(origin: Origin | None) -> None:
    is_refused(replace(RoadCase(origin=ORIGIN).provenance(), origin=origin), errors.CustodyBrokenError)


def test_another_verdict_than_was_attested_breaks_the_chain() -> None:
    honest = RoadCase().provenance()
    told = replace(honest.verification, certificate_subject="CN=Somebody Better Known")
    is_refused(replace(honest, verification=told), errors.CustodyBrokenError)


def test_a_signature_that_was_taken_away_breaks_the_chain_even_where_unsigned_images_are_allowed() -> None:
    stripped = replace(RoadCase().provenance(), signature_properties={}, certificates=())
    is_refused(stripped, errors.SignatureMissingError)
    is_refused(stripped, errors.CustodyBrokenError, allow_unsigned=True)


def test_a_signature_that_was_added_breaks_the_chain() -> None:
    signed, unsigned = RoadCase().provenance(), RoadCase(is_signed=False).provenance()
    added = replace(unsigned, signature_properties=signed.signature_properties, certificates=signed.certificates)
    is_refused(added, errors.CustodyBrokenError)


# --- the publisher ----------------------------------------------------------------------------------------------------


def test_a_swapped_signature_is_refused() -> None:
    other = RoadCase(sent=b"other bytes by the same publisher").provenance()
    swapped = replace(RoadCase().provenance(), signature_properties=other.signature_properties)
    is_refused(swapped, errors.SignatureInvalidError)


def test_a_signature_by_another_trusted_publisher_than_was_attested_breaks_the_chain() -> None:
    other = RoadCase(signer=issued("Another publisher", root())).provenance()
    swapped = replace(
        RoadCase().provenance(), signature_properties=other.signature_properties, certificates=other.certificates
    )
    is_refused(swapped, errors.CustodyBrokenError)


def test_a_publisher_that_no_trusted_root_vouches_for_is_refused() -> None:
    is_refused(RoadCase().provenance(), errors.CertificateUntrustedError, trust=store(issued("Another root")))


def test_a_root_in_the_provenance_is_not_trusted_for_being_there() -> None:
    is_refused(RoadCase().provenance(), errors.CertificateUntrustedError, trust=store())


def test_a_publishers_certificate_that_has_expired_is_refused() -> None:
    expired = RoadCase(signer=issued("Old publisher", root(), begins=NOW - timedelta(days=20), days=10))
    is_refused(expired.provenance(), errors.CertificateExpiredError)


def test_a_publishers_certificate_that_is_not_valid_yet_is_refused() -> None:
    early = RoadCase(signer=issued("Early publisher", root(), begins=NOW + timedelta(days=1)))
    is_refused(early.provenance(), errors.CertificateNotYetValidError)


def test_a_signer_that_is_not_among_the_allowed_ones_is_refused() -> None:
    is_refused(RoadCase().provenance(), errors.SignerNotAllowedError, allowed_signers=frozenset({"00" * 32}))
    assert verify(
        RoadCase().provenance(), allowed_signers=frozenset({fingerprint_of(publisher().certificate)})
    ).is_signed


def test_a_signed_image_without_its_certificate_is_refused() -> None:
    is_refused(replace(RoadCase().provenance(), certificates=()), errors.CertificateNotFoundError)


@pytest.mark.parametrize("certificates", [(b"no certificate",), (publisher().der,) * 17])
def test_certificates_that_are_none_or_too_many_are_refused(certificates: tuple[bytes, ...]) -> None:
    is_refused(replace(RoadCase().provenance(), certificates=certificates), errors.CertificateInvalidError)


def test_a_signature_over_a_digest_that_was_not_attested_breaks_the_chain() -> None:
    honest = RoadCase().provenance()
    declared = {**honest.signature_properties, "img_signature_hash_method": "SHA-384"}
    is_refused(replace(honest, signature_properties=declared), errors.CustodyBrokenError)
