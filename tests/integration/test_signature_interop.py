"""What others sign is verified here, and what is signed here others verify: the openssl program, Glance's cursive."""

from __future__ import annotations

import hashlib
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from castellan.common.objects import x_509
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from cursive import exception, signature_utils

from tintype.domain.errors import (
    CertificateInvalidError,
    CertificateRevokedError,
    RevocationUnknownError,
    SignatureInvalidError,
    SignatureMalformedError,
    SignatureUnsupportedError,
    WeakKeyError,
)
from tintype.domain.events import Verdict, Verification
from tintype.domain.values import Digest
from tintype.testing.certificates import PrivateKey, certificate, dsa_key, pem, private_pem, rsa_key
from tintype.testing.clock import START
from tintype.trust import openssl
from tintype.trust.chains import Chain
from tintype.trust.judging import judge_signature
from tintype.trust.policy import SignaturePolicy
from tintype.trust.public_keys import BINARY_CURVES, CURVES, ED25519
from tintype.trust.signatures import HASHES, declared_signature
from tintype.trust.signing import sign_digest, signature_properties
from tintype.trust.trust_store import TrustStore, load_trust_store

DATA = b"the bytes of an image" * 1000
OTHER_DATA = b"other bytes"


@cache
def key_of(key_type: str) -> PrivateKey:
    """A key of that kind."""
    match key_type:
        case "RSA-PSS":
            return rsa_key()
        case "DSA":
            return dsa_key()
        case "ED25519":
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            return ec.generate_private_key(CURVES[key_type]())


def certificate_of(key_type: str) -> x509.Certificate:
    """A certificate for it."""
    key = key_of(key_type)
    return certificate("Publisher", key.public_key(), "Publisher", key)


def digest_of(data: bytes = DATA, hash_method: str = "SHA-256") -> Digest:
    """As staging takes it."""
    algorithm = HASHES[hash_method][0]
    return Digest(algorithm, hashlib.new(algorithm, data).hexdigest())


def judged(
    signature: bytes,
    key_type: str,
    certificates: bytes,
    *,
    hash_method: str = "SHA-256",
    data: bytes = DATA,
    store: TrustStore | None = None,
    at: datetime = START,
) -> tuple[Verification, Chain]:
    """As on the road of an image, through the properties."""
    digest = digest_of(hash_method=hash_method)
    declared = declared_signature(signature_properties(signature, digest, key_type, "publisher"))
    assert declared is not None
    policy = SignaturePolicy(requires_chain=store is not None)
    return judge_signature(declared, digest_of(data, hash_method), certificates, store or TrustStore(), policy, at)


def run(folder: Path, *arguments: str) -> bytes:
    """The openssl program, in a folder."""
    done = subprocess.run(["openssl", *arguments], cwd=folder, check=True, timeout=60, capture_output=True)
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "image").write_bytes(DATA)
    return tmp_path


def signed_by_openssl(folder: Path, key_type: str, hash_method: str, *options: str) -> bytes:
    (folder / "key.pem").write_bytes(private_pem(key_of(key_type)))
    method = hash_method.replace("-", "").lower()
    run(folder, "dgst", f"-{method}", "-sign", "key.pem", *options, "-out", "signature", "image")
    return (folder / "signature").read_bytes()


# --- openssl signs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("salt", ["0", "20", "32", "digest", "max", "auto"])
@pytest.mark.parametrize("hash_method", HASHES)
def test_rsa_pss_of_openssl_verifies_with_every_salt(folder: Path, hash_method: str, salt: str) -> None:
    options = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", f"rsa_pss_saltlen:{salt}"]
    signature = signed_by_openssl(folder, "RSA-PSS", hash_method, *options)
    found, _ = judged(signature, "RSA-PSS", pem(certificate_of("RSA-PSS")), hash_method=hash_method)
    assert found.verdict is Verdict.SIGNED


@pytest.mark.parametrize("key_type", ["DSA", *CURVES])
@pytest.mark.parametrize("hash_method", HASHES)
def test_dsa_and_ecdsa_of_openssl_verify(folder: Path, key_type: str, hash_method: str) -> None:
    signature = signed_by_openssl(folder, key_type, hash_method)
    assert judged(signature, key_type, pem(certificate_of(key_type)), hash_method=hash_method)
    with pytest.raises(SignatureInvalidError):
        judged(signature, key_type, pem(certificate_of(key_type)), hash_method=hash_method, data=OTHER_DATA)


