"""Every step of RFC 5280, section 6.1, and what is asked beyond it: each refusal has its own reason."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from tintype.domain.errors import (
    CertificateChainError,
    CertificateExpiredError,
    CertificateInvalidError,
    CertificateNotYetValidError,
    CertificateRevokedError,
    CertificateUntrustedError,
    CertificateUsageError,
    RevocationUnknownError,
    WeakKeyError,
)
from tintype.testing.certificates import (
    Authority,
    PrivateKey,
    certificate,
    dsa_key,
    ec_key,
    name,
    root_authority,
    rsa_key,
    usage,
)
from tintype.testing.clock import START
from tintype.trust import chains
from tintype.trust.chains import Chain, verify_alone, verify_chain
from tintype.trust.der import BIT_STRING, elements, encoded
from tintype.trust.trust_store import TrustStore

KEY = ec_key("signer")
ROOT = root_authority()
SECOND = timedelta(seconds=1)


def verified(
    leaf: x509.Certificate,
    *intermediates: x509.Certificate,
    roots: Sequence[Authority] = (ROOT,),
    lists: Sequence[x509.CertificateRevocationList] = (),
    skew: timedelta = timedelta(0),
    max_length: int = 6,
    later: timedelta = timedelta(0),
) -> Chain:
    """The chain, now or later."""
    store = TrustStore(tuple(root.certificate for root in roots), revocation_lists=tuple(lists))
    return verify_chain(leaf, intermediates, store, START + later, max_length=max_length, clock_skew=skew)


def signer(issuer: Authority = ROOT, **how: object) -> x509.Certificate:
    """A signer's certificate by that authority."""
    return issuer.issue("Signer", KEY.public_key(), **how)  # type: ignore[arg-type]


def test_a_name_that_cannot_be_read_names_no_issuer() -> None:
    """A BIT STRING is no common name. The certificates beside a signer's come from whoever has put them there."""
    readable = root_authority("\0oot").certificate
    unreadable = x509.load_der_x509_certificate(
        readable.public_bytes(Encoding.DER).replace(b"\x0c\x04\0oot", b"\x03\x04\0oot")
    )
    assert readable != unreadable
    leaf = signer()
    assert verified(leaf, unreadable) == (leaf, ROOT.certificate)
    with pytest.raises(CertificateUntrustedError):
        verified(unreadable)


def test_a_list_of_an_authority_whose_name_cannot_be_read_is_nobodys() -> None:
    mine = ROOT.revocation_list()
    content = root_authority("\0oot").revocation_list().public_bytes(Encoding.DER)
    unreadable = x509.load_der_x509_crl(content.replace(b"\x0c\x04\0oot", b"\x03\x04\0oot"))
    assert verified(signer(), lists=[unreadable, mine])


# --- ways that hold ---------------------------------------------------------------------------------------------------


def test_a_chain_leads_from_the_signer_to_the_root() -> None:
    middle = ROOT.authority("Middle")
    issuing = middle.authority("Issuing")
    leaf = signer(issuing)
    # In no order, and with one that does not belong.
    found = verified(leaf, middle.certificate, root_authority("Foreign").certificate, issuing.certificate)
    assert found == (leaf, issuing.certificate, middle.certificate, ROOT.certificate)


def test_a_root_may_sign_directly_and_a_trusted_certificate_stands_for_itself() -> None:
    leaf = signer()
    assert verified(leaf) == (leaf, ROOT.certificate)
    assert verified(ROOT.certificate) == (ROOT.certificate,)


def test_intermediates_of_the_store_are_used() -> None:
    middle = ROOT.authority("Middle")
    leaf = signer(middle)
    store = TrustStore((ROOT.certificate,), (middle.certificate,))
    assert len(verify_chain(leaf, (), store, START)) == 3


@pytest.mark.parametrize("key", [rsa_key(), dsa_key(), ed25519.Ed25519PrivateKey.generate(), ec_key()])
def test_authorities_may_have_keys_of_every_ordinary_kind(key: PrivateKey) -> None:
    root = root_authority("Of that kind", key=key)
    assert len(verified(signer(root), roots=[root])) == 2


def test_of_two_authorities_of_one_name_the_one_that_signed_is_found() -> None:
    old, new = root_authority("Same", key=ec_key("old")), root_authority("Same", key=ec_key("new"))
    leaf = signer(new)
    assert verified(leaf, roots=[old, new])[-1] == new.certificate


