"""Checkpoints: what is signed, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from securesystemslib.dsse import Envelope
from securesystemslib.signer._key import SSlibKey

from tintype.domain.errors import CheckpointInvalidError, CheckpointMismatchError, ServiceKeyUnknownError
from tintype.domain.values import Digest
from tintype.trust.certificates import service_certificate
from tintype.trust.checkpoints import (
    CHECKPOINT,
    MAX_ENVELOPE_BYTES,
    Checkpoint,
    digest_of,
    key_certificates,
    opened,
)
from tintype.trust.dsse import sealed
from tintype.trust.heads import LogState
from tools.generate_docs import DOCS

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STATE = LogState(17, 12, 3, "ab" * 32)
FIRST = Checkpoint(STATE, NOW)

KEY = ec.generate_private_key(ec.SECP384R1())
OTHER_KEY = ec.generate_private_key(ec.SECP384R1())
PEM = {"key-1": service_certificate(KEY, "key-1", NOW), "key-0": service_certificate(OTHER_KEY, "key-0", NOW)}
CERTIFICATES = key_certificates(PEM.items())


async def sign(key_id: str, digest: Digest) -> bytes:
    key = {"key-1": KEY, "key-0": OTHER_KEY}[key_id]
    return key.sign(bytes.fromhex(digest.hex), ec.ECDSA(Prehashed(hashes.SHA384())))


async def envelope_of(checkpoint: Checkpoint = FIRST, key_id: str = "key-1") -> bytes:
    return await sealed(checkpoint.encoded(), CHECKPOINT, key_id, sign)


async def test_a_checkpoint_is_read_as_it_was_signed() -> None:
    found = opened(await envelope_of())

    found.verify(CERTIFICATES)
    assert (found.checkpoint, found.key_id, found.payload) == (FIRST, "key-1", FIRST.encoded())


async def test_securesystemslib_verifies_a_checkpoint() -> None:
    key = CERTIFICATES["key-1"].public_key()
    theirs = SSlibKey.from_crypto(key, keyid="key-1", scheme="ecdsa-sha2-nistp384")

    Envelope.from_dict(json.loads(await envelope_of())).verify([theirs], 1)


async def test_an_old_key_verifies_what_it_signed() -> None:
    opened(await envelope_of(key_id="key-0")).verify(CERTIFICATES)


async def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ServiceKeyUnknownError, match="key-1"):
        opened(await envelope_of()).verify({"key-0": CERTIFICATES["key-0"]})


def changed(envelope: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    outer = json.loads(envelope)
    change(outer)
    return json.dumps(outer).encode()


def exchange_payload(outer: dict[str, Any]) -> None:
    forged = replace(FIRST, state=replace(STATE, events=11))
    outer["payload"] = base64.b64encode(forged.encoded()).decode()


def exchange_signer(outer: dict[str, Any]) -> None:
    outer["signatures"][0]["keyid"] = "key-0"


def flip_signature(outer: dict[str, Any]) -> None:
    signature = bytearray(base64.b64decode(outer["signatures"][0]["sig"]))
    signature[-1] ^= 1
    outer["signatures"][0]["sig"] = base64.b64encode(signature).decode()


def empty_signature(outer: dict[str, Any]) -> None:
    outer["signatures"][0]["sig"] = ""


@pytest.mark.parametrize("change", [exchange_payload, exchange_signer, flip_signature, empty_signature])
async def test_a_signature_that_is_not_the_keys_is_refused(change: Callable[[dict[str, Any]], None]) -> None:
    found = opened(changed(await envelope_of(), change))

    with pytest.raises(CheckpointInvalidError, match="signature"):
        found.verify(CERTIFICATES)


async def test_a_statement_of_another_kind_is_no_checkpoint() -> None:
    """An attestation is signed with the same key; its type is under the signature."""
    other = await sealed(FIRST.encoded(), "application/vnd.in-toto+json", "key-1", sign)
    with pytest.raises(CheckpointInvalidError, match="not around a checkpoint"):
        opened(other)

    retyped = changed(other, lambda outer: outer.update(payloadType=CHECKPOINT))
    with pytest.raises(CheckpointInvalidError, match="signature"):
        opened(retyped).verify(CERTIFICATES)


@pytest.mark.parametrize(
    "envelope",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b" " * (MAX_ENVELOPE_BYTES + 1),
        json.dumps({"payloadType": CHECKPOINT}).encode(),
        json.dumps({"payloadType": CHECKPOINT, "payload": "e30=", "signatures": []}).encode(),
        json.dumps({"payloadType": CHECKPOINT, "payload": "e30=", "signatures": "x"}).encode(),
        json.dumps({"payloadType": CHECKPOINT, "payload": 7, "signatures": [{"keyid": "k", "sig": ""}]}).encode(),
        json.dumps({"payloadType": CHECKPOINT, "payload": "!", "signatures": [{"keyid": "k", "sig": ""}]}).encode(),
        json.dumps({"payloadType": CHECKPOINT, "payload": "e30=", "signatures": [{"keyid": 7, "sig": ""}]}).encode(),
        json.dumps(
            {"payloadType": CHECKPOINT, "payload": "e30=", "signatures": [{"keyid": "k", "sig": ""}] * 2}
        ).encode(),
    ],
)
def test_what_is_no_envelope_is_refused(envelope: bytes) -> None:
    with pytest.raises(CheckpointInvalidError):
        opened(envelope)


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 2},
        {"version": None},
        {"position": -1},
        {"position": 2**63},
        {"position": "17"},
        {"events": True},
        {"images": 1.5},
        {"root": "ab" * 32},
        {"root": "sha256:" + "AB" * 32},
        {"root": "sha512:" + "ab" * 32},
        {"root": None},
        {"previous": "sha256:"},
        {"previous": None},
        {"time": "yesterday"},
        {"time": "2026-01-02T03:04:05"},
        {"time": 7},
    ],
)
async def test_a_malformed_statement_is_refused_though_it_is_signed(fields: dict[str, object]) -> None:
    payload = json.dumps(json.loads(FIRST.encoded()) | fields).encode()

    with pytest.raises(CheckpointInvalidError):
        opened(await sealed(payload, CHECKPOINT, "key-1", sign))


def test_a_log_that_is_the_same_is_no_mismatch() -> None:
    FIRST.require(STATE)


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        (LogState(17, 11, 3, "ab" * 32), "11 events of 3 images"),
        (LogState(17, 12, 2, "ab" * 32), "12 events of 2 images"),
        (LogState(17, 12, 3, "cd" * 32), "some of them are others"),
        (LogState(16, 12, 3, "ab" * 32), "that position is gone"),
    ],
)
def test_a_log_that_is_another_is_refused_with_the_position(found: LogState, complaint: str) -> None:
    with pytest.raises(CheckpointMismatchError, match=f"up to position 17: .*{complaint}"):
        FIRST.require(found)


def second(**changes: Any) -> Checkpoint:
    state = LogState(20, 15, 3, "cd" * 32)
    return replace(Checkpoint(state, NOW + timedelta(minutes=5), digest_of(FIRST.encoded())), **changes)


def test_a_checkpoint_follows_the_one_that_it_names() -> None:
    FIRST.require_successor(FIRST.encoded(), second())


@pytest.mark.parametrize(
    "after",
    [
        second(previous=""),
        second(previous="sha256:" + "00" * 32),
        second(state=LogState(17, 15, 3, "cd" * 32)),
        second(state=LogState(20, 12, 3, "cd" * 32)),
    ],
)
def test_a_checkpoint_that_does_not_follow_is_refused(after: Checkpoint) -> None:
    with pytest.raises(CheckpointInvalidError):
        FIRST.require_successor(FIRST.encoded(), after)


def test_the_vectors_hold() -> None:
    vectors = json.loads((DOCS / "log-integrity-vectors.json").read_text())
    first, second = vectors["checkpoints"]
    for vector in (first, second):
        payload = vector["payload"].encode()
        assert hashlib.sha256(payload).hexdigest() == vector["digest"].removeprefix("sha256:")
        assert json.dumps(json.loads(payload), sort_keys=True, separators=(",", ":")).encode() == payload
        kind = CHECKPOINT.encode()
        signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
        assert hashlib.sha384(signed).hexdigest() == vector["signed_sha384"]
        found = opened(vector["envelope"].encode())
        found.verify(key_certificates([("key-1", vectors["certificate"].encode())]))
        assert found.payload == payload
    assert json.loads(second["payload"])["previous"] == first["digest"]
