"""DSSE envelopes: a payload, what it is, and signatures over both (https://github.com/secure-systems-lab/dsse).

The envelope's form and what is signed are securesystemslib's; keys stay behind the service's port. The services sign
with one key, over SHA-384 of DSSE's encoding, whatever the key: ECDSA in DER, or RSA-PSS with MGF1 of SHA-384.

The same keys sign digests that others choose: those of images, on request (``SignDigest``). So that none of those
signatures passes for an envelope's, digests of images are signed with at most 256 bits (:data:`IMAGE_DIGESTS`), and
envelopes with keys that take all 384 bits of theirs (:data:`SEALING_KEY_TYPES`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from securesystemslib.dsse import Envelope
from securesystemslib.signer._signature import Signature

from tintype.domain.errors import AttestationInvalidError, KeyManagerUnavailableError, ServiceKeyUnknownError
from tintype.domain.values import Digest
from tintype.ports.service_keys import ServiceKey, active_key
from tintype.trust.public_keys import RSA_PSS, certified_key
from tintype.trust.strict_json import Fields, JsonRefusal, base64_bytes, parsed

IN_TOTO = "application/vnd.in-toto+json"
MAX_ENVELOPE_BYTES = 1024 * 1024
MAX_SIGNATURES = 8

IMAGE_DIGESTS = ("sha224", "sha256")
"""Digests of images that a key which seals envelopes may sign."""

SEALING_KEY_TYPES = ("ECC_SECP384R1", "ECC_SECP521R1", RSA_PSS)
"""Keys that may seal envelopes, as img_signature_key_type names them: not on curves of fewer than 384 bits."""

Sign = Callable[[str, Digest], Awaitable[bytes]]
"""Signs bytes of a digest with the key of an id."""


def sealing_key(keys: Sequence[ServiceKey]) -> ServiceKey:
    """The key that seals envelopes now.

    Raises:
        KeyManagerUnavailableError: none signs, or the one that does may seal nothing.
    """
    key = active_key(keys)
    if key.key_type not in SEALING_KEY_TYPES:
        raise KeyManagerUnavailableError(
            f"key {key.id!r} is of type {key.key_type}, and only {', '.join(SEALING_KEY_TYPES)} seal what is attested"
        )
    return key


async def sealed(payload: bytes, payload_type: str, key_id: str, sign: Sign) -> bytes:
    """The envelope (JSON) around ``payload``, signed with one key: over SHA-384 of DSSE's encoding.

    Raises:
        KeyManagerUnavailableError: the key manager does not answer.
    """
    envelope = Envelope(payload, payload_type, {})
    digest = Digest("sha384", hashlib.sha384(envelope.pae()).hexdigest())
    envelope.signatures[key_id] = Signature(key_id, (await sign(key_id, digest)).hex())
    return json.dumps(envelope.to_dict(), sort_keys=True).encode()


def envelope_of(content: bytes) -> Envelope:
    """The envelope that a JSON document is; nothing of it is verified.

    Raises:
        AttestationInvalidError: it is none, is too large, or has no signature, or several of one key.
    """
    try:
        fields = parsed(content, MAX_ENVELOPE_BYTES)
        payload = base64_bytes(fields.text("payload", max_length=MAX_ENVELOPE_BYTES), "payload")
        signatures = [_signature(each) for each in fields.objects("signatures")]
        payload_type = fields.text("payloadType")
    except JsonRefusal as exc:
        raise AttestationInvalidError(f"the DSSE envelope cannot be read: {exc}") from exc
    by_key = {signature.keyid: signature for signature in signatures}
    if not 0 < len(signatures) <= MAX_SIGNATURES or len(by_key) != len(signatures):
        raise AttestationInvalidError("the DSSE envelope has no signature, too many, or several of one key")
    return Envelope(payload, payload_type, by_key)


def verified_payload(
    envelope: Envelope, payload_type: str, certificates: Mapping[str, x509.Certificate]
) -> tuple[bytes, str]:
    """The payload, and the id of the key that signed it: the first whose certificate is among ``certificates``.

    Whether that certificate is still in date is for the caller to say.

    Raises:
        ServiceKeyUnknownError: no signature is by one of these keys.
        AttestationInvalidError: the signature is not the key's, or the payload is of another type.
    """
    key_id = next((key_id for key_id in envelope.signatures if key_id in certificates), None)
    if key_id is None:
        named = ", ".join(repr(key_id[:80]) for key_id in envelope.signatures)
        raise ServiceKeyUnknownError(f"the envelope is signed with {named}, which is trusted as no service's key")
    certified = certified_key(certificates[key_id])
    if certified.key_type not in SEALING_KEY_TYPES:
        raise AttestationInvalidError(f"key {key_id[:80]!r} is of type {certified.key_type}, which seals no envelopes")
    key = certified.key
    signature = bytes.fromhex(envelope.signatures[key_id].signature)
    algorithm = hashes.SHA384()
    try:
        match key:
            case ec.EllipticCurvePublicKey():
                key.verify(signature, envelope.pae(), ec.ECDSA(algorithm))
            case rsa.RSAPublicKey():
                pss = padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
                key.verify(signature, envelope.pae(), pss, algorithm)
            case _:
                raise AttestationInvalidError(f"key {key_id[:80]!r} is of a kind that seals no envelopes")
    except (InvalidSignature, ValueError) as exc:
        raise AttestationInvalidError(f"the envelope's signature is not that of key {key_id[:80]!r}") from exc
    # Only now: what the type says is covered by the signature as well.
    if envelope.payload_type != payload_type:
        raise AttestationInvalidError(f"the envelope holds {envelope.payload_type[:80]!r}, and not {payload_type}")
    return envelope.payload, key_id


def _signature(fields: Fields) -> Signature:
    signature = base64_bytes(fields.text("sig"), "a signature")
    return Signature(fields.text("keyid"), signature.hex())
