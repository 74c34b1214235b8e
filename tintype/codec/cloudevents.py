"""An event as one message: CloudEvents 1.0 in the binary mode of its NATS binding, with its hash.

The attributes are ``ce-*`` headers, the payload is the event's protobuf message. Header values are percent-encoded as
the CloudEvents HTTP binding says (section 3.1.3.2), and the NATS binding after it, so that no value can add a header.

Owns the form of messages that are kept for ever: what is written once must be read for ever (``tests/golden/events``).
Does not own the payloads (:mod:`tintype.codec.events`) nor the subjects (:mod:`tintype.codec.subjects`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.message import DecodeError, EncodeError

from tintype.codec.events import MESSAGES, decode_payload, encode_payload
from tintype.codec.subjects import event_subject
from tintype.domain.errors import (
    EventTooLargeError,
    EventTypeUnknownError,
    InvalidArgumentError,
    LogCorruptError,
)
from tintype.domain.events import EVENT_TOKENS, Event, EventContext, NewEvent, RecordedEvent
from tintype.domain.values import CommandId, image_id, project_id

MAX_EVENT_BYTES = 1024 * 1024 - 16 * 1024
"""Headers and payload of one event; below the 1 MiB that NATS allows by default, with room for its own headers."""

MAX_HEADER_LENGTH = 4096
"""Characters of one encoded header value."""

SOURCE = "/tintype"
CONTENT_TYPE = "application/protobuf"
EVENT_VERSION = 1
"""The version of every type that is written now."""

Upcaster = Callable[[bytes], Event]

UPCASTERS: Mapping[tuple[str, int], Upcaster] = {}
"""Reads the payload of a retired version, by token and version, as the event of today. No version is retired yet."""

_HASH_DOMAIN = b"tintype.event.v1\n"
_TYPE = re.compile(r"io\.tintype\.image\.([a-z_]{1,64})\.v([1-9][0-9]{0,3})")
_HASH = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_MUST_ENCODE = re.compile(r"[^!#$&-~]")  # all but U+0021–U+007E, and of these the quotation mark and the percent sign
_ENCODED = re.compile(rb"%([0-9A-Fa-f]{2})?")


@dataclass(frozen=True, slots=True)
class EventMessage:
    """An event as it goes over the wire, and the hash that its successor will name."""

    subject: str
    headers: Mapping[str, str]
    payload: bytes
    hash: str


def encode(event: NewEvent, *, version: int, previous_hash: str) -> EventMessage:
    """The message of an event that will be its image's ``version``-th, behind the one with ``previous_hash``.

    Raises:
        InvalidArgumentError: a value cannot be written, or an id is malformed.
        EventTooLargeError: it does not fit into one message.
    """
    subject = event_subject(event)
    headers = _encode_headers(event, version, previous_hash)
    payload = _encode_payload(event.payload)
    size = len(payload) + sum(len(name) + len(value) + 4 for name, value in headers.items())
    if size > MAX_EVENT_BYTES:
        raise EventTooLargeError(f"the event has {size} bytes, and at most {MAX_EVENT_BYTES} fit into one message")
    return EventMessage(subject, headers, payload, event_hash(headers, payload))


def decode(subject: str, headers: Mapping[str, str] | None, payload: bytes, *, position: int) -> RecordedEvent:
    """The event that the log holds at ``position``.

    Raises:
        LogCorruptError: the message is not an event as :func:`encode` writes it.
        EventTypeUnknownError: it is an event of a type or version that this release does not know.
    """
    attributes = _attributes(headers or {})
    try:
        event, version, previous_hash = _decode_headers(attributes, payload)
    except (InvalidArgumentError, ValueError, DecodeError) as exc:
        raise LogCorruptError(f"the event at position {position} cannot be decoded: {exc}") from exc
    if subject != event_subject(event):
        raise LogCorruptError(f"the event at position {position} does not belong on its subject")
    return RecordedEvent(event, version, position, previous_hash, event_hash(attributes, payload))


def event_hash(headers: Mapping[str, str], payload: bytes) -> str:
    """SHA-256, in lower-case hex, over every ``ce-*`` header and the payload, in this form:

    1. the bytes ``tintype.event.v1`` and a line feed;
    2. the number of ``ce-*`` headers;
    3. for each, in the order of their lower-case names: the name in lower case, then the value as it stands in the
       message (percent-encoded, so ASCII);
    4. the payload.

    Names, values and the payload each follow their length in bytes. Lengths and the number are 8 bytes, big-endian. So
    no two different messages have the same form. Subject, position and the headers of NATS are not covered: project,
    image and type stand in headers that are.
    """
    named = sorted((name.lower(), value) for name, value in headers.items() if name.lower().startswith("ce-"))
    parts = [_HASH_DOMAIN, len(named).to_bytes(8, "big")]
    for name, value in named:
        for text in (name.encode("ascii"), value.encode("ascii")):
            parts += (len(text).to_bytes(8, "big"), text)
    parts += (len(payload).to_bytes(8, "big"), payload)
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _encode_headers(event: NewEvent, version: int, previous_hash: str) -> dict[str, str]:
    required = {
        "ce-specversion": "1.0",
        "ce-id": event.event_id,
        "ce-source": SOURCE,
        "ce-type": f"io.tintype.image.{EVENT_TOKENS[type(event.payload)]}.v{EVENT_VERSION}",
        "ce-subject": event.image_id,
        "ce-time": _encode_time(event.time),
        "ce-datacontenttype": CONTENT_TYPE,
        "ce-project": event.project,
        "ce-actor": event.context.actor,
        "ce-commandid": event.command_id,
        "ce-imageversion": str(version),
    }
    if missing := [name for name, value in required.items() if not value]:
        raise InvalidArgumentError(f"an event needs {', '.join(missing)}")
    # An attribute of CloudEvents is absent rather than empty.
    optional = {
        "ce-correlationid": event.context.correlation_id,
        "ce-causationid": event.context.causation_id,
        "ce-traceparent": event.context.traceparent,
        "ce-actoradmin": "true" if event.context.is_admin else "",
        "ce-prevhash": previous_hash,
    }
    return {name: percent_encode(name, value) for name, value in (required | optional).items() if value}


def percent_encode(name: str, value: str) -> str:
    """Write a value so that it is one line of printable ASCII without spaces.

    Raises:
        InvalidArgumentError: it is too long, or no Unicode text (a lone surrogate).
    """
    try:
        encoded = _MUST_ENCODE.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), value)
    except UnicodeEncodeError:
        raise InvalidArgumentError(f"{name} is not Unicode text") from None
    if len(encoded) > MAX_HEADER_LENGTH:
        raise InvalidArgumentError(f"{name} is too long: at most {MAX_HEADER_LENGTH} characters when encoded")
    return encoded


def percent_decode(value: str) -> str:
    """Read what :func:`percent_encode` wrote.

    Raises:
        ValueError: a percent sign without two hexadecimal digits, or no UTF-8.
    """
    if "%" not in value:
        return value
    return _ENCODED.sub(_decode_byte, value.encode("ascii")).decode()


def _decode_byte(match: re.Match[bytes]) -> bytes:
    if match[1] is None:
        raise ValueError("a percent sign must be followed by two hexadecimal digits")
    return bytes([int(match[1], 16)])


def _attributes(headers: Mapping[str, str]) -> dict[str, str]:
    named = [(name.lower(), value) for name, value in headers.items() if name.lower().startswith("ce-")]
    attributes = dict(named)
    if len(attributes) != len(named) or not all(f"{name}{value}".isascii() for name, value in named):
        raise LogCorruptError("an attribute stands twice, or is not ASCII")
    return attributes


def _decode_headers(attributes: Mapping[str, str], payload: bytes) -> tuple[NewEvent, int, str]:
    fields = {name.removeprefix("ce-"): percent_decode(value) for name, value in attributes.items()}
    required = {"id", "actor", "commandid"}
    if not required <= fields.keys() or (fields.get("specversion"), fields.get("source")) != ("1.0", SOURCE):
        raise ValueError("it is not an event of Tintype in CloudEvents 1.0")
    event = NewEvent(
        image_id=image_id(fields.get("subject", "")),
        project=project_id(fields.get("project", "")),
        command_id=CommandId(fields["commandid"]),
        event_id=fields["id"],
        time=_decode_time(fields.get("time", "")),
        payload=_decode_payload(fields.get("type", ""), fields.get("datacontenttype", ""), payload),
        context=EventContext(
            actor=fields["actor"],
            correlation_id=fields.get("correlationid", ""),
            causation_id=fields.get("causationid", ""),
            traceparent=fields.get("traceparent", ""),
            is_admin=fields.get("actoradmin") == "true",
        ),
    )
    version, previous_hash = fields.get("imageversion", ""), fields.get("prevhash", "")
    if not _VERSION.fullmatch(version) or (previous_hash and not _HASH.fullmatch(previous_hash)):
        raise ValueError("its version or the hash of its predecessor is malformed")
    return event, int(version), previous_hash


def _encode_payload(event: Event) -> bytes:
    try:
        return encode_payload(event).SerializeToString(deterministic=True)
    except (ValueError, TypeError, EncodeError) as exc:
        raise InvalidArgumentError(f"the event cannot be written: {exc}") from exc


def _decode_payload(type_name: str, content_type: str, payload: bytes) -> Event:
    match = _TYPE.fullmatch(type_name)
    if match is None or content_type != CONTENT_TYPE:
        raise ValueError(f"{type_name[:80]!r} as {content_type[:80]!r} is not a type of event")
    token, version = match[1], int(match[2])
    if upcast := UPCASTERS.get((token, version)):
        return upcast(payload)
    if token not in MESSAGES or version != EVENT_VERSION:
        raise EventTypeUnknownError(f"{type_name} was written by a newer release")
    return decode_payload(MESSAGES[token].FromString(payload))


def _encode_time(time: datetime) -> str:
    if time.tzinfo is None:
        raise InvalidArgumentError("an event's time needs a time zone")
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _decode_time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("its time has no time zone")
    return time.astimezone(UTC)
