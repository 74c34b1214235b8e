"""Signed checkpoints of the log: what the whole log was, up to a position, and who says so. Pure: no I/O, no clock.

A checkpoint is a JSON object in a DSSE envelope (docs/log-integrity.md). Each names the digest of the one before it, so
that none can be left out or exchanged. Nothing here returns a bool: what does not hold raises.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from securesystemslib.dsse import Envelope

from tintype.domain.errors import (
    AttestationInvalidError,
    CheckpointInvalidError,
    CheckpointMismatchError,
    RefusedContentError,
    ServiceKeyUnknownError,
)
from tintype.trust.dsse import envelope_of, verified_payload
from tintype.trust.heads import LogState
from tintype.trust.strict_json import Fields, JsonRefusal, parsed

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
    envelope: Envelope

    def verify(self, certificates: Mapping[str, x509.Certificate]) -> None:
        """Check the signature with the certificate of the service's key that signed: key id → certificate.

        Raises:
            ServiceKeyUnknownError: the key is not among them.
            CheckpointInvalidError: the signature is not the key's.
        """
        where = f"the checkpoint of position {self.checkpoint.state.position}"
        try:
            verified_payload(self.envelope, CHECKPOINT, certificates)
        except ServiceKeyUnknownError as exc:
            raise ServiceKeyUnknownError(f"{where}: {exc.message}") from exc
        except RefusedContentError as exc:
            raise CheckpointInvalidError(f"{where}: {exc.message}") from exc


def opened(envelope: bytes) -> SealedCheckpoint:
    """The checkpoint in an envelope, whose signature is still to be verified.

    Raises:
        CheckpointInvalidError: it is none, or of a version that is not known here.
    """
    if len(envelope) > MAX_ENVELOPE_BYTES:
        raise CheckpointInvalidError(f"a checkpoint has at most {MAX_ENVELOPE_BYTES} bytes")
    try:
        found = envelope_of(envelope)
    except AttestationInvalidError as exc:
        raise CheckpointInvalidError(exc.message) from exc
    if found.payload_type != CHECKPOINT:
        raise CheckpointInvalidError(f"the envelope is not around a checkpoint: its payload is not {CHECKPOINT}")
    if len(found.signatures) != 1:
        raise CheckpointInvalidError("a checkpoint has one signature")
    (key_id,) = found.signatures
    return SealedCheckpoint(_decoded(found.payload), found.payload, key_id, found)


def certificates_of(keys: Iterable[tuple[str, bytes]]) -> dict[str, x509.Certificate]:
    """The certificates (PEM) of the service's keys, by key id.

    Raises:
        CheckpointInvalidError: one of them is none.
    """
    try:
        return {key_id: x509.load_pem_x509_certificate(pem) for key_id, pem in keys}
    except (ValueError, TypeError, x509.InvalidVersion) as exc:
        raise CheckpointInvalidError("the certificate of a service's key cannot be read") from exc


def digest_of(payload: bytes) -> str:
    """What the next checkpoint names this one by."""
    return f"sha256:{hashlib.sha256(payload).hexdigest()}"


def _decoded(payload: bytes) -> Checkpoint:
    try:
        found = parsed(payload, MAX_ENVELOPE_BYTES)
        if found.integer("version") != _VERSION:
            raise CheckpointInvalidError("the checkpoint is of a version that is not known here")
        position, events, images = (_count(found, name) for name in ("position", "events", "images"))
        root, previous, text = found.text("root"), found.text("previous"), found.text("time")
    except JsonRefusal as exc:
        raise CheckpointInvalidError(f"the checkpoint cannot be read: {exc}") from exc
    try:
        time = datetime.fromisoformat(text)
    except ValueError as exc:
        raise CheckpointInvalidError("the checkpoint's time is none") from exc
    if time.tzinfo is None:
        raise CheckpointInvalidError("the checkpoint's time has no time zone")
    if previous:
        _sha256(previous)
    return Checkpoint(LogState(position, events, images, _sha256(root)), time, previous)


def _count(found: Fields, name: str) -> int:
    value = found.integer(name)
    if not 0 <= value <= _MAX_COUNT:
        raise CheckpointInvalidError(f"the checkpoint's {name} is no number of that kind")
    return value


def _sha256(value: str) -> str:
    algorithm, _, digits = value.partition(":")
    if algorithm != "sha256" or len(digits) != 64 or not _HEX_DIGITS.issuperset(digits):
        raise CheckpointInvalidError("the checkpoint has a digest that is no sha256:HEX")
    return digits