def test_a_cross_signed_authority_leads_to_whichever_root_is_trusted() -> None:
    ours, theirs = root_authority("Ours"), root_authority("Theirs")
    key = ec_key("crossed")
    by_ours, by_theirs = ours.authority("Crossed", key=key), theirs.authority("Crossed", key=key)
    leaf = signer(by_ours)
    given = (by_ours.certificate, by_theirs.certificate)
    assert verified(leaf, *given, roots=[theirs])[-1] == theirs.certificate
    assert verified(leaf, *given, roots=[ours])[-1] == ours.certificate


def test_a_good_way_is_found_beside_a_bad_one() -> None:
    key = ec_key("crossed")
    expired = ROOT.authority("Crossed", key=key, ends=START - SECOND)
    renewed = ROOT.authority("Crossed", key=key)
    leaf = signer(renewed)
    assert verified(leaf, expired.certificate, renewed.certificate)[1] == renewed.certificate


# --- untrusted and tangled --------------------------------------------------------------------------------------------


def test_a_chain_to_no_root_is_untrusted() -> None:
    foreign = root_authority("Foreign")
    with pytest.raises(CertificateUntrustedError):
        verified(signer(foreign), foreign.certificate)
    with pytest.raises(CertificateUntrustedError):
        verified(signer(foreign), roots=[])


def test_a_certificate_that_only_bears_the_issuers_name_is_untrusted() -> None:
    impostor = root_authority("Root", key=ec_key("impostor"))
    with pytest.raises(CertificateUntrustedError):
        verified(signer(impostor), impostor.certificate)


def test_a_missing_link_is_untrusted() -> None:
    middle = ROOT.authority("Middle")
    with pytest.raises(CertificateUntrustedError):
        verified(signer(middle.authority("Issuing")), middle.certificate)


def test_a_chain_that_is_too_long_is_refused() -> None:
    authorities = [ROOT]
    for number in range(3):
        authorities.append(authorities[-1].authority(f"Number {number}"))
    given = [each.certificate for each in authorities[1:]]
    leaf = signer(authorities[-1])
    assert len(verified(leaf, *given, max_length=5)) == 5
    with pytest.raises(CertificateChainError, match="longer than 4"):
        verified(leaf, *given, max_length=4)


def test_the_length_is_bounded_whatever_the_settings_say() -> None:
    authorities = [ROOT]
    for number in range(chains.MAX_CHAIN_LENGTH):
        authorities.append(authorities[-1].authority(f"Number {number}"))
    with pytest.raises(CertificateChainError):
        verified(signer(authorities[-1]), *(each.certificate for each in authorities[1:]), max_length=1000)


def test_a_circle_of_authorities_ends_the_search() -> None:
    one, two = ec_key("one"), ec_key("two")
    first = certificate("One", one.public_key(), "Two", two)
    second = certificate("Two", two.public_key(), "One", one)
    with pytest.raises(CertificateUntrustedError):
        verified(signer(Authority(first, one, "One")), first, second)


def test_a_maze_of_cross_signed_authorities_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    verified_signatures = 0
    plain = chains._require_signed_by

    def counted(subject: x509.Certificate, issuer: x509.Certificate) -> None:
        nonlocal verified_signatures
        verified_signatures += 1
        plain(subject, issuer)

    monkeypatch.setattr(chains, "_require_signed_by", counted)
    key = ec_key("maze")
    maze = [certificate("Maze", key.public_key(), "Maze", key) for _ in range(40)]
    with pytest.raises(CertificateChainError):
        verified(signer(Authority(maze[0], key, "Maze")), *maze)
    assert verified_signatures == chains.MAX_CANDIDATES


# --- validity ---------------------------------------------------------------------------------------------------------


def test_both_ends_of_the_validity_belong_to_it() -> None:
    now = START.replace(microsecond=0)
    leaf = signer(begins=now, ends=now)
    store = TrustStore((ROOT.certificate,))
    assert verify_chain(leaf, (), store, now)
    with pytest.raises(CertificateExpiredError):
        verify_chain(leaf, (), store, now + SECOND)
    with pytest.raises(CertificateNotYetValidError):
        verify_chain(leaf, (), store, now - SECOND)


