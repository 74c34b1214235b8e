"""Keys and certificates as objects of a PKCS #11 token.

A key is a certificate object (CKO_CERTIFICATE) whose label is the key's id, and the private key object that has the
same CKA_ID. Private keys are made in the token, sensitive and not extractable: they are used there, and never seen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

import pkcs11
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from pkcs11 import MGF, Attribute, CertificateType, KeyType, Mechanism, ObjectClass
from pkcs11.util.ec import encode_ec_public_key, encode_named_curve_parameters

from services.signer.keys.directory import MAX_CERTIFICATE_BYTES
from tintype.domain.errors import CertificateInvalidError, KeyUnreadableError, ServiceKeyNotFoundError
from tintype.domain.values import CERTIFICATE_ID, Digest
from tintype.ports.service_keys import ServiceKey
from tintype.trust.certificates import service_certificate, start_of_new
from tintype.trust.pem import certificate_of_der
from tintype.trust.signatures import HASH_BY_ALGORITHM
from tintype.trust.signing import key_type_of, signable

MAX_OBJECTS = 4096
_CURVE = "secp384r1"
_RSA_MECHANISMS = {
    "sha224": (Mechanism.SHA224, MGF.SHA224),
    "sha256": (Mechanism.SHA256, MGF.SHA256),
    "sha384": (Mechanism.SHA384, MGF.SHA384),
    "sha512": (Mechanism.SHA512, MGF.SHA512),
}


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate object. ``object_id`` is its CKA_ID, which it shares with its private key."""

    key_id: str
    object_id: bytes
    certificate: x509.Certificate

    @property
    def started_at(self) -> datetime:
        """When it begins to be valid."""
        return self.certificate.not_valid_before_utc


def certified(session: pkcs11.Session) -> list[Certified]:
    """All certificates that name a key, newest first; of two with one label, that of the smaller CKA_ID counts."""
    found: dict[str, Certified] = {}
    for each in _objects(session, ObjectClass.CERTIFICATE):
        label, object_id = str(each[Attribute.LABEL]), bytes(each[Attribute.ID])
        if not CERTIFICATE_ID.fullmatch(label) or not object_id:
            continue  # somebody else's
        if label not in found or object_id < found[label].object_id:
            found[label] = Certified(label, object_id, _certificate(bytes(each[Attribute.VALUE]), label))
    return sorted(found.values(), key=lambda each: (each.started_at, each.key_id), reverse=True)


def service_keys(session: pkcs11.Session) -> Sequence[ServiceKey]:
    """All keys, newest first; the newest that has its private key in the token is active."""
    private = {bytes(each[Attribute.ID]) for each in _objects(session, ObjectClass.PRIVATE_KEY)}
    found = certified(session)
    active = next((each.key_id for each in found if each.object_id in private), None)
    return [
        ServiceKey(
            each.key_id,
            key_type_of(each.certificate.public_key(), f"key {each.key_id!r}"),
            each.certificate.public_bytes(serialization.Encoding.PEM),
            each.started_at,
            each.key_id == active,
        )
        for each in found
    ]


def sign(session: pkcs11.Session, key_id: str, digest: Digest) -> bytes:
    """Sign in the token.

    Raises:
        ServiceKeyNotFoundError: there is no such key, or its private key is gone.
        KeyUnreadableError: the private key is not that of the certificate.
    """
    value = signable(digest)
    missing = ServiceKeyNotFoundError(f"the service has no key {key_id[:80]!r} that signs")
    key = next((each for each in certified(session) if each.key_id == key_id), None)
    if key is None:
        raise missing
    try:
        private = session.get_key(object_class=ObjectClass.PRIVATE_KEY, id=key.object_id)
    except pkcs11.NoSuchKey:
        raise missing from None
    signature = _signed(private, key.certificate.public_key(), digest.algorithm, value)
    _require_own(key, signature, digest.algorithm, value)
    return signature


def make(session: pkcs11.Session, key_id: str, now: datetime) -> None:
    """Make a key pair in the token, and its certificate; a key of that id is left as it is."""
    found = certified(session)
    if any(each.key_id == key_id for each in found):
        return
    object_id = os.urandom(16)
    parameters = session.create_domain_parameters(
        KeyType.EC, {Attribute.EC_PARAMS: encode_named_curve_parameters(_CURVE)}, local=True
    )
    public, private = parameters.generate_keypair(
        store=True,
        id=object_id,
        label=key_id,
        private_template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
    )
    start = start_of_new(now, found[0].started_at if found else None)
    pem = service_certificate(TokenKey(private, public), key_id, start)
    # The certificate last: what has none is no key yet.
    _store_certificate(session, key_id, object_id, x509.load_pem_x509_certificate(pem))