@pytest.mark.parametrize("hash_method", HASHES)
def test_ed25519_of_openssl_over_the_digest_verifies(folder: Path, hash_method: str) -> None:
    (folder / "key.pem").write_bytes(private_pem(key_of(ED25519)))
    digest = run(folder, "dgst", f"-{hash_method.replace('-', '').lower()}", "-binary", "image")
    (folder / "digest").write_bytes(digest)
    run(folder, "pkeyutl", "-sign", "-rawin", "-inkey", "key.pem", "-in", "digest", "-out", "signature")
    signature = (folder / "signature").read_bytes()
    assert judged(signature, ED25519, pem(certificate_of(ED25519)), hash_method=hash_method)
    with pytest.raises(SignatureInvalidError):
        judged(signature, ED25519, pem(certificate_of(ED25519)), hash_method=hash_method, data=OTHER_DATA)


def test_ed25519_over_the_bytes_themselves_is_another_signature() -> None:
    key = key_of(ED25519)
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    with pytest.raises(SignatureInvalidError):
        judged(key.sign(DATA), ED25519, pem(certificate_of(ED25519)))


# --- openssl signs on the binary curves -------------------------------------------------------------------------------


def issued_by_openssl(folder: Path, curve: str) -> bytes:
    """A certificate for a key on a binary curve, by an ordinary authority; both are in the folder."""
    run(folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
        "-subj", "/CN=Root", "-days", "30")  # fmt: skip
    run(folder, "ecparam", "-name", curve, "-genkey", "-noout", "-out", "key.pem")
    run(folder, "req", "-new", "-key", "key.pem", "-subj", "/CN=Publisher", "-out", "request")
    run(folder, "x509", "-req", "-in", "request", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
        "-out", "certificate.pem", "-days", "10")  # fmt: skip
    (folder / "roots").mkdir()
    (folder / "roots" / "ca.pem").write_bytes((folder / "ca.pem").read_bytes())
    return (folder / "certificate.pem").read_bytes()


@pytest.mark.parametrize("key_type", BINARY_CURVES)
def test_binary_curves_verify_through_a_chain_to_an_ordinary_root(folder: Path, key_type: str) -> None:
    leaf = issued_by_openssl(folder, BINARY_CURVES[key_type].openssl_name)
    store, now = load_trust_store(folder / "roots"), datetime.now(UTC)
    for hash_method in HASHES:
        run(folder, "dgst", f"-{hash_method.replace('-', '').lower()}", "-sign", "key.pem", "-out", "signature",
            "image")  # fmt: skip
        signature = (folder / "signature").read_bytes()
        found, chain = judged(signature, key_type, leaf, hash_method=hash_method, store=store, at=now)
        assert (found.key_type, len(chain)) == (key_type, 2)
        with pytest.raises(SignatureInvalidError):
            judged(signature, key_type, leaf, hash_method=hash_method, data=OTHER_DATA, store=store, at=now)


def test_binary_curve_signature_that_is_not_strict_der_is_refused(folder: Path) -> None:
    leaf = issued_by_openssl(folder, "sect409k1")
    run(folder, "dgst", "-sha256", "-sign", "key.pem", "-out", "signature", "image")
    signature = (folder / "signature").read_bytes()
    for damaged in (signature[:-1], signature + b"\x00", b"\x30\x00", b"-help", b"x" * 104):
        with pytest.raises(SignatureMalformedError):
            judged(damaged, "ECC_SECT409K1", leaf, at=datetime.now(UTC))


def test_point_that_is_not_on_its_binary_curve_is_refused(folder: Path) -> None:
    leaf = issued_by_openssl(folder, "sect409k1")
    run(folder, "dgst", "-sha256", "-sign", "key.pem", "-out", "signature", "image")
    der = bytearray(x509.load_pem_x509_certificate(leaf).public_bytes(serialization.Encoding.DER))
    point = der.index(b"\x03\x6a\x00\x04")  # the BIT STRING of an uncompressed point
    der[point + 60] ^= 1
    broken = pem(x509.load_der_x509_certificate(bytes(der)))
    with pytest.raises(CertificateInvalidError, match="no point of the curve"):
        judged((folder / "signature").read_bytes(), "ECC_SECT409K1", broken, at=datetime.now(UTC))