def test_clocks_may_differ_by_the_skew_and_no_more() -> None:
    now = START.replace(microsecond=0)
    leaf = signer(begins=now, ends=now)
    store, skew = TrustStore((ROOT.certificate,)), timedelta(seconds=60)
    assert verify_chain(leaf, (), store, now + skew, clock_skew=skew)
    assert verify_chain(leaf, (), store, now - skew, clock_skew=skew)
    with pytest.raises(CertificateExpiredError):
        verify_chain(leaf, (), store, now + skew + SECOND, clock_skew=skew)
    with pytest.raises(CertificateNotYetValidError):
        verify_chain(leaf, (), store, now - skew - SECOND, clock_skew=skew)


def test_every_certificate_of_the_chain_must_be_valid() -> None:
    middle = ROOT.authority("Middle", ends=START - SECOND)
    with pytest.raises(CertificateExpiredError, match="Middle"):
        verified(signer(middle), middle.certificate)
    root = root_authority("Old", ends=START - SECOND)
    with pytest.raises(CertificateExpiredError, match="Old"):
        verified(signer(root), roots=[root])


# --- what authorities may ---------------------------------------------------------------------------------------------


def test_a_signer_is_no_authority() -> None:
    middle = Authority(ROOT.issue("Middle", KEY.public_key(), uses=usage("key_cert_sign")), KEY, "Middle")
    with pytest.raises(CertificateChainError, match="no authority"):
        verified(signer(middle), middle.certificate)


def test_an_authority_without_basic_constraints_is_none() -> None:
    key = ec_key("bare")
    bare = Authority(certificate("Bare", key.public_key(), "Root", ROOT.key), key, "Bare")
    with pytest.raises(CertificateChainError, match="no authority"):
        verified(signer(bare), bare.certificate)


def test_an_authority_that_may_not_sign_certificates_is_refused() -> None:
    middle = ROOT.authority("Middle", uses=usage("digital_signature"))
    with pytest.raises(CertificateUsageError, match="may not sign certificates"):
        verified(signer(middle), middle.certificate)


def test_the_path_length_bounds_the_authorities_that_follow() -> None:
    root = root_authority("Short", path_length=1)
    first = root.authority("First")
    second = first.authority("Second")
    assert verified(signer(first), first.certificate, roots=[root])
    with pytest.raises(CertificateChainError, match="one authority more"):
        verified(signer(second), first.certificate, second.certificate, roots=[root])


def test_an_authority_cannot_widen_the_path_length_of_its_issuer() -> None:
    root = root_authority("Short", path_length=0)
    first = root.authority("First", path_length=5)
    with pytest.raises(CertificateChainError, match="one authority more"):
        verified(signer(first), first.certificate, roots=[root])


def test_a_certificate_that_an_authority_issued_to_itself_does_not_count() -> None:
    root = root_authority("Short", path_length=0)
    renewed = root.authority("Short", key=ec_key("renewed"))
    assert len(verified(signer(renewed), renewed.certificate, roots=[root])) == 3


def test_an_authority_for_other_purposes_does_not_vouch_for_signers() -> None:
    servers = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
    middle = ROOT.authority("Middle", more=[servers])
    with pytest.raises(CertificateUsageError, match="other purposes"):
        verified(signer(middle), middle.certificate)


def test_name_constraints_are_refused() -> None:
    constraints = x509.NameConstraints([x509.DNSName("example.org")], None)
    middle = ROOT.authority("Middle", more=[(constraints, True)])
    with pytest.raises(CertificateChainError, match="constrains names"):
        verified(signer(middle), middle.certificate)


@pytest.mark.parametrize("where", ["signer", "authority"])
def test_a_critical_extension_that_is_not_understood_is_refused(where: str) -> None:
    unknown = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), True)
    middle = ROOT.authority("Middle", more=[unknown] if where == "authority" else [])
    leaf = signer(middle, more=[unknown] if where == "signer" else [])
    with pytest.raises(CertificateInvalidError, match=r"1\.3\.6\.1\.4\.1\.99999\.1"):
        verified(leaf, middle.certificate)


def test_an_unknown_extension_that_is_not_critical_is_left_aside() -> None:
    unknown = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), False)
    assert verified(signer(more=[unknown]))


def test_policy_constraints_are_not_understood() -> None:
    constraints = (x509.PolicyConstraints(0, None), True)
    with pytest.raises(CertificateInvalidError):
        verified(signer(more=[constraints]))


# --- what signers may -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", ["digital_signature", "content_commitment"])
def test_a_signers_certificate_is_for_signatures(use: str) -> None:
    assert verified(signer(uses=usage(use)))


