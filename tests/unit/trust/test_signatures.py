"""What is a signature, and all that is none."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

from tintype.domain.errors import (
    CertificateExpiredError,
    CertificateInvalidError,
    CertificateNotYetValidError,
    CertificateUsageError,
    KeyTypeMismatchError,
    SignatureIncompleteError,
    SignatureInvalidError,
    SignatureMalformedError,
    SignatureUnsupportedError,
    WeakKeyError,
)
from tintype.domain.events import Verdict, Verification
from tintype.domain.values import Digest, PropertyValue
from tintype.testing.certificates import dsa_key
from tintype.trust.judging import judge_signature
from tintype.trust.policy import SignaturePolicy
from tintype.trust.public_keys import CURVES, KEY_TYPES
from tintype.trust.signatures import HASHES, declared_signature
from tintype.trust.trust_store import TrustStore

NOW = datetime(2026, 1, 2, tzinfo=UTC)
DATA = b"the bytes of an image"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | dsa.DSAPrivateKey | ed25519.Ed25519PrivateKey


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """Making one is slow."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def certificate(
    key: PrivateKey,
    *,
    begins: datetime = NOW - timedelta(days=1),
    ends: datetime = NOW + timedelta(days=1),
    usage: x509.KeyUsage | None = None,
) -> bytes:
    """A self-signed certificate in PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Publisher")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )
    if usage:
        builder = builder.add_extension(usage, critical=True)
    # Nobody follows the chain here: who signed the certificate does not matter.
    return builder.sign(rsa_key(), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def properties(signature: bytes, hash_method: str = "SHA-256", key_type: str = "RSA-PSS") -> dict[str, PropertyValue]:
    """The four properties."""
    return {
        "img_signature": base64.b64encode(signature).decode(),
        "img_signature_hash_method": hash_method,
        "img_signature_key_type": key_type,
        "img_signature_certificate_uuid": "publisher",
    }


def pss(data: bytes = DATA, hash_method: str = "SHA-256", salt: int | None = None) -> bytes:
    """An RSA-PSS signature over data."""
    algorithm = HASHES[hash_method][1]
    length = padding.PSS.MAX_LENGTH if salt is None else salt
    return rsa_key().sign(data, padding.PSS(padding.MGF1(algorithm), length), algorithm)


def digest_of(data: bytes = DATA, hash_method: str = "SHA-256") -> Digest:
    """As staging takes it."""
    algorithm = HASHES[hash_method][0]
    return Digest(algorithm, hashlib.new(algorithm, data).hexdigest())


def verify(declared: dict[str, PropertyValue], digest: Digest, pem: bytes, at: datetime = NOW) -> Verification:
    """All the steps."""
    signature = declared_signature(declared)
    assert signature is not None
    return judge_signature(signature, digest, pem, TrustStore(), SignaturePolicy(), at)[0]


def test_image_without_signature_properties_declares_none() -> None:
    assert declared_signature({"os_distro": "debian"}) is None


@pytest.mark.parametrize("hash_method", HASHES)
def test_rsa_pss_verifies_with_every_hash(hash_method: str) -> None:
    pem = certificate(rsa_key())
    found = verify(properties(pss(hash_method=hash_method), hash_method), digest_of(hash_method=hash_method), pem)
    assert found.verdict is Verdict.SIGNED
    assert found.digest == digest_of(hash_method=hash_method)
    assert found.certificate_id == "publisher"
    assert found.certificate_subject == "CN=Publisher"
    fingerprint = x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex()
    assert found.certificate_fingerprint == fingerprint


@pytest.mark.parametrize("salt", [0, 20, 32, None])
def test_rsa_pss_verifies_with_any_salt_length(salt: int | None) -> None:
    found = verify(properties(pss(salt=salt)), digest_of(), certificate(rsa_key()))
    assert found.key_type == "RSA-PSS"


@pytest.mark.parametrize("key_type", CURVES)
@pytest.mark.parametrize("hash_method", HASHES)
def test_ecdsa_verifies(key_type: str, hash_method: str) -> None:
    key = ec.generate_private_key(CURVES[key_type]())
    signature = key.sign(DATA, ec.ECDSA(HASHES[hash_method][1]))
    found = verify(properties(signature, hash_method, key_type), digest_of(hash_method=hash_method), certificate(key))
    assert found.key_type == key_type


def test_signature_of_the_openssl_program_verifies(tmp_path: Path) -> None:
    key, data, signature = tmp_path / "key.pem", tmp_path / "image", tmp_path / "signature"
    key.write_bytes(
        rsa_key().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    data.write_bytes(DATA)
    # As Glance's documentation has it.
    options = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:-2"]
    command = ["openssl", "dgst", "-sha256", "-sign", str(key), *options, "-out", str(signature), str(data)]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    assert verify(properties(signature.read_bytes()), digest_of(), certificate(rsa_key())).verdict is Verdict.SIGNED


def test_wrapped_base64_is_read() -> None:
    declared = properties(pss())
    declared["img_signature"] = base64.encodebytes(pss()).decode()
    assert verify(declared, digest_of(), certificate(rsa_key())).verdict is Verdict.SIGNED


@pytest.mark.parametrize("missing", list(properties(b"x")))
@pytest.mark.parametrize("how", ["absent", "empty"])
def test_incomplete_properties_are_refused(missing: str, how: str) -> None:
    declared = properties(pss())
    if how == "absent":
        del declared[missing]
    else:
        declared[missing] = ""
    with pytest.raises(SignatureIncompleteError, match=missing):
        declared_signature(declared)


@pytest.mark.parametrize("text", ["!", "a", "====", "AAAA\x00AAAA", "ä" * 8, "A" * 16 * 1024])
def test_malformed_signature_is_refused(text: str) -> None:
    with pytest.raises(SignatureMalformedError):
        declared_signature({**properties(b"x"), "img_signature": text})


def test_signature_that_is_doubled_is_refused() -> None:
    declared, twice = properties(pss()), base64.b64encode(pss()).decode() * 2
    with pytest.raises(SignatureMalformedError):  # base64 with an end in the middle
        declared_signature({**declared, "img_signature": twice})
    with pytest.raises(SignatureMalformedError, match="has 512 bytes, and the certificate's key makes 256"):
        verify(properties(pss() * 2), digest_of(), certificate(rsa_key()))
    key = ec.generate_private_key(ec.SECP384R1())
    signature = key.sign(DATA, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(SignatureMalformedError, match="not two numbers in DER"):
        verify(properties(signature * 2, key_type="ECC_SECP384R1"), digest_of(), certificate(key))


@pytest.mark.parametrize("length", [1, 100, 255])
def test_signature_that_is_cut_short_is_refused(length: int) -> None:
    with pytest.raises(SignatureMalformedError):
        verify(properties(pss()[:length]), digest_of(), certificate(rsa_key()))


def test_base64_that_is_cut_short_is_refused() -> None:
    with pytest.raises(SignatureMalformedError):
        declared_signature({**properties(pss()), "img_signature": base64.b64encode(pss()).decode()[:-3]})


def test_signature_of_another_hash_than_declared_is_refused() -> None:
    with pytest.raises(SignatureInvalidError):
        verify(
            properties(pss(hash_method="SHA-256"), "SHA-512"), digest_of(hash_method="SHA-512"), certificate(rsa_key())
        )


def test_every_key_type_of_glance_is_known() -> None:
    glances = {"RSA-PSS", "DSA", "ECC_SECT571K1", "ECC_SECT409K1", "ECC_SECT571R1", "ECC_SECT409R1"}
    glances |= {"ECC_SECP521R1", "ECC_SECP384R1"}
    assert glances | {"ECC_SECP256R1", "ED25519"} == set(KEY_TYPES)


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_key_of_every_other_type_is_refused(key_type: str) -> None:
    keys: dict[str, PrivateKey] = {
        "RSA-PSS": rsa_key(),
        "DSA": dsa_key(),
        "ED25519": ed25519.Ed25519PrivateKey.generate(),
        **{name: ec.generate_private_key(curve()) for name, curve in CURVES.items()},
    }
    for name, key in keys.items():
        if name != key_type:
            with pytest.raises(KeyTypeMismatchError):
                verify(properties(pss(), key_type=key_type), digest_of(), certificate(key))


@pytest.mark.parametrize("hash_method", ["SHA-1", "MD5", "sha-256", "SHA256", "SHAKE-256", "x" * 10_000])
def test_unknown_hash_method_is_refused(hash_method: str) -> None:
    with pytest.raises(SignatureUnsupportedError):
        declared_signature(properties(b"x", hash_method))


@pytest.mark.parametrize("key_type", ["RSA", "ECDSA", "ECC_SECT283K1", "Ed25519", "rsa-pss"])
def test_unknown_key_type_is_refused(key_type: str) -> None:
    with pytest.raises(SignatureUnsupportedError):
        declared_signature(properties(b"x", key_type=key_type))


def test_signature_over_other_bytes_is_refused() -> None:
    with pytest.raises(SignatureInvalidError):
        verify(properties(pss(b"other bytes")), digest_of(), certificate(rsa_key()))


def test_signature_with_a_flipped_bit_is_refused() -> None:
    signature = bytearray(pss())
    signature[7] ^= 1
    with pytest.raises(SignatureInvalidError):
        verify(properties(bytes(signature)), digest_of(), certificate(rsa_key()))


@pytest.mark.parametrize(
    ("signature", "error"),
    [
        (b"\x00", SignatureMalformedError),
        (b"\xff" * 256, SignatureInvalidError),
        (b"\x00" * 256, SignatureInvalidError),
        (b"x" * 1024, SignatureMalformedError),
    ],
)
def test_nonsense_signature_is_refused(signature: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        verify(properties(signature), digest_of(), certificate(rsa_key()))


@pytest.mark.parametrize(
    ("signature", "error"),
    [
        (b"\x30\x00", SignatureMalformedError),
        (b"\x30\x80\x00\x00", SignatureMalformedError),
        (b"\x30\x06\x02\x01\x00\x02\x01\x00", SignatureInvalidError),
        (b"x" * 104, SignatureMalformedError),
    ],
)
def test_nonsense_ecdsa_signature_is_refused(signature: bytes, error: type[Exception]) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(error):
        verify(properties(signature, key_type="ECC_SECP384R1"), digest_of(), certificate(key))


def test_pkcs1_padding_is_not_pss() -> None:
    signature = rsa_key().sign(DATA, padding.PKCS1v15(), hashes.SHA256())
    with pytest.raises(SignatureInvalidError):
        verify(properties(signature), digest_of(), certificate(rsa_key()))


def test_signature_by_another_key_is_refused() -> None:
    with pytest.raises(SignatureInvalidError):
        verify(properties(pss()), digest_of(), certificate(rsa.generate_private_key(65537, 2048)))
    with pytest.raises(SignatureMalformedError):  # its length tells already
        verify(properties(pss()), digest_of(), certificate(rsa_key(3072)))


@pytest.mark.parametrize("length", [1, 63, 128])
def test_ed25519_signature_of_another_length_is_refused(length: int) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    with pytest.raises(SignatureMalformedError):
        verify(properties(b"x" * length, key_type="ED25519"), digest_of(), certificate(key))


def test_digest_of_another_algorithm_is_refused() -> None:
    with pytest.raises(SignatureInvalidError):
        verify(properties(pss()), digest_of(hash_method="SHA-512"), certificate(rsa_key()))


def test_expired_certificate_is_refused() -> None:
    pem = certificate(rsa_key(), begins=NOW - timedelta(days=2), ends=NOW - timedelta(seconds=1))
    with pytest.raises(CertificateExpiredError):
        verify(properties(pss()), digest_of(), pem)


def test_certificate_that_is_not_yet_valid_is_refused() -> None:
    pem = certificate(rsa_key(), begins=NOW + timedelta(seconds=1), ends=NOW + timedelta(days=1))
    with pytest.raises(CertificateNotYetValidError):
        verify(properties(pss()), digest_of(), pem)


def test_key_of_another_type_than_declared_is_refused() -> None:
    for key in (
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        dsa_key(),
    ):
        with pytest.raises(KeyTypeMismatchError, match="RSA-PSS"):
            verify(properties(pss()), digest_of(), certificate(key))


def test_another_curve_than_declared_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP521R1())
    signature = key.sign(DATA, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(KeyTypeMismatchError):
        verify(properties(signature, key_type="ECC_SECP384R1"), digest_of(), certificate(key))


def test_short_rsa_key_is_refused() -> None:
    key = rsa_key(1024)
    signature = key.sign(DATA, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    with pytest.raises(WeakKeyError, match="1024 bits"):
        verify(properties(signature), digest_of(), certificate(key))


def test_certificate_for_another_use_is_refused() -> None:
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    with pytest.raises(CertificateUsageError):
        verify(properties(pss()), digest_of(), certificate(rsa_key(), usage=usage))


@pytest.mark.parametrize("pem", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_file_that_is_no_certificate_is_refused(pem: bytes) -> None:
    with pytest.raises(CertificateInvalidError):
        verify(properties(pss()), digest_of(), pem)
