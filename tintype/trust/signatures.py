"""Verification of a publisher's signature, in Glance's convention of four properties. Pure: no I/O, no clock.

The signature covers the image's bytes as they were sent. Only their digest is needed, which was taken while they were
staged. Nothing here returns a bool: what is not verified raises.

1. All four properties are there (:func:`declared_signature`).
2. Hash method and key type are known, the signature is base64 of a possible length.
3. The certificate can be read, and is valid now.
4. It may be used for signatures, and its key is of the declared type and strong enough.
5. The signature over the digest is the key's (:func:`verify_signature`).

See "Image Signature Verification" in Glance's user documentation, and RFC 8017 section 8.1 (RSASSA-PSS).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from tintype.domain.attributes import SIGNATURE_PROPERTIES
from tintype.domain.errors import (
    CertificateInvalidError,
    SignatureIncompleteError,
    SignatureInvalidError,
    SignatureMalformedError,
    SignatureUnsupportedError,
)
from tintype.domain.events import Verdict, Verification
from tintype.domain.values import Digest, PropertyValue

RSA_PSS = "RSA-PSS"
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
MAX_SIGNATURE_BYTES = MAX_RSA_BITS // 8
_MAX_SUBJECT_CHARACTERS = 256

HASHES: Mapping[str, tuple[str, hashes.HashAlgorithm]] = {
    "SHA-224": ("sha224", hashes.SHA224()),
    "SHA-256": ("sha256", hashes.SHA256()),
    "SHA-384": ("sha384", hashes.SHA384()),
    "SHA-512": ("sha512", hashes.SHA512()),
}
"""img_signature_hash_method → the name of the digest's algorithm, and the algorithm."""

HASH_BY_ALGORITHM: Mapping[str, hashes.HashAlgorithm] = dict(HASHES.values())
"""The name of a digest's algorithm → the algorithm."""

CURVES: Mapping[str, type[ec.EllipticCurve]] = {"ECC_SECP384R1": ec.SECP384R1, "ECC_SECP521R1": ec.SECP521R1}
"""img_signature_key_type → curve. Glance also names SECT curves, which `cryptography` does not offer."""


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
    if key_type != RSA_PSS and key_type not in CURVES:
        raise SignatureUnsupportedError(f"key type {key_type[:80]!r} is not one of {', '.join((RSA_PSS, *CURVES))}")
    return DeclaredSignature(
        _decoded(values["img_signature"]), hash_method, key_type, values["img_signature_certificate_uuid"]
    )


def verify_signature(declared: DeclaredSignature, digest: Digest, certificate: bytes, at: datetime) -> Verification:
    """Verify that the holder of the certificate (PEM) signed the bytes that have this digest.

    Raises:
        CertificateInvalidError: it cannot be read, is not valid at that time, or is not for such a signature.
        SignatureInvalidError: the signature is not the key's over this digest.
    """
    if digest.algorithm != declared.digest_algorithm:
        raise SignatureInvalidError(f"a {declared.hash_method} signature does not cover a {digest.algorithm} digest")
    # 3. The certificate is valid now.
    parsed = _parsed(certificate, declared.certificate_id)
    _require_valid(parsed, declared.certificate_id, at)
    # 4. It is for signatures, with a key of the declared type.
    _require_signing(parsed, declared.certificate_id)
    key = _key_of(parsed, declared)
    # 5. The signature is the key's.
    algorithm = HASHES[declared.hash_method][1]
    prehashed, value = Prehashed(algorithm), bytes.fromhex(digest.hex)
    try:
        if isinstance(key, rsa.RSAPublicKey):
            # Publishers choose the salt's length: AUTO reads it from the signature.
            scheme = padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
            key.verify(declared.signature, value, scheme, prehashed)
        else:
            key.verify(declared.signature, value, ec.ECDSA(prehashed))
    except (InvalidSignature, ValueError) as exc:
        raise SignatureInvalidError(
            f"the signature does not match the image's bytes and certificate {declared.certificate_id!r}"
        ) from exc
    return Verification(
        Verdict.SIGNED,
        digest,
        certificate_id=declared.certificate_id,
        certificate_fingerprint=parsed.fingerprint(hashes.SHA256()).hex(),
        certificate_subject=_subject_of(parsed),
        key_type=declared.key_type,
    )


def _decoded(text: str) -> bytes:
    try:
        # `base64` wraps its lines unless told otherwise: line ends are not damage.
        signature = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise SignatureMalformedError("img_signature is not base64") from exc
    if not 0 < len(signature) <= MAX_SIGNATURE_BYTES:
        raise SignatureMalformedError(f"img_signature has {len(signature)} bytes, which no known signature has")
    return signature


def _parsed(pem: bytes, certificate_id: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as exc:
        raise CertificateInvalidError(f"certificate {certificate_id!r} is not an X.509 certificate in PEM") from exc


def _require_valid(certificate: x509.Certificate, certificate_id: str, at: datetime) -> None:
    if at < certificate.not_valid_before_utc:
        since = certificate.not_valid_before_utc.isoformat()
        raise CertificateInvalidError(f"certificate {certificate_id!r} is not valid before {since}")
    if at > certificate.not_valid_after_utc:
        until = certificate.not_valid_after_utc.isoformat()
        raise CertificateInvalidError(f"certificate {certificate_id!r} has expired: it was valid until {until}")


def _require_signing(certificate: x509.Certificate, certificate_id: str) -> None:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return  # RFC 5280 4.2.1.3: without the extension, every use is allowed
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as exc:
        raise CertificateInvalidError(f"certificate {certificate_id!r} has malformed extensions") from exc
    if not (usage.digital_signature or usage.content_commitment):
        raise CertificateInvalidError(f"certificate {certificate_id!r} is not for digital signatures")


def _key_of(certificate: x509.Certificate, declared: DeclaredSignature) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise CertificateInvalidError(f"certificate {declared.certificate_id!r} holds a key of no known kind") from exc
    if declared.key_type == RSA_PSS and isinstance(key, rsa.RSAPublicKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise CertificateInvalidError(
                f"certificate {declared.certificate_id!r} holds an RSA key of {key.key_size} bits; "
                f"{MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted"
            )
        return key
    curve = CURVES.get(declared.key_type)
    if curve and isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, curve):
        return key
    raise CertificateInvalidError(
        f"certificate {declared.certificate_id!r} does not hold a key of type {declared.key_type}"
    )


def _subject_of(certificate: x509.Certificate) -> str:
    try:
        return certificate.subject.rfc4514_string()[:_MAX_SUBJECT_CHARACTERS]
    except ValueError as exc:
        raise CertificateInvalidError("the certificate's subject is malformed") from exc