@pytest.mark.parametrize("use", ["key_encipherment", "key_cert_sign", "crl_sign", "key_agreement"])
def test_a_certificate_for_another_use_is_refused(use: str) -> None:
    with pytest.raises(CertificateUsageError):
        verified(signer(uses=usage(use)))


@pytest.mark.parametrize("purpose", [ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
def test_a_certificate_for_code_signing_is_accepted(purpose: x509.ObjectIdentifier) -> None:
    assert verified(signer(more=[(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, purpose]), True)]))


@pytest.mark.parametrize("is_critical", [True, False])
def test_a_certificate_for_another_purpose_is_refused(is_critical: bool) -> None:
    servers = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    with pytest.raises(CertificateUsageError):
        verified(signer(more=[(servers, is_critical)]))


def test_a_certificate_that_is_trusted_alone_is_judged_as_well() -> None:
    assert verify_alone(signer(), TrustStore(), START)
    for leaf, error in (
        (signer(ends=START - SECOND), CertificateExpiredError),
        (signer(begins=START + SECOND), CertificateNotYetValidError),
        (signer(uses=usage("key_agreement")), CertificateUsageError),
    ):
        with pytest.raises(error):
            verify_alone(leaf, TrustStore(), START)


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_weak_key_anywhere_in_the_chain_is_refused() -> None:
    weak = root_authority("Weak", key=rsa_key(1024))
    with pytest.raises(WeakKeyError, match="1024 bits"):
        verified(signer(weak), roots=[weak])
    middle = ROOT.authority("Middle", key=rsa_key(1024))
    with pytest.raises(WeakKeyError, match="1024 bits"):
        verified(signer(middle), middle.certificate)
    with pytest.raises(WeakKeyError, match="1024 bits"):
        verified(ROOT.issue("Signer", rsa_key(1024).public_key()))
    with pytest.raises(WeakKeyError, match="secp224r1"):
        verified(ROOT.issue("Signer", ec.generate_private_key(ec.SECP224R1()).public_key()))
    with pytest.raises(WeakKeyError, match="1024 bits"):
        verified(ROOT.issue("Signer", dsa_key(1024).public_key()))


PARAMETERS = dsa_key().parameters().parameter_numbers()


@pytest.mark.parametrize(
    "numbers",
    [
        dsa.DSAPublicNumbers(1, PARAMETERS),
        dsa.DSAPublicNumbers(PARAMETERS.p - 1, PARAMETERS),
        dsa.DSAPublicNumbers(2, PARAMETERS),
        dsa.DSAPublicNumbers(
            dsa_key().public_key().public_numbers().y,
            dsa.DSAParameterNumbers(PARAMETERS.p, PARAMETERS.q, PARAMETERS.p - 1),
        ),
    ],
    ids=["one", "minus one", "of another order", "a generator of minus one"],
)
def test_a_key_with_which_anybody_can_sign_is_refused(numbers: dsa.DSAPublicNumbers) -> None:
    """One to whatever power is one: signatures of such a key are made without any secret."""
    leaf = ROOT.issue("Signer", numbers.public_key())
    with pytest.raises(WeakKeyError):
        verified(leaf)


FIELD = 2**255 - 19


@pytest.mark.parametrize("sign", [0, 2**255], ids=["even", "odd"])
@pytest.mark.parametrize(
    "y",
    [
        0,
        1,
        FIELD - 1,
        FIELD,
        FIELD + 1,
        int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"),
        FIELD
        - int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"),
    ],
)
def test_an_edwards_key_of_small_order_is_refused(y: int, sign: int) -> None:
    point = ed25519.Ed25519PublicKey.from_public_bytes((y + sign).to_bytes(32, "little"))
    leaf = ROOT.issue("Signer", point)
    with pytest.raises(WeakKeyError):
        verified(leaf)


def test_a_curve_that_the_convention_does_not_name_is_refused() -> None:
    key = ec.generate_private_key(ec.BrainpoolP256R1())
    with pytest.raises(CertificateInvalidError, match="brainpool"):
        verified(ROOT.issue("Signer", key.public_key()))


# --- revocation -------------------------------------------------------------------------------------------------------


def test_a_revoked_certificate_is_refused() -> None:
    leaf, other = signer(), signer()
    revoked = ROOT.revocation_list(leaf)
    with pytest.raises(CertificateRevokedError):
        verified(leaf, lists=[revoked])
    assert verified(other, lists=[revoked])


