"""A publisher's signature, in Glance's convention of four properties: what they declare, and whether it is the key's.

The signature covers the image's bytes as they were sent. Only their digest is needed, which was taken while they were
staged. Nothing here returns a bool: what is not verified raises. Whether the key's certificate is trusted is the matter
of :mod:`tintype.trust.judging`.

See "Image Signature Verification" in Glance's user documentation, RFC 8017 section 8.1 (RSASSA-PSS), FIPS 186-5 (DSA,
ECDSA) and RFC 8032 (Ed25519).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

from tintype.domain.attributes import SIGNATURE_PROPERTIES
from tintype.domain.errors import (
    CertificateInvalidError,
    KeyTypeMismatchError,
    SignatureIncompleteError,
    SignatureInvalidError,
    SignatureMalformedError,
    SignatureUnsupportedError,
)
from tintype.domain.events import Verdict, Verification
from tintype.domain.values import Digest, PropertyValue
from tintype.trust.openssl import verify_on_binary_curve
from tintype.trust.public_keys import KEY_TYPES, MAX_RSA_BITS, BinaryCurveKey, PublicKey, certified_key

MAX_SIGNATURE_BYTES = MAX_RSA_BITS // 8
_MAX_SUBJECT_CHARACTERS = 256
_ED25519_BYTES = 64

HASHES: Mapping[str, tuple[str, hashes.HashAlgorithm]] = {
    "SHA-224": ("sha224", hashes.SHA224()),
    "SHA-256": ("sha256", hashes.SHA256()),
    "SHA-384": ("sha384", hashes.SHA384()),
    "SHA-512": ("sha512", hashes.SHA512()),
}
"""img_signature_hash_method → the name of the digest's algorithm, and the algorithm."""

HASH_BY_ALGORITHM: Mapping[str, hashes.HashAlgorithm] = dict(HASHES.values())
"""The name of a digest's algorithm → the algorithm."""


@dataclass(frozen=True, slots=True)
class DeclaredSignature:
    """What the four properties say. ``digest_algorithm`` is that of the digest which the signature covers."""

    signature: bytes
    hash_method: str
    key_type: str
    certificate_id: str

    @property
    def digest_algorithm(self) -> str:
        """The algorithm of the digest that the signature covers, as in :class:`Digest`."""
        return HASHES[self.hash_method][0]


def declared_signature(properties: Mapping[str, PropertyValue]) -> DeclaredSignature | None:
    """The signature that an image's properties declare; ``None`` where they declare none.

    Raises:
        SignatureIncompleteError: some of the four properties are set, but not all.
        SignatureUnsupportedError: the hash method or the key type is not known here.
        SignatureMalformedError: the signature is not base64, or not of a possible length.
    """
    # 1. All four, or none.
    values = {name: str(properties[name]) for name in SIGNATURE_PROPERTIES if name in properties}
    if not values:
        return None
    missing = [name for name in SIGNATURE_PROPERTIES if not values.get(name)]
    if missing:
        raise SignatureIncompleteError(f"the signature cannot be verified without {', '.join(missing)}")
    # 2. Known, and well formed.
    hash_method, key_type = values["img_signature_hash_method"], values["img_signature_key_type"]
    if hash_method not in HASHES:
        raise SignatureUnsupportedError(f"hash method {hash_method[:80]!r} is not one of {', '.join(HASHES)}")
    if key_type not in KEY_TYPES:
        raise SignatureUnsupportedError(f"key type {key_type[:80]!r} is not one of {', '.join(KEY_TYPES)}")
    return DeclaredSignature(
        _decoded(values["img_signature"]), hash_method, key_type, values["img_signature_certificate_uuid"]
    )


