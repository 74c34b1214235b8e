"""The promises of ports/service_keys.py, asked of every key manager."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from tests.contract.key_managers import DirectoryHarness, KeyManagerHarness, MemoryHarness, TokenHarness
from tintype.domain.errors import (
    InvalidDigestError,
    InvalidIdentifierError,
    KeyManagerUnavailableError,
    ServiceKeyNotFoundError,
)
from tintype.domain.values import Digest
from tintype.ports.service_keys import ServiceKey, ServiceKeys
from tintype.trust.signatures import HASH_BY_ALGORITHM

FIRST = "tintype-20261127-00000001"
ALGORITHMS = ("sha224", "sha256", "sha384", "sha512")
HOSTILE_IDS = ("", ".", "..", "../keys/first", "/etc/passwd", "a/b", "a\x00b", "-x", ".hidden", "a" * 129, "ä", "x\n")


@pytest.fixture(params=["memory", "directory", "pkcs11"])
async def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[KeyManagerHarness]:
    """An empty key manager."""
    match request.param:
        case "memory":
            yield MemoryHarness()
        case "directory":
            yield DirectoryHarness(tmp_path)
        case _:
            harness = TokenHarness(tmp_path)
            monkeypatch.setenv("SOFTHSM2_CONF", str(harness.configuration))
            harness.initialize()
            yield harness
            await harness.close()


@pytest.fixture
async def keys(manager: KeyManagerHarness) -> ServiceKeys:
    """A participant of a key manager that has its first key."""
    return await manager.open(FIRST)


def digest_of(data: bytes, algorithm: str = "sha384") -> Digest:
    return Digest(algorithm, hashlib.new(algorithm, data).hexdigest())


def verify(key: ServiceKey, signature: bytes, digest: Digest) -> None:
    public = x509.load_pem_x509_certificate(key.certificate).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    algorithm = HASH_BY_ALGORITHM[digest.algorithm]
    public.verify(signature, bytes.fromhex(digest.hex), ec.ECDSA(Prehashed(algorithm)))


async def active(keys: ServiceKeys) -> ServiceKey:
    (found,) = [key for key in await keys.keys() if key.is_active]
    return found


async def test_there_is_a_key_from_the_beginning(keys: ServiceKeys) -> None:
    (first,) = await keys.keys()
    assert (first.id, first.key_type, first.is_active) == (FIRST, "ECC_SECP384R1", True)


async def test_second_participant_finds_the_key_of_the_first(manager: KeyManagerHarness, keys: ServiceKeys) -> None:
    other = await manager.open("tintype-20261127-00000002")
    assert [key.id for key in await other.keys()] == [FIRST]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_signature_verifies_with_the_keys_certificate(keys: ServiceKeys, algorithm: str) -> None:
    digest = digest_of(b"payload", algorithm)
    key = await active(keys)
    verify(key, await keys.sign(key.id, digest), digest)


async def test_signature_does_not_verify_over_another_digest(keys: ServiceKeys) -> None:
    key = await active(keys)
    signature = await keys.sign(key.id, digest_of(b"payload"))
    with pytest.raises(InvalidSignature):
        verify(key, signature, digest_of(b"another"))


@pytest.mark.parametrize("algorithm", ["md5", "sha1"])
async def test_weak_digest_is_not_signed(keys: ServiceKeys, algorithm: str) -> None:
    with pytest.raises(InvalidDigestError):
        await keys.sign(FIRST, digest_of(b"payload", algorithm))


@pytest.mark.parametrize("key_id", ["nobody", *HOSTILE_IDS])
async def test_unknown_key_does_not_sign(keys: ServiceKeys, key_id: str) -> None:
    with pytest.raises(ServiceKeyNotFoundError):
        await keys.sign(key_id, digest_of(b"payload"))


async def test_rotated_key_is_the_one_that_signs_from_now_on(keys: ServiceKeys) -> None:
    for number in range(3):  # faster than certificates can tell the time
        made = await keys.rotate(f"next-{number}")
        assert made.is_active
        assert (await active(keys)).id == f"next-{number}"
    assert [key.id for key in await keys.keys()] == ["next-2", "next-1", "next-0", FIRST]


async def test_old_key_stays_verifiable_after_rotation(keys: ServiceKeys) -> None:
    digest = digest_of(b"payload")
    signature = await keys.sign(FIRST, digest)
    await keys.rotate("next")
    old = next(key for key in await keys.keys() if key.id == FIRST)
    assert not old.is_active
    verify(old, signature, digest)


async def test_repeated_rotation_is_the_same_key(keys: ServiceKeys) -> None:
    made = await keys.rotate("next")
    assert await keys.rotate("next") == made
    assert len(await keys.keys()) == 2


async def test_two_at_once_make_one_usable_key(manager: KeyManagerHarness, keys: ServiceKeys) -> None:
    other = await manager.open(FIRST)
    made = await asyncio.gather(keys.rotate("next"), other.rotate("next"))
    assert made[0].certificate == made[1].certificate
    digest = digest_of(b"payload")
    for participant in (keys, other):
        verify(await active(participant), await participant.sign("next", digest), digest)


async def test_first_keys_that_are_made_at_once_are_usable(manager: KeyManagerHarness) -> None:
    participants = await asyncio.gather(manager.open("first-a"), manager.open("first-b"))
    digest = digest_of(b"payload")
    signers = {(await active(each)).id for each in participants}
    assert len(signers) == 1
    for each in participants:
        for key in await each.keys():
            verify(key, await each.sign(key.id, digest), digest)


async def test_rotation_by_another_is_seen(manager: KeyManagerHarness, keys: ServiceKeys) -> None:
    other = await manager.open(FIRST)
    assert (await active(other)).id == FIRST
    await keys.rotate("next")
    digest = digest_of(b"payload")
    key = await active(other)
    assert key.id == "next"
    verify(key, await other.sign("next", digest), digest)


@pytest.mark.parametrize("key_id", ["", "a/b", "a\x00b", "x\n"])
async def test_malformed_key_id_makes_no_key(keys: ServiceKeys, key_id: str) -> None:
    with pytest.raises(InvalidIdentifierError):
        await keys.rotate(key_id)
    assert len(await keys.keys()) == 1


async def test_certificate_is_for_signatures_alone(keys: ServiceKeys) -> None:
    certificate = x509.load_pem_x509_certificate((await active(keys)).certificate)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature and not usage.key_cert_sign
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    certificate.verify_directly_issued_by(certificate)


async def test_key_manager_that_is_away_is_unavailable_and_heals_by_itself(
    manager: KeyManagerHarness, keys: ServiceKeys
) -> None:
    digest = digest_of(b"payload")
    await manager.remove()
    for _ in range(2):
        with pytest.raises(KeyManagerUnavailableError):
            await keys.keys()
        with pytest.raises(KeyManagerUnavailableError):
            await keys.sign(FIRST, digest)
        with pytest.raises(KeyManagerUnavailableError):
            await keys.rotate("next")
    await manager.bring_back()
    key = await active(keys)
    assert key.id == FIRST
    verify(key, await keys.sign(FIRST, digest), digest)