def test_machine_without_openssl_says_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaf = issued_by_openssl(folder, "sect571k1")
    run(folder, "dgst", "-sha256", "-sign", "key.pem", "-out", "signature", "image")
    monkeypatch.setattr(openssl, "_SEARCH_PATH", str(folder))
    with pytest.raises(SignatureUnsupportedError, match="openssl program, which is not installed"):
        judged((folder / "signature").read_bytes(), "ECC_SECT571K1", leaf, at=datetime.now(UTC))


def test_openssl_that_does_not_know_the_curve_is_said_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaf = issued_by_openssl(folder, "sect571k1")
    run(folder, "dgst", "-sha256", "-sign", "key.pem", "-out", "signature", "image")
    # As a distribution's whose OpenSSL was built without binary curves.
    (folder / "openssl").write_text("#!/bin/sh\necho 'unknown group' >&2\nexit 1\n")
    (folder / "openssl").chmod(0o755)
    monkeypatch.setattr(openssl, "_SEARCH_PATH", str(folder))
    with pytest.raises(SignatureUnsupportedError, match="does not know the curve sect571k1"):
        judged((folder / "signature").read_bytes(), "ECC_SECT571K1", leaf, at=datetime.now(UTC))


# --- openssl issues ---------------------------------------------------------------------------------------------------


def test_certificate_that_is_signed_with_sha1_is_refused(folder: Path) -> None:
    (folder / "key.pem").write_bytes(private_pem(rsa_key()))
    options = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:max"]
    signature = signed_by_openssl(folder, "RSA-PSS", "SHA-256", *options)
    run(folder, "req", "-x509", "-key", "key.pem", "-out", "ca.pem", "-subj", "/CN=Root", "-days", "30")
    run(folder, "req", "-new", "-key", "key.pem", "-subj", "/CN=Publisher", "-out", "request")
    run(folder, "x509", "-req", "-sha1", "-in", "request", "-CA", "ca.pem", "-CAkey", "key.pem", "-CAcreateserial",
        "-out", "certificate.pem", "-days", "10")  # fmt: skip
    store = TrustStore((x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes()),))
    with pytest.raises(WeakKeyError, match="sha1"):
        judged(signature, "RSA-PSS", (folder / "certificate.pem").read_bytes(), store=store, at=datetime.now(UTC))


def test_revocation_list_of_openssl_is_read(folder: Path) -> None:
    leaf = issued_by_openssl(folder, "prime256v1")
    run(folder, "dgst", "-sha256", "-sign", "key.pem", "-out", "signature", "image")
    signature = (folder / "signature").read_bytes()
    (folder / "index").touch()
    (folder / "ca.conf").write_text(
        "[ca]\ndefault_ca=x\n[x]\ndatabase=index\ncertificate=ca.pem\nprivate_key=ca.key\n"
        "default_md=sha256\ndefault_crl_days=5\n"
    )
    ca = ("ca", "-config", "ca.conf")
    run(folder, *ca, "-gencrl", "-out", "roots/root.crl")
    assert judged(signature, "ECC_SECP256R1", leaf, store=load_trust_store(folder / "roots"), at=datetime.now(UTC))
    run(folder, *ca, "-gencrl", "-md", "sha1", "-out", "roots/root.crl")
    with pytest.raises(RevocationUnknownError, match="broken hash"):
        judged(signature, "ECC_SECP256R1", leaf, store=load_trust_store(folder / "roots"), at=datetime.now(UTC))
    run(folder, *ca, "-revoke", "certificate.pem")
    run(folder, *ca, "-gencrl", "-out", "roots/root.crl")
    with pytest.raises(CertificateRevokedError):
        judged(signature, "ECC_SECP256R1", leaf, store=load_trust_store(folder / "roots"), at=datetime.now(UTC))


# --- signed here ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key_type", ["RSA-PSS", "DSA", *CURVES])
@pytest.mark.parametrize("hash_method", HASHES)
def test_openssl_verifies_what_is_signed_here(folder: Path, key_type: str, hash_method: str) -> None:
    (folder / "signature").write_bytes(sign_digest(key_of(key_type), digest_of(hash_method=hash_method)))
    (folder / "public.pem").write_bytes(public_pem(key_type))
    # The maximum salt, and no other, as Glance's documentation has it.
    pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:max"] if key_type == "RSA-PSS" else []
    method = hash_method.replace("-", "").lower()
    said = run(folder, "dgst", f"-{method}", "-verify", "public.pem", *pss, "-signature", "signature", "image")
    assert said.strip() == b"Verified OK"


