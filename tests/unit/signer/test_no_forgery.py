"""Whoever may have images signed gets nothing signed that passes for the service's own word.

The service's key seals envelopes over SHA-384, and signs digests that callers choose: of images alone, with hashes that
are too short to be that of an envelope.
"""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from securesystemslib.dsse import Envelope

from services.signer.digest_signing import DigestSigning
from tests.unit.trust.roads import KEY_ID, NOW, RoadCase
from tintype.adapters.memory.service_keys import MemoryKeyManager, MemoryServiceKeys
from tintype.domain.access import Caller
from tintype.domain.errors import AttestationInvalidError, InvalidDigestError, KeyManagerUnavailableError
from tintype.domain.values import Digest
from tintype.ports.service_keys import ServiceKey
from tintype.testing.clock import FakeClock
from tintype.testing.events import PROJECT
from tintype.trust.certificates import service_certificate
from tintype.trust.dsse import IN_TOTO, envelope_of, sealing_key, verified_payload

PAYLOAD = base64.b64decode(json.loads(RoadCase().envelope())["payload"])
ENCODED = Envelope(PAYLOAD, IN_TOTO, {}).pae()
SEALED = hashlib.sha384(ENCODED).hexdigest()
CALLER = Caller(PROJECT, "mallory")


@pytest.fixture
async def keys() -> MemoryServiceKeys:
    return await MemoryServiceKeys.prepared(MemoryKeyManager(FakeClock()), "key-1")


def envelope(signature: bytes, key_id: str) -> bytes:
    """What an attacker makes of a signature."""
    signed = {"keyid": key_id, "sig": base64.b64encode(signature).decode()}
    body = {"payload": base64.b64encode(PAYLOAD).decode(), "payloadType": IN_TOTO, "signatures": [signed]}
    return json.dumps(body).encode()


async def certificates(keys: MemoryServiceKeys) -> dict[str, x509.Certificate]:
    return {key.id: x509.load_pem_x509_certificate(key.certificate) for key in await keys.keys()}


@pytest.mark.parametrize(
    "digest",
    # ECDSA takes as many bits of a hash as the key's curve has: the first 384, or as many zeros before.
    [Digest("sha384", SEALED), Digest("sha512", SEALED + "00" * 16), Digest("sha512", "00" * 16 + SEALED)],
    ids=["its hash", "its hash and more", "its hash behind zeros"],
)
async def test_what_would_seal_an_envelope_is_not_signed(keys: MemoryServiceKeys, digest: Digest) -> None:
    with pytest.raises(InvalidDigestError):
        await DigestSigning(keys, ("*",)).sign(CALLER, digest)


async def test_it_would_pass_for_the_services_word(keys: MemoryServiceKeys) -> None:
    """What the rule above is for."""
    stolen = await keys.sign("key-1", Digest("sha512", SEALED + "00" * 16))
    payload, _ = verified_payload(envelope_of(envelope(stolen, "key-1")), IN_TOTO, await certificates(keys))
    assert payload == PAYLOAD


@pytest.mark.parametrize("digest", [Digest("sha256", SEALED[:64]), Digest("sha256", SEALED[32:])])
async def test_what_is_signed_seals_no_envelope(keys: MemoryServiceKeys, digest: Digest) -> None:
    signed = await DigestSigning(keys, ("*",)).sign(CALLER, digest)
    signature = base64.b64decode(signed.properties["img_signature"])
    with pytest.raises(AttestationInvalidError):
        verified_payload(envelope_of(envelope(signature, "key-1")), IN_TOTO, await certificates(keys))


def test_a_key_on_a_short_curve_seals_nothing() -> None:
    """Of a hash it takes the first 256 bits, which a caller may choose."""
    short = ec.generate_private_key(ec.SECP256R1())
    signature = short.sign(bytes.fromhex(SEALED)[:32], ec.ECDSA(Prehashed(hashes.SHA256())))
    pem = service_certificate(short, KEY_ID, NOW)
    trusted = {KEY_ID: x509.load_pem_x509_certificate(pem)}
    with pytest.raises(AttestationInvalidError, match="seals no envelopes"):
        verified_payload(envelope_of(envelope(signature, KEY_ID)), IN_TOTO, trusted)
    with pytest.raises(KeyManagerUnavailableError):
        sealing_key([ServiceKey(KEY_ID, "ECC_SECP256R1", pem, NOW, is_active=True)])