def test_a_revoked_authority_is_refused_with_all_that_it_issued() -> None:
    middle = ROOT.authority("Middle")
    with pytest.raises(CertificateRevokedError, match="Middle"):
        verified(signer(middle), middle.certificate, lists=[ROOT.revocation_list(middle.certificate)])


def test_a_list_that_is_out_of_date_says_nothing_of_what_it_does_not_name() -> None:
    leaf = signer()
    stale = ROOT.revocation_list(ends=START - SECOND)
    with pytest.raises(RevocationUnknownError, match="was to be renewed"):
        verified(leaf, lists=[stale])
    assert verified(leaf, lists=[stale, ROOT.revocation_list()])
    assert verified(leaf, lists=[stale], skew=timedelta(minutes=1))


def test_a_list_that_is_out_of_date_still_revokes() -> None:
    leaf = signer()
    stale = ROOT.revocation_list(leaf, ends=START - SECOND)
    with pytest.raises(CertificateRevokedError):
        verified(leaf, lists=[stale])
    with pytest.raises(CertificateRevokedError):
        verified(leaf, lists=[ROOT.revocation_list(), stale])


def test_a_list_of_the_future_is_not_believed_yet() -> None:
    early = ROOT.revocation_list(begins=START + SECOND)
    with pytest.raises(RevocationUnknownError, match="not valid before"):
        verified(signer(), lists=[early])


def test_a_list_that_its_issuer_did_not_sign_is_not_believed() -> None:
    leaf = signer()
    forged = root_authority("Root", key=ec_key("impostor")).revocation_list()
    with pytest.raises(RevocationUnknownError, match="not signed by the issuer"):
        verified(leaf, lists=[forged])
    assert verified(leaf, lists=[forged, ROOT.revocation_list()])


def test_an_authority_that_may_not_sign_lists_signs_none() -> None:
    root = root_authority("Quiet", uses=usage("key_cert_sign"))
    with pytest.raises(RevocationUnknownError, match="may not sign"):
        verified(signer(root), roots=[root], lists=[root.revocation_list()])


def test_a_list_that_covers_only_some_certificates_says_too_little() -> None:
    some = x509.IssuingDistributionPoint(
        full_name=None,
        relative_name=None,
        only_contains_user_certs=False,
        only_contains_ca_certs=True,
        only_some_reasons=None,
        indirect_crl=False,
        only_contains_attribute_certs=False,
    )
    with pytest.raises(RevocationUnknownError, match="critical extension"):
        verified(signer(), lists=[ROOT.revocation_list(more=[(some, True)])])


def test_an_entry_that_may_be_anothers_certificate_is_not_understood() -> None:
    leaf = signer()
    issuer = x509.CertificateIssuer([x509.DirectoryName(name("Another"))])
    entry = x509.RevokedCertificateBuilder().serial_number(leaf.serial_number).revocation_date(START)
    revoked = entry.add_extension(issuer, critical=True).build()
    builder = x509.CertificateRevocationListBuilder().issuer_name(name("Root")).last_update(START)
    indirect = builder.next_update(START + SECOND).add_revoked_certificate(revoked).sign(ROOT.key, hashes.SHA256())
    with pytest.raises(RevocationUnknownError, match="entry is not understood"):
        verified(leaf, lists=[indirect])


def test_a_list_that_does_not_say_how_long_it_holds_is_out_of_date() -> None:
    """RFC 5280 wants the date; no library writes a list without, so that it is taken out and the rest signed anew."""
    key = ROOT.key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    (whole,) = elements(ROOT.revocation_list().public_bytes(Encoding.DER))
    tbs, algorithm, _ = elements(whole.content)
    fields = elements(tbs.content)
    assert [field.tag for field in fields[3:5]] == [0x17, 0x17]  # thisUpdate, nextUpdate
    endless = encoded(tbs.tag, b"".join(encoded(each.tag, each.content) for each in (*fields[:4], *fields[5:])))
    signature = encoded(BIT_STRING, b"\x00" + key.sign(endless, ec.ECDSA(hashes.SHA256())))
    der = encoded(whole.tag, endless + encoded(algorithm.tag, algorithm.content) + signature)
    with pytest.raises(RevocationUnknownError, match="does not say how long"):
        verified(signer(), lists=[x509.load_der_x509_crl(der)])


def test_a_list_of_another_authority_does_not_matter() -> None:
    other = root_authority("Other")
    assert verified(signer(), lists=[other.revocation_list(ends=START - SECOND)])