@pytest.mark.parametrize("hash_method", HASHES)
def test_openssl_verifies_ed25519_that_is_signed_here(folder: Path, hash_method: str) -> None:
    digest = digest_of(hash_method=hash_method)
    (folder / "signature").write_bytes(sign_digest(key_of(ED25519), digest))
    (folder / "digest").write_bytes(bytes.fromhex(digest.hex))
    (folder / "public.pem").write_bytes(public_pem(ED25519))
    said = run(folder, "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "public.pem", "-sigfile", "signature",
               "-in", "digest")  # fmt: skip
    assert b"Signature Verified Successfully" in said


def public_pem(key_type: str) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key_of(key_type).public_key().public_bytes(serialization.Encoding.PEM, form)


# --- cursive, which Glance and Nova verify with -----------------------------------------------------------------------


class KeyManager:
    """A castellan key manager with one certificate."""

    def __init__(self, held: x509.Certificate) -> None:
        self._held = held

    def get(self, context: object, certificate_id: str) -> x_509.X509:
        """That one."""
        assert certificate_id == "publisher"
        return x_509.X509(self._held.public_bytes(serialization.Encoding.DER))


def cursive_verifies(properties: dict[str, str], held: x509.Certificate, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The verifier that Glance would feed the image's bytes to."""
    monkeypatch.setattr(signature_utils.key_manager, "API", lambda: KeyManager(held))
    assert signature_utils.should_create_verifier(properties)
    return signature_utils.get_verifier(
        None,
        properties["img_signature_certificate_uuid"],
        properties["img_signature_hash_method"],
        properties["img_signature"],
        properties["img_signature_key_type"],
    )


CURSIVE_KEY_TYPES = ["RSA-PSS", "DSA", "ECC_SECP384R1", "ECC_SECP521R1"]


@pytest.mark.parametrize("key_type", CURSIVE_KEY_TYPES)
@pytest.mark.parametrize("hash_method", HASHES)
def test_cursive_verifies_what_is_signed_here(key_type: str, hash_method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = digest_of(hash_method=hash_method)
    properties = dict(signature_properties(sign_digest(key_of(key_type), digest), digest, key_type, "publisher"))
    verifier = cursive_verifies(properties, certificate_of(key_type), monkeypatch)
    for start in range(0, len(DATA), 4096):
        verifier.update(DATA[start : start + 4096])
    verifier.verify()
    # … and would not take other bytes for them: the check can fail.
    other = cursive_verifies(properties, certificate_of(key_type), monkeypatch)
    other.update(OTHER_DATA)
    with pytest.raises(InvalidSignature):
        other.verify()


@pytest.mark.parametrize("key_type", CURSIVE_KEY_TYPES)
@pytest.mark.parametrize("hash_method", HASHES)
def test_what_cursive_takes_verifies_here(key_type: str, hash_method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key: Any = key_of(key_type)
    algorithm = HASHES[hash_method][1]
    match key_type:
        case "RSA-PSS":
            signature = key.sign(DATA, padding.PSS(padding.MGF1(algorithm), padding.PSS.MAX_LENGTH), algorithm)
        case "DSA":
            signature = key.sign(DATA, algorithm)
        case _:
            signature = key.sign(DATA, ec.ECDSA(algorithm))
    properties = dict(signature_properties(signature, digest_of(hash_method=hash_method), key_type, "publisher"))
    verifier = cursive_verifies(properties, certificate_of(key_type), monkeypatch)
    verifier.update(DATA)
    verifier.verify()
    assert judged(signature, key_type, pem(certificate_of(key_type)), hash_method=hash_method)


def test_cursive_does_not_look_at_properties_that_are_incomplete_and_takes_no_other_key_types() -> None:
    """Where Tintype differs, and its documents say so."""
    digest = digest_of()
    properties = dict(signature_properties(b"x", digest, ED25519, "publisher"))
    with pytest.raises(exception.SignatureVerificationError, match="key type"):
        signature_utils.SignatureKeyType.lookup(ED25519)
    del properties["img_signature"]
    assert not signature_utils.should_create_verifier(properties)
