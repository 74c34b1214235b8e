"""Signatures over lists of checksums, made by GnuPG as publishers make them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.importer.publisher_signature import verified_cleartext, verified_detached
from tests.backends.openpgp import GnuPG, gnupg
from tintype.domain.errors import ChecksumsMalformedError, ChecksumsSignatureError, PublisherKeyError
from tintype.domain.openpgp import MAX_CERTIFICATES, MAX_KEY_BYTES, packets, publisher_certificates

LIST = b"a" * 64 + b"  disk.qcow2\n- dashes\n\ntrailing blanks  \n"
NOW = datetime.now(UTC) + timedelta(minutes=1)
LONG_AGO = "20200101T000000"
SOON_AFTER = "20200201T000000"


@pytest.fixture(scope="module")
def gpg() -> Iterator[GnuPG]:
    """The publisher has `good` and `rsa`; each other key has what its name says."""
    with gnupg() as made:
        made.make_key("good")
        made.make_key("rsa", "rsa2048")
        yield made


@pytest.mark.parametrize("armor", [True, False])
def test_a_signature_of_the_publishers_key_is_verified(gpg: GnuPG, armor: bool) -> None:
    signature = gpg.sign("good", LIST, armor=armor)
    verified = verified_detached(LIST, signature, gpg.public("good", armor=armor), NOW)
    assert (verified.text, verified.fingerprint) == (LIST, gpg.fingerprint("good"))


@pytest.mark.parametrize("options", [("--textmode",), ("--digest-algo", "SHA512")])
def test_a_signature_of_a_usual_kind_is_verified(gpg: GnuPG, options: tuple[str, ...]) -> None:
    verified_detached(LIST, gpg.sign("rsa", LIST, *options), gpg.public("rsa"), NOW)


def test_a_list_with_its_signature_in_it_is_verified(gpg: GnuPG) -> None:
    message = gpg.clearsign("good", LIST)
    verified = verified_cleartext(message, gpg.public("good"), NOW)
    assert [line.rstrip() for line in LIST.splitlines()] == verified.text.splitlines()
    assert verified_cleartext(message.replace(b"\n", b"\r\n"), gpg.public("good"), NOW) == verified


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"disk.qcow2", b"disk.qcow3"),
        (b"- - dashes", b"- - dashes\n- - more"),
        (b"-----BEGIN PGP SIGNATURE", b"more\n-----BEGIN PGP SIGNATURE"),
        (b"\n\naaa", b"\n\nmore\naaa"),
    ],
)
def test_a_list_with_its_signature_in_it_is_refused_if_tampered_with(gpg: GnuPG, before: bytes, after: bytes) -> None:
    message = gpg.clearsign("good", LIST)
    assert before in message
    with pytest.raises(ChecksumsSignatureError):
        verified_cleartext(message.replace(before, after, 1), gpg.public("good"), NOW)


@pytest.mark.parametrize("wrap", [lambda text: b"before\n" + text, lambda text: text.replace(b"PGP SIGNED", b"PGP")])
def test_text_around_a_signed_list_is_refused(gpg: GnuPG, wrap: object) -> None:
    assert callable(wrap)
    with pytest.raises(ChecksumsMalformedError):
        verified_cleartext(wrap(gpg.clearsign("good", LIST)), gpg.public("good"), NOW)


def test_a_list_without_any_signature_is_refused(gpg: GnuPG) -> None:
    with pytest.raises(ChecksumsMalformedError):
        verified_cleartext(LIST, gpg.public("good"), NOW)


def test_one_of_several_signatures_is_enough(gpg: GnuPG) -> None:
    both = gpg.sign("rsa", LIST, "--local-user", "good@example.org")
    for name in ("good", "rsa"):
        assert verified_detached(LIST, both, gpg.public(name), NOW).fingerprint == gpg.fingerprint(name)


def test_one_key_of_a_key_ring_is_enough_and_is_named(gpg: GnuPG) -> None:
    for ring in (gpg.public("rsa", "good"), gpg.public("rsa") + gpg.public("good")):
        assert verified_detached(LIST, gpg.sign("good", LIST), ring, NOW).fingerprint == gpg.fingerprint("good")


def test_a_signature_by_a_subkey_names_the_publishers_key(gpg: GnuPG) -> None:
    primary = gpg.make_key("sub")
    assert gpg.add_subkey("sub") != primary
    assert verified_detached(LIST, gpg.sign("sub", LIST), gpg.public("sub"), NOW).fingerprint == primary


def test_the_key_of_somebody_else_is_refused(gpg: GnuPG) -> None:
    with pytest.raises(ChecksumsSignatureError, match=gpg.fingerprint("rsa")):
        verified_detached(LIST, gpg.sign("good", LIST), gpg.public("rsa"), NOW)


def test_a_tampered_list_is_refused(gpg: GnuPG) -> None:
    with pytest.raises(ChecksumsSignatureError):
        verified_detached(LIST + b"\n", gpg.sign("good", LIST), gpg.public("good"), NOW)


def test_a_sha1_signature_is_refused(gpg: GnuPG) -> None:
    with pytest.raises(ChecksumsSignatureError):
        verified_detached(LIST, gpg.sign("rsa", LIST, "--digest-algo", "SHA1"), gpg.public("rsa"), NOW)


def test_an_expired_signature_is_refused(gpg: GnuPG) -> None:
    gpg.make_key("patient", made=LONG_AGO)
    signature = gpg.sign("patient", LIST, "--default-sig-expire", "1d", made=SOON_AFTER)
    with pytest.raises(ChecksumsSignatureError):
        verified_detached(LIST, signature, gpg.public("patient"), NOW)


def test_a_signature_from_the_future_is_refused(gpg: GnuPG) -> None:
    with pytest.raises(ChecksumsSignatureError):
        verified_detached(LIST, gpg.sign("good", LIST, made="20400101T000000"), gpg.public("good"), NOW)


def test_an_expired_key_is_refused_however_old_its_signature_claims_to_be(gpg: GnuPG) -> None:
    gpg.make_key("expired", made=LONG_AGO, expires="1y")
    signature = gpg.sign("expired", LIST, made=SOON_AFTER)
    with pytest.raises(PublisherKeyError, match="expired on 2020-12-31"):
        verified_detached(LIST, signature, gpg.public("expired"), NOW)


def test_a_revoked_key_is_refused(gpg: GnuPG) -> None:
    gpg.make_key("revoked")
    signature = gpg.sign("revoked", LIST)
    gpg.revoke("revoked")
    with pytest.raises(PublisherKeyError, match="revoked"):
        verified_detached(LIST, signature, gpg.public("revoked"), NOW)


def test_an_expired_subkey_is_refused(gpg: GnuPG) -> None:
    gpg.make_key("old", made=LONG_AGO)
    gpg.add_subkey("old", made=LONG_AGO, expires="1y")
    signature = gpg.sign("old", LIST, made=SOON_AFTER)
    with pytest.raises(ChecksumsSignatureError):
        verified_detached(LIST, signature, gpg.public("old"), NOW)


def test_a_revoked_subkey_is_refused(gpg: GnuPG) -> None:
    gpg.make_key("superseded")
    gpg.add_subkey("superseded")
    signature = gpg.sign("superseded", LIST)
    gpg.revoke_subkey("superseded")
    with pytest.raises(ChecksumsSignatureError):
        verified_detached(LIST, signature, gpg.public("superseded"), NOW)


def test_a_short_key_is_refused(gpg: GnuPG) -> None:
    gpg.make_key("short", "rsa1024")
    with pytest.raises(PublisherKeyError):
        verified_detached(LIST, gpg.sign("short", LIST), gpg.public("short"), NOW)


@pytest.mark.parametrize("armor", [True, False])
def test_a_secret_key_is_refused_and_must_not_be_shared(gpg: GnuPG, armor: bool) -> None:
    secret = gpg.secret("good", armor=armor)
    for key in (secret, gpg.public("rsa", armor=armor) + secret, secret.replace(b"PRIVATE", b"PUBLIC")):
        with pytest.raises(PublisherKeyError, match="secret key"):
            verified_detached(LIST, gpg.sign("good", LIST), key, NOW)


def test_what_is_no_certificate_is_refused(gpg: GnuPG) -> None:
    public = gpg.public("good", armor=False)
    for key in (
        b"",
        b"ssh-ed25519 AAAA",
        b"-----BEGIN CERTIFICATE-----\n",
        gpg.public("good")[:-60],
        public[:-1],
        public[:20],
        public * (MAX_CERTIFICATES + 1),
        public + b"\0",
        b"\xcb\x05" + b"image",  # a literal
        b"\xc8\x03\x00ab" + public,  # what is compressed is not unpacked
        gpg.sign("good", LIST),
        b"a" * (MAX_KEY_BYTES + 1),
    ):
        with pytest.raises(PublisherKeyError):
            publisher_certificates(key)


def test_what_is_no_signature_is_refused(gpg: GnuPG) -> None:
    good = gpg.sign("good", LIST, armor=False)
    one_pass = gpg.run("--sign", "--compress-algo", "zlib", data=LIST)
    for signature in (
        b"",
        b"not one",
        LIST,
        good[:-1],
        good * 20,
        gpg.public("good"),
        one_pass,
        b"\xc8\x03\x00ab" + good,
    ):
        with pytest.raises(ChecksumsSignatureError):
            verified_detached(LIST, signature, gpg.public("good"), NOW)


@given(cut=st.integers(0, 200), value=st.integers(0, 255), at=st.integers(0, 200))
def test_a_damaged_signature_is_refused_with_a_reason(gpg: GnuPG, cut: int, value: int, at: int) -> None:
    damaged = bytearray(SIGNATURES.setdefault("good", gpg.sign("good", LIST, armor=False)))
    before = bytes(damaged)
    damaged[at % len(damaged)] = value
    damaged = damaged[: len(damaged) - cut % 3]
    try:
        verified_detached(LIST, bytes(damaged), KEYS.setdefault("good", gpg.public("good")), NOW)
    except ChecksumsSignatureError:
        return
    # What is not covered may differ: unhashed hints, and how a length is written.
    assert bytes(damaged) == before or packets(bytes(damaged))


SIGNATURES: dict[str, bytes] = {}
KEYS: dict[str, bytes] = {}


@given(data=st.binary(max_size=300))
def test_any_bytes_are_packets_or_refused(data: bytes) -> None:
    for candidate in (data, b"\x99" + data, b"-----BEGIN PGP SIGNATURE-----\n\n" + data):
        with contextlib.suppress(ValueError):
            assert all(packet.raw for packet in packets(candidate))