def verify_signature(declared: DeclaredSignature, digest: Digest, certificate: x509.Certificate) -> Verification:
    """Verify that the key in the certificate signed the bytes that have this digest; says nothing of trust.

    Blocks for some milliseconds on a binary curve.

    Raises:
        SignatureMalformedError: no key like the certificate's makes such a signature: it was cut short, or doubled.
        SignatureInvalidError: the signature is not the key's over this digest.
        KeyTypeMismatchError: the key is of another kind than declared.
        WeakKeyError, CertificateInvalidError: the key is too small, or malformed.
        SignatureUnsupportedError: the key lies on a binary curve, and there is no `openssl` program that knows it.
    """
    if digest.algorithm != declared.digest_algorithm:
        raise SignatureInvalidError(f"a {declared.hash_method} signature does not cover a {digest.algorithm} digest")
    certified = certified_key(certificate)
    if certified.key_type != declared.key_type:
        raise KeyTypeMismatchError(
            f"certificate {declared.certificate_id[:80]!r} holds a key of type {certified.key_type}, "
            f"not {declared.key_type}"
        )
    _require_form(certified.key, declared.signature)
    try:
        _verify(certified.key, declared.signature, HASHES[declared.hash_method][1], bytes.fromhex(digest.hex))
    except (InvalidSignature, ValueError) as exc:
        raise SignatureInvalidError(
            f"the signature does not match the image's bytes and certificate {declared.certificate_id[:80]!r}"
        ) from exc
    return Verification(
        Verdict.SIGNED,
        digest,
        certificate_id=declared.certificate_id,
        certificate_fingerprint=fingerprint_of(certificate),
        certificate_subject=subject_of(certificate),
        key_type=declared.key_type,
    )


def fingerprint_of(certificate: x509.Certificate) -> str:
    """The SHA-256 of the certificate's DER, in hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def subject_of(certificate: x509.Certificate) -> str:
    """Whom the certificate names, as RFC 4514 writes it; cut off after some hundred characters.

    Raises:
        CertificateInvalidError: the name is malformed.
    """
    try:
        return certificate.subject.rfc4514_string()[:_MAX_SUBJECT_CHARACTERS]
    except (ValueError, TypeError) as exc:
        raise CertificateInvalidError("the certificate's subject is malformed") from exc


def _require_form(key: PublicKey, signature: bytes) -> None:
    """Tell a signature that came damaged from one that is another's."""
    match key:
        case rsa.RSAPublicKey():
            expected = (key.key_size + 7) // 8
        case ed25519.Ed25519PublicKey():
            expected = _ED25519_BYTES
        case _:
            try:
                decode_dss_signature(signature)
            except ValueError as exc:
                raise SignatureMalformedError(
                    f"img_signature has {len(signature)} bytes, which are not two numbers in DER"
                ) from exc
            return
    if len(signature) != expected:
        raise SignatureMalformedError(
            f"img_signature has {len(signature)} bytes, and the certificate's key makes {expected}"
        )


def _verify(key: PublicKey, signature: bytes, algorithm: hashes.HashAlgorithm, value: bytes) -> None:
    prehashed = Prehashed(algorithm)
    match key:
        case rsa.RSAPublicKey():
            # Publishers choose the salt's length: AUTO reads it from the signature.
            key.verify(signature, value, padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO), prehashed)
        case dsa.DSAPublicKey():
            key.verify(signature, value, prehashed)
        case ec.EllipticCurvePublicKey():
            key.verify(signature, value, ec.ECDSA(prehashed))
        case ed25519.Ed25519PublicKey():
            # RFC 8032's Ed25519, and not Ed25519ph, over the digest as the message: bytes, not hex.
            key.verify(signature, value)
        case BinaryCurveKey():
            verify_on_binary_curve(key, signature, value)
        case _:
            assert_never(key)


def _decoded(text: str) -> bytes:
    try:
        # `base64` wraps its lines unless told otherwise: line ends are not damage.
        signature = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise SignatureMalformedError("img_signature is not base64") from exc
    if not 0 < len(signature) <= MAX_SIGNATURE_BYTES:
        raise SignatureMalformedError(f"img_signature has {len(signature)} bytes, which no known signature has")
    return signature
