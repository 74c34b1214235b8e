"""The public key in a certificate: of which kind, in Glance's names, and whether it is strong enough.

`cryptography` does not know the binary (SECT) curves that Glance names, and hands out no key of them: of those, the
point is taken from the certificate's DER, which it has parsed before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import PublicKeyAlgorithmOID

from tintype.domain.errors import CertificateInvalidError, WeakKeyError
from tintype.trust.der import DerError, elements, object_identifier

RSA_PSS = "RSA-PSS"
DSA = "DSA"
ED25519 = "ED25519"
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
MIN_DSA_BITS = 2048
MAX_DSA_BITS = 4096
MIN_DSA_ORDER_BITS = 224

BROKEN_HASHES = (hashes.MD5, hashes.SHA1)
"""What nobody signs certificates or revocation lists with."""

MALFORMED = (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
"""What `cryptography` says of a part of a certificate or a list that it cannot read: it reads each when it is asked."""

_FIELD = 2**255 - 19
_OF_ORDER_EIGHT = 0x5FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_OF_SMALL_ORDER = frozenset({0, 1, _FIELD - 1, _FIELD, _FIELD + 1, _OF_ORDER_EIGHT, _FIELD - _OF_ORDER_EIGHT})
"""The second coordinates of edwards25519's points of order 1, 2, 4 and 8, however they are encoded."""

CURVES: Mapping[str, type[ec.EllipticCurve]] = {
    "ECC_SECP256R1": ec.SECP256R1,
    "ECC_SECP384R1": ec.SECP384R1,
    "ECC_SECP521R1": ec.SECP521R1,
}
"""img_signature_key_type → prime curve. P-256 is not in Glance's list."""


@dataclass(frozen=True, slots=True)
class BinaryCurve:
    """A curve over a binary field: its name in OpenSSL, its object identifier, and the bytes of a coordinate."""

    openssl_name: str
    oid: str
    coordinate_bytes: int


BINARY_CURVES: Mapping[str, BinaryCurve] = {
    "ECC_SECT409K1": BinaryCurve("sect409k1", "1.3.132.0.36", 52),
    "ECC_SECT409R1": BinaryCurve("sect409r1", "1.3.132.0.37", 52),
    "ECC_SECT571K1": BinaryCurve("sect571k1", "1.3.132.0.38", 72),
    "ECC_SECT571R1": BinaryCurve("sect571r1", "1.3.132.0.39", 72),
}
"""img_signature_key_type → binary curve (SEC 2, sections 3.7 and 3.8)."""

KEY_TYPES: tuple[str, ...] = (RSA_PSS, DSA, *BINARY_CURVES, *CURVES, ED25519)
"""All that img_signature_key_type may be."""


@dataclass(frozen=True, slots=True)
class BinaryCurveKey:
    """A point on a binary curve, uncompressed (SEC 1, section 2.3.3); whether it lies on the curve is not known yet."""

    curve: BinaryCurve
    point: bytes


PublicKey = rsa.RSAPublicKey | dsa.DSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | BinaryCurveKey


@dataclass(frozen=True, slots=True)
class CertifiedKey:
    """A certificate's key, and its kind as img_signature_key_type names it."""

    key_type: str
    key: PublicKey


def certified_key(certificate: x509.Certificate) -> CertifiedKey:
    """The certificate's key; an RSA key of whatever padding is ``RSA-PSS``.

    Raises:
        CertificateInvalidError: the key is malformed, or of no known kind.
        WeakKeyError: it is smaller or larger than accepted.
    """
    try:
        key = certificate.public_key()
    except UnsupportedAlgorithm:
        return _binary_curve_key(certificate)
    except (ValueError, TypeError) as exc:
        raise CertificateInvalidError(f"{name_of(certificate)} holds a malformed key") from exc
    match key:
        case rsa.RSAPublicKey():
            _require_bits("RSA", key.key_size, MIN_RSA_BITS, MAX_RSA_BITS, certificate)
            return CertifiedKey(RSA_PSS, key)
        case dsa.DSAPublicKey():
            _require_bits("DSA", key.key_size, MIN_DSA_BITS, MAX_DSA_BITS, certificate)
            order_bits = key.public_numbers().parameter_numbers.q.bit_length()
            _require_bits("DSA (order)", order_bits, MIN_DSA_ORDER_BITS, 256, certificate)
            return CertifiedKey(DSA, key)
        case ec.EllipticCurvePublicKey():
            return CertifiedKey(_curve_name(key.curve, certificate), key)
        case ed25519.Ed25519PublicKey():
            return CertifiedKey(ED25519, key)
    raise CertificateInvalidError(f"{name_of(certificate)} holds a key of no kind that is accepted here")