class TokenKey(ec.EllipticCurvePrivateKey):
    """A private key in a token, for a library that makes certificates: it signs, and shows nothing."""

    def __init__(self, private: pkcs11.PrivateKey, public: pkcs11.PublicKey) -> None:
        self._private = private
        key = serialization.load_der_public_key(encode_ec_public_key(public))
        assert isinstance(key, ec.EllipticCurvePublicKey)
        self._public = key

    def sign(self, data: object, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """ECDSA over ``data``, in DER."""
        algorithm = signature_algorithm.algorithm
        assert isinstance(algorithm, hashes.HashAlgorithm) and isinstance(data, bytes)
        digest = hashes.Hash(algorithm)
        digest.update(data)
        return _signed(self._private, self._public, algorithm.name, digest.finalize())

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Its public part."""
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        """Its curve."""
        return self._public.curve

    @property
    def key_size(self) -> int:
        """Its size in bits."""
        return self._public.key_size

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        """Refuse: it signs."""
        raise NotImplementedError

    def private_numbers(self) -> NoReturn:
        """Refuse: nobody sees them."""
        raise NotImplementedError

    def private_bytes(self, *_: object, **__: object) -> NoReturn:
        """Refuse: nobody sees them."""
        raise NotImplementedError

    def __copy__(self) -> TokenKey:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> TokenKey:
        return self


def _signed(private: pkcs11.Key, public: object, algorithm: str, value: bytes) -> bytes:
    match public:
        case ec.EllipticCurvePublicKey(key_size=bits):
            # ECDSA takes the leftmost bits of a longer digest; not every token does that by itself.
            size = (bits + 7) // 8
            raw = bytes(private.sign(value[:size], mechanism=Mechanism.ECDSA))  # type: ignore[attr-defined]
            half = len(raw) // 2
            return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))
        case rsa.RSAPublicKey(key_size=bits):
            salt_size = (bits + 6) // 8 - len(value) - 2
            parameters = (*_RSA_MECHANISMS[algorithm], salt_size)
            signature = private.sign(  # type: ignore[attr-defined]
                value, mechanism=Mechanism.RSA_PKCS_PSS, mechanism_param=parameters
            )
            return bytes(signature)
    raise KeyUnreadableError("the token holds a key of a kind that signs no images")


def _require_own(key: Certified, signature: bytes, algorithm: str, value: bytes) -> None:
    hashed = HASH_BY_ALGORITHM[algorithm]
    try:
        match key.certificate.public_key():
            case ec.EllipticCurvePublicKey() as public:
                public.verify(signature, value, ec.ECDSA(Prehashed(hashed)))
            case rsa.RSAPublicKey() as public:
                public.verify(signature, value, padding.PSS(padding.MGF1(hashed), padding.PSS.AUTO), Prehashed(hashed))
    except InvalidSignature:
        raise KeyUnreadableError(f"the private key of {key.key_id!r} is not that of its certificate") from None


def _store_certificate(session: pkcs11.Session, key_id: str, object_id: bytes, certificate: x509.Certificate) -> None:
    session.create_object(
        {
            Attribute.CLASS: ObjectClass.CERTIFICATE,
            Attribute.CERTIFICATE_TYPE: CertificateType.X_509,
            Attribute.TOKEN: True,
            Attribute.LABEL: key_id,
            Attribute.ID: object_id,
            Attribute.SUBJECT: certificate.subject.public_bytes(),
            Attribute.ISSUER: certificate.issuer.public_bytes(),
            Attribute.SERIAL_NUMBER: _der_integer(certificate.serial_number),
            Attribute.VALUE: certificate.public_bytes(serialization.Encoding.DER),
        }
    )


def _objects(session: pkcs11.Session, kind: ObjectClass) -> Iterator[pkcs11.Object]:
    for count, each in enumerate(session.get_objects({Attribute.CLASS: kind, Attribute.TOKEN: True}), start=1):
        if count > MAX_OBJECTS:
            raise KeyUnreadableError(f"the token holds more than {MAX_OBJECTS} objects of one class")
        yield each


def _certificate(der: bytes, label: str) -> x509.Certificate:
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise KeyUnreadableError(f"certificate {label!r} in the token is larger than {MAX_CERTIFICATE_BYTES} bytes")
    try:
        return certificate_of_der(der, f"certificate {label!r} in the token")
    except CertificateInvalidError as exc:
        raise KeyUnreadableError(exc.message) from exc


def _der_integer(number: int) -> bytes:
    content = number.to_bytes(number.bit_length() // 8 + 1)  # with room for the sign
    return bytes((0x02, len(content))) + content
