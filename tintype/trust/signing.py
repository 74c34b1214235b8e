"""Signing the digest of an image's bytes, as a publisher does, in Glance's convention.

The private key is the caller's, and stays there: nothing of it gets into an error.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import assert_never

from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from tintype.domain.errors import InvalidDigestError, SignatureUnsupportedError
from tintype.domain.values import Digest
from tintype.trust.public_keys import CURVES, DSA, ED25519, RSA_PSS
from tintype.trust.signatures import HASH_BY_ALGORITHM, HASHES

PrivateKey = rsa.RSAPrivateKey | dsa.DSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def sign_digest(key: PrivateKey, digest: Digest) -> bytes:
    """Sign bytes of that digest: RSA-PSS with maximum salt and MGF1 of the same hash, ECDSA or DSA in DER, or Ed25519
    (RFC 8032) with the digest's bytes as its message.

    Raises:
        InvalidDigestError: the digest's algorithm is not one that the convention knows.
    """
    algorithm = HASH_BY_ALGORITHM.get(digest.algorithm)
    if algorithm is None:
        raise InvalidDigestError(f"digests of {digest.algorithm} are not signed: use {', '.join(HASH_BY_ALGORITHM)}")
    value, prehashed = bytes.fromhex(digest.hex), Prehashed(algorithm)
    match key:
        case rsa.RSAPrivateKey():
            return key.sign(value, padding.PSS(padding.MGF1(algorithm), padding.PSS.MAX_LENGTH), prehashed)
        case dsa.DSAPrivateKey():
            return key.sign(value, prehashed)
        case ec.EllipticCurvePrivateKey():
            return key.sign(value, ec.ECDSA(prehashed))
        case ed25519.Ed25519PrivateKey():
            return key.sign(value)
        case _:
            assert_never(key)


def key_type_of(key: PrivateKey) -> str:
    """What ``img_signature_key_type`` calls the key.

    Raises:
        SignatureUnsupportedError: it is on a curve that the convention does not know.
    """
    match key:
        case rsa.RSAPrivateKey():
            return RSA_PSS
        case dsa.DSAPrivateKey():
            return DSA
        case ed25519.Ed25519PrivateKey():
            return ED25519
        case ec.EllipticCurvePrivateKey():
            for name, curve in CURVES.items():
                if isinstance(key.curve, curve):
                    return name
            raise SignatureUnsupportedError(f"images are not signed with keys on the curve {key.curve.name}")
        case _:
            assert_never(key)


def signature_properties(signature: bytes, digest: Digest, key_type: str, certificate_id: str) -> Mapping[str, str]:
    """The four properties that an image with that signature bears."""
    hash_method = next(name for name, (algorithm, _) in HASHES.items() if algorithm == digest.algorithm)
    return {
        "img_signature": base64.b64encode(signature).decode(),
        "img_signature_hash_method": hash_method,
        "img_signature_key_type": key_type,
        "img_signature_certificate_uuid": certificate_id,
    }