def require_one_holder(certificate: x509.Certificate) -> None:
    """Refuse keys with which anybody can sign, as DSA and Ed25519 have them: elements of (nearly) no order.

    Some milliseconds for DSA, of which the parameters are the certificate's as well.

    Raises:
        CertificateInvalidError, WeakKeyError: as :func:`certified_key`; or it is such a key.
    """
    match certified_key(certificate).key:
        case dsa.DSAPublicKey() as key:
            numbers = key.public_numbers()
            p, q = numbers.parameter_numbers.p, numbers.parameter_numbers.q
            # SP 800-89, section 5.3.1, and the same of the generator.
            is_sound = all(
                1 < each < p - 1 and pow(each, q, p) == 1 for each in (numbers.y, numbers.parameter_numbers.g)
            )
        case ed25519.Ed25519PublicKey() as key:
            coordinate = int.from_bytes(key.public_bytes_raw(), "little") & (2**255 - 1)
            is_sound = coordinate not in _OF_SMALL_ORDER
        case _:
            return
    if not is_sound:
        raise WeakKeyError(f"{name_of(certificate)} holds a key with which anybody can sign")


def name_of(certificate: x509.Certificate) -> str:
    """Whose certificate it is, for a message; bounded."""
    try:
        subject = certificate.subject.rfc4514_string()
    except (ValueError, TypeError):
        subject = ""
    return f"the certificate of {subject[:120]!r}" if subject else f"certificate number {certificate.serial_number:x}"


def _require_bits(kind: str, bits: int, least: int, most: int, certificate: x509.Certificate) -> None:
    if not least <= bits <= most:
        raise WeakKeyError(f"{name_of(certificate)} holds an {kind} key of {bits} bits; {least} to {most} are accepted")


def _curve_name(curve: ec.EllipticCurve, certificate: x509.Certificate) -> str:
    for name, known in CURVES.items():
        if isinstance(curve, known):
            return name
    if curve.key_size < 256:
        raise WeakKeyError(f"{name_of(certificate)} holds a key on the weak curve {curve.name}")
    raise CertificateInvalidError(f"{name_of(certificate)} holds a key on the curve {curve.name}, not accepted here")


def _binary_curve_key(certificate: x509.Certificate) -> CertifiedKey:
    """RFC 5480: SubjectPublicKeyInfo { { id-ecPublicKey, namedCurve }, BIT STRING point }."""
    invalid = CertificateInvalidError(f"{name_of(certificate)} holds a key of no kind that is accepted here")
    if certificate.public_key_algorithm_oid != PublicKeyAlgorithmOID.EC_PUBLIC_KEY:
        raise invalid
    try:
        algorithm, point = elements(_public_key_info(certificate))
        _, parameters = elements(algorithm.content)
        oid = object_identifier(parameters)
    except (DerError, ValueError) as exc:
        raise invalid from exc
    for key_type, curve in BINARY_CURVES.items():
        if curve.oid == oid:
            # A BIT STRING begins with its count of unused bits; 4 is "uncompressed".
            if point.content[:2] != b"\x00\x04" or len(point.content) != 2 + 2 * curve.coordinate_bytes:
                raise CertificateInvalidError(f"{name_of(certificate)} holds a malformed point, or a compressed one")
            return CertifiedKey(key_type, BinaryCurveKey(curve, point.content[1:]))
    raise invalid


def _public_key_info(certificate: x509.Certificate) -> bytes:
    """RFC 5280, section 4.1: the seventh field of a TBSCertificate with a version, the sixth of one without."""
    (tbs,) = elements(certificate.tbs_certificate_bytes)
    fields = elements(tbs.content)
    has_version = fields[0].tag == 0xA0
    return fields[6 if has_version else 5].content
