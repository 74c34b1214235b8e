"""Signed checkpoints of the log: what the whole log was, up to a position, and who says so. Pure: no I/O, no clock.

A checkpoint is a JSON object in a DSSE envelope (docs/log-integrity.md). Each names the digest of the one before it, so
that none can be left out or exchanged. Nothing here returns a bool: what does not hold raises.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tintype.domain.errors import (
    CheckpointInvalidError,
    CheckpointMismatchError,
    ServiceKeyUnknownError,
)
from tintype.trust.heads import LogState

CHECKPOINT = "application/vnd.tintype.checkpoint+json"
"""The payload type of the envelope."""

MAX_ENVELOPE_BYTES = 64 * 1024
_VERSION = 1
_MAX_COUNT = 2**63 - 1
_HEX_DIGITS = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log was at ``time``; ``previous`` is the digest of the checkpoint before it, empty for the first."""

    state: LogState
    time: datetime
    previous: str = ""

    def encoded(self) -> bytes:
        """The statement that is signed: JSON in one line, its keys in order."""
        return json.dumps(
            {
                "version": _VERSION,
                "position": self.state.position,
                "events": self.state.events,
                "images": self.state.images,
                "root": f"sha256:{self.state.root}",
                "time": self.time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
                "previous": self.previous,
            },
            sort_keys=True,
            separators=(",", ":"),
        ).encode()

    def require(self, found: LogState) -> None:
        """Check that a log that was read up to this checkpoint's position is what it was.

        Raises:
            CheckpointMismatchError: it is not; the message says what differs, and at which position.
        """
        told = self.state
        if found == told:
            return
        if (found.events, found.images) != (told.events, told.images):
            what = (
                f"it has {found.events} events of {found.images} images there, "
                f"and had {told.events} events of {told.images} images"
            )
        elif found.position != told.position:
            what = f"the event at that position is gone: the last one before it is at {found.position}"
        else:
            what = "it has as many events of as many images there, and some of them are others"
        raise CheckpointMismatchError(f"the log is not what it was up to position {told.position}: {what}")

    def require_successor(self, payload: bytes, after: Checkpoint) -> None:
        """Check that ``after`` is the checkpoint right behind this one, whose statement is ``payload``.

        Raises:
            CheckpointInvalidError: one in between is missing, or it is of an earlier position.
        """
        if after.previous != digest_of(payload):
            raise CheckpointInvalidError(
                f"the checkpoint of position {after.state.position} does not follow the one of position "
                f"{self.state.position}: one in between is missing, or one of them was exchanged"
            )
        if after.state.position <= self.state.position or after.state.events <= self.state.events:
            raise CheckpointInvalidError(
                f"the checkpoint of position {after.state.position} follows the one of position {self.state.position}"
            )


@dataclass(frozen=True, slots=True)
class SealedCheckpoint:
    """A checkpoint out of its envelope, not verified: ``payload`` is the statement, ``key_id`` says who signed it."""

    checkpoint: Checkpoint
    payload: bytes
    key_id: str
    signature: bytes

    def verify(self, certificates: Mapping[str, bytes]) -> None:
        """Check the signature with the certificate (PEM) of the service's key that signed: key id → certificate.

        Raises:
            ServiceKeyUnknownError: the key is not among them.
            CheckpointInvalidError: the signature is not the key's.
        """
        from cryptography import x509
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

        pem = certificates.get(self.key_id)
        if pem is None:
            raise ServiceKeyUnknownError(
                f"the checkpoint of position {self.checkpoint.state.position} is signed with a key that is not trusted "
                f"as a service's: {self.key_id[:80]!r}"
            )
        signed = pre_authentication_encoding(CHECKPOINT, self.payload)
        algorithm = hashes.SHA384()
        try:
            key = x509.load_pem_x509_certificate(pem).public_key()
            if isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(self.signature, signed, ec.ECDSA(algorithm))
            elif isinstance(key, rsa.RSAPublicKey):
                key.verify(self.signature, signed, padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO), algorithm)
            else:
                raise CheckpointInvalidError(f"service key {self.key_id!r} is of no known kind")
        except (InvalidSignature, UnsupportedAlgorithm, ValueError) as exc:
            raise CheckpointInvalidError(
                f"the signature of the checkpoint of position {self.checkpoint.state.position} is not that of service "
                f"key {self.key_id!r}"
            ) from exc


def opened(envelope: bytes) -> SealedCheckpoint:
    """The checkpoint in an envelope, whose signature is still to be verified.

    Raises:
        CheckpointInvalidError: it is none, or of a version that is not known here.
    """
    import base64

    if len(envelope) > MAX_ENVELOPE_BYTES:
        raise CheckpointInvalidError(f"a checkpoint has at most {MAX_ENVELOPE_BYTES} bytes")
    outer = _object(envelope, "the envelope")
    if outer.get("payloadType") != CHECKPOINT:
        raise CheckpointInvalidError(f"the envelope is not around a checkpoint: its payload is not {CHECKPOINT}")
    try:
        ((key_id, signature),) = [(each["keyid"], each["sig"]) for each in outer["signatures"]]
        payload = base64.b64decode(outer["payload"], validate=True)
        raw_signature = base64.b64decode(signature, validate=True)
    except (KeyError, TypeError, ValueError) as exc:
        raise CheckpointInvalidError("the envelope is not a DSSE envelope with one signature") from exc
    if not isinstance(key_id, str):
        raise CheckpointInvalidError("the envelope does not name the key that signed")
    return SealedCheckpoint(_decoded(payload), payload, key_id, raw_signature)


def digest_of(payload: bytes) -> str:
    """What the next checkpoint names this one by."""
    return f"sha256:{hashlib.sha256(payload).hexdigest()}"


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """What a DSSE signature covers: the type and the payload, each behind its length."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _decoded(payload: bytes) -> Checkpoint:
    found = _object(payload, "the checkpoint")
    if found.get("version") != _VERSION:
        raise CheckpointInvalidError("the checkpoint is of a version that is not known here")
    position, events, images = (_count(found, name) for name in ("position", "events", "images"))
    previous = found.get("previous")
    if previous != "":
        _sha256(previous)
    try:
        time = datetime.fromisoformat(str(found.get("time")))
    except ValueError as exc:
        raise CheckpointInvalidError("the checkpoint's time is none") from exc
    if time.tzinfo is None:
        raise CheckpointInvalidError("the checkpoint's time has no time zone")
    return Checkpoint(LogState(position, events, images, _sha256(found.get("root"))), time, str(previous))


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise CheckpointInvalidError(f"{what} is no JSON") from exc
    if not isinstance(found, dict):
        raise CheckpointInvalidError(f"{what} is no JSON object")
    return found


def _count(found: Mapping[str, Any], name: str) -> int:
    value = found.get(name)
    if type(value) is not int or not 0 <= value <= _MAX_COUNT:
        raise CheckpointInvalidError(f"the checkpoint's {name} is no number of that kind")
    return value


def _sha256(value: object) -> str:
    algorithm, _, digits = value.partition(":") if isinstance(value, str) else ("", "", "")
    if algorithm != "sha256" or len(digits) != 64 or not _HEX_DIGITS.issuperset(digits):
        raise CheckpointInvalidError("the checkpoint has a digest that is no sha256:HEX")
    return digits
