"""Signing a digest with a private key, so that Glance's convention and DSSE verify it."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from tintype.domain.attributes import HASH_METHODS
from tintype.domain.errors import InvalidDigestError, KeyPassphraseError, KeyUnreadableError
from tintype.domain.values import Digest
from tintype.trust.public_keys import CURVES, DSA, ED25519, MAX_RSA_BITS, MIN_DSA_BITS, MIN_RSA_BITS, RSA_PSS
from tintype.trust.signatures import HASH_BY_ALGORITHM

PrivateKey = rsa.RSAPrivateKey | dsa.DSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_METHODS: Mapping[str, str] = {algorithm: method for method, algorithm in HASH_METHODS.items()}

_CURVE_TYPES: Mapping[str, str] = {curve().name: key_type for key_type, curve in CURVES.items()}


def sign_digest(key: PrivateKey, digest: Digest) -> bytes:
    """Sign bytes of that digest: RSA-PSS with maximum salt and MGF1 of the same hash, ECDSA or DSA in DER, Ed25519
    over the digest itself.

    Raises:
        InvalidDigestError: the digest is not of SHA-224, SHA-256, SHA-384 or SHA-512.
    """
    value, algorithm = signable(digest), HASH_BY_ALGORITHM[digest.algorithm]
    match key:
        case rsa.RSAPrivateKey():
            scheme = padding.PSS(padding.MGF1(algorithm), padding.PSS.MAX_LENGTH)
            return key.sign(value, scheme, Prehashed(algorithm))
        case ec.EllipticCurvePrivateKey():
            return key.sign(value, ec.ECDSA(Prehashed(algorithm)))
        case dsa.DSAPrivateKey():
            return key.sign(value, Prehashed(algorithm))
        case ed25519.Ed25519PrivateKey():
            return key.sign(value)


def signable(digest: Digest) -> bytes:
    """The bytes of a digest that may be signed.

    Raises:
        InvalidDigestError: it is not of SHA-224, SHA-256, SHA-384 or SHA-512.
    """
    if digest.algorithm not in HASH_BY_ALGORITHM:
        raise InvalidDigestError(
            f"a {digest.algorithm} digest is not signed; those of {', '.join(HASH_BY_ALGORITHM)} are"
        )
    return bytes.fromhex(digest.hex)


def signature_properties(signature: bytes, digest: Digest, key_type: str, certificate_id: str) -> dict[str, str]:
    """Glance's four properties for a signature over bytes of that digest."""
    return {
        "img_signature": base64.b64encode(signature).decode(),
        "img_signature_hash_method": _METHODS[digest.algorithm],
        "img_signature_key_type": key_type,
        "img_signature_certificate_uuid": certificate_id,
    }


def key_type_of(key: object, what: str) -> str:
    """The kind of a private or public key, as img_signature_key_type names it. ``what`` names the key in messages.

    Raises:
        KeyUnreadableError: it is of no kind that signs here, or too weak.
    """
    match key:
        case rsa.RSAPrivateKey(key_size=bits) | rsa.RSAPublicKey(key_size=bits):
            if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
                raise KeyUnreadableError(f"{what} has {bits} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted")
            return RSA_PSS
        case ec.EllipticCurvePrivateKey(curve=curve) | ec.EllipticCurvePublicKey(curve=curve):
            if curve.name in _CURVE_TYPES:
                return _CURVE_TYPES[curve.name]
        case dsa.DSAPrivateKey(key_size=bits) | dsa.DSAPublicKey(key_size=bits):
            if bits >= MIN_DSA_BITS:
                return DSA
        case ed25519.Ed25519PrivateKey() | ed25519.Ed25519PublicKey():
            return ED25519
    raise KeyUnreadableError(f"{what} is a key of a kind that signs no images")


def load_private_key(pem: bytes, what: str, passphrase: str | None = None) -> PrivateKey:
    """The private key in a PEM text, of a kind that signs. ``what`` names it in messages, which never show it.

    Raises:
        KeyPassphraseError: it is encrypted, and the passphrase is missing or wrong.
        KeyUnreadableError: it is no private key, or of no kind that signs.
    """
    try:
        key = serialization.load_pem_private_key(pem, passphrase.encode() if passphrase is not None else None)
    except TypeError:
        # The library's word both for a missing passphrase and for one too many.
        if passphrase is not None:
            return load_private_key(pem, what)
        raise KeyPassphraseError(f"{what} is encrypted, and its passphrase was not given") from None
    except (ValueError, UnsupportedAlgorithm):
        if passphrase is not None:
            raise KeyPassphraseError(f"{what} cannot be decrypted with that passphrase") from None
        raise KeyUnreadableError(f"{what} is not a private key in PEM") from None
    key_type_of(key, what)
    assert isinstance(key, PrivateKey)
    return key
