"""A backup of the log as bytes: records behind their lengths, in the order that docs/backup-format.md lays down.

Pure: no file, no compression, no clock. Whoever reads gives the bytes in pieces to a :class:`BackupParser`, which hands
out nothing that is out of order, and believes no number before it has looked at what it counts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.message import DecodeError

from tintype.api.backup.v1 import backup_pb2 as pb
from tintype.codec.streams import NANOSECONDS, StreamSettings
from tintype.codec.subjects import CHECKPOINT_STREAM, CHECKPOINT_SUBJECT, PREFIX, STREAM
from tintype.domain.errors import BackupInvalidError

VERSION = 1

STREAMS = (CHECKPOINT_STREAM, STREAM)
"""What is backed up, in this order: a restore that is interrupted has checkpoints without events, which no signer
signs on, and never events without checkpoints."""

MAX_RECORD_BYTES = 4 * 1024 * 1024
"""An event has less than 1 MiB; nats-server lets an operator allow more for other programs."""

MAX_SEQUENCE = 2**62
_MAX_REPLICAS = 5
_MAX_WINDOW_S = 7 * 86_400.0
_MAX_SOURCE = 1024
_HEX = frozenset("0123456789abcdef")

_TOKEN = r"[^. \t\r\n]+"
_SUBJECTS: Mapping[str, re.Pattern[str]] = {
    CHECKPOINT_STREAM: re.compile(re.escape(CHECKPOINT_SUBJECT)),
    STREAM: re.compile(rf"{re.escape(PREFIX)}\.{_TOKEN}\.image(\.{_TOKEN})+"),
}
"""What each stream takes in. A restore publishes: a backup must not make it publish anywhere else."""

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # a token of RFC 9110


@dataclass(frozen=True, slots=True)
class StreamPart:
    """The messages of a stream from ``first`` to ``last``, none where ``last`` is ``first - 1``."""

    name: str
    first: int
    last: int
    settings: StreamSettings

    @property
    def messages(self) -> int:
        """How many there are."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class BackupHeader:
    """What a backup is: of which log, from when, with which messages; ``follows`` is the digest of the one before."""

    time: datetime
    source: str
    follows: str
    streams: tuple[StreamPart, ...]

    @property
    def messages(self) -> int:
        """How many messages it has."""
        return sum(part.messages for part in self.streams)

    def part(self, name: str) -> StreamPart:
        """What it has of the stream ``name``, which is one of :data:`STREAMS`."""
        return next(part for part in self.streams if part.name == name)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as a stream has it; ``time_ns`` is when the server stored it, since 1970."""

    stream: str
    sequence: int
    time_ns: int
    subject: str
    headers: Mapping[str, str]
    payload: bytes


def facts(subject: str, headers: Mapping[str, str], payload: bytes) -> tuple[str, dict[str, str], bytes]:
    """What of a message is a fact, and stays the same when it is restored.

    Headers of NATS are not: they told the server under which condition to take the message, at that time.
    """
    return subject, own_headers(headers), payload


def own_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """All headers but those of NATS."""
    return {name: value for name, value in headers.items() if not name.lower().startswith("nats-")}


def is_sendable(name: str, value: str) -> bool:
    """Whether a header can stand in a message: a token as its name, and a value that is one line."""
    return _HEADER_NAME.fullmatch(name) is not None and not {"\r", "\n"} & set(value)


class BackupEncoder:
    """The records of one backup as bytes, in the order in which they are asked for."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._messages = 0

    def header(self, header: BackupHeader) -> bytes:
        """The first record."""
        record = pb.Record()
        record.header.version = VERSION
        record.header.time.FromDatetime(header.time.astimezone(UTC))
        record.header.source = header.source[:_MAX_SOURCE]
        record.header.follows = header.follows
        for part in header.streams:
            record.header.streams.add(
                name=part.name,
                first=part.first,
                last=part.last,
                num_replicas=part.settings.replicas,
                duplicate_window_ns=int(part.settings.duplicate_window_s * NANOSECONDS),
            )
        return self._counted(record)

    def message(self, message: StoredMessage) -> bytes:
        """The record of the next message.

        Raises:
            BackupInvalidError: it is too large for a backup.
        """
        record = pb.Record()
        record.message.sequence = message.sequence
        record.message.time_ns = message.time_ns
        record.message.subject = message.subject
        record.message.payload = message.payload
        for name, value in message.headers.items():
            record.message.headers.add(name=name, value=value)
        self._messages += 1
        return self._counted(record)

    def trailer(self) -> tuple[bytes, str]:
        """The last record, and the digest in it, which is the backup's name for the one that continues it."""
        digest = self._digest.hexdigest()
        record = pb.Record()
        record.trailer.messages = self._messages
        record.trailer.sha256 = digest
        return _delimited(record), digest

    def _counted(self, record: pb.Record) -> bytes:
        data = _delimited(record)
        self._digest.update(data)
        return data


def _delimited(record: pb.Record) -> bytes:
    body = record.SerializeToString(deterministic=True)
    if len(body) > MAX_RECORD_BYTES:
        raise BackupInvalidError(f"a message has {len(body)} bytes: a backup takes {MAX_RECORD_BYTES} at most")
    length, left = bytearray(), len(body)
    while left > 0x7F:
        length.append(left & 0x7F | 0x80)
        left >>= 7
    length.append(left)
    return bytes(length) + body


class BackupParser:
    """Reads one backup that comes in pieces.

    ``header`` is known from the first record on, ``digest`` once all is read and was found whole.
    """

    def __init__(self) -> None:
        self.header: BackupHeader | None = None
        self.digest = ""
        self.messages = 0
        self._rest = bytearray()
        self._hash = hashlib.sha256()
        self._expected: Iterator[tuple[str, int]] = iter(())

    def feed(self, piece: bytes) -> Iterator[StoredMessage]:
        """Take the next bytes, and yield the messages that are complete with them; use up what it yields.

        Raises:
            BackupInvalidError: they are not what a backup has at this place.
        """
        self._rest += piece
        start = 0
        while (body := _body_at(self._rest, start)) is not None:
            begin, end = body
            message = self._take(bytes(self._rest[begin:end]), counted=bytes(self._rest[start:end]))
            start = end
            if message is not None:
                yield message
        del self._rest[:start]

    def finish(self) -> BackupHeader:
        """Say that there are no more bytes.

        Raises:
            BackupInvalidError: the backup is not whole.
        """
        if not self.digest or self.header is None:
            raise self._invalid("it is cut off")
        if self._rest:
            raise self._invalid("other bytes follow it")
        return self.header

    def _take(self, body: bytes, *, counted: bytes) -> StoredMessage | None:
        if self.digest:
            raise self._invalid("other bytes follow it")
        try:
            record = pb.Record.FromString(body)
        except DecodeError as exc:
            raise self._invalid("a record cannot be read") from exc
        kind = record.WhichOneof("record")
        if (kind == "header") is not (self.header is None):
            raise self._invalid("it does not begin with a header, or has two")
        if kind == "trailer":
            self._end(record.trailer)
            return None
        self._hash.update(counted)
        if kind == "header":
            self.header = _header(record.header)
            self._expected = ((part.name, each) for part in self.header.streams for each in _sequences(part))
            return None
        if kind != "message":
            raise self._invalid("it has a record of an unknown kind: a newer release wrote it, or it was changed")
        return self._message(record.message)

    def _message(self, message: pb.StoredMessage) -> StoredMessage:
        stream, sequence = next(self._expected, ("", 0))
        if message.sequence != sequence or not stream:
            raise self._invalid(f"message {message.sequence} stands where {stream} {sequence or 'no more'} is due")
        if not _SUBJECTS[stream].fullmatch(message.subject):
            raise self._invalid(f"message {sequence} of {stream} is on a subject that the stream does not take")
        headers = {header.name: header.value for header in message.headers}
        if len(headers) != len(message.headers) or not all(is_sendable(*each) for each in headers.items()):
            raise self._invalid(f"message {sequence} of {stream} has a header twice, or one that cannot be sent")
        self.messages += 1
        return StoredMessage(stream, sequence, message.time_ns, message.subject, headers, message.payload)

    def _end(self, trailer: pb.Trailer) -> None:
        if self.header is None or self.messages != self.header.messages or trailer.messages != self.messages:
            raise self._invalid(f"it ends after {self.messages} messages, and should have more or fewer")
        if trailer.sha256 != self._hash.hexdigest():
            raise self._invalid("its bytes are not those that were written: the digest at its end is another one")
        self.digest = trailer.sha256

    def _invalid(self, message: str) -> BackupInvalidError:
        where = f" after {self.messages} messages" if self.messages else ""
        return BackupInvalidError(f"this is not a whole backup{where}: {message}")


def _body_at(data: bytearray, position: int) -> tuple[int, int] | None:
    """Where the record begins and ends whose length stands at ``position``; ``None`` until all of it is there.

    Raises:
        BackupInvalidError: it is empty or too long: so much is not waited for.
    """
    length = shift = 0
    while position < len(data):
        byte = data[position]
        position += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 28:
            raise BackupInvalidError("this is no backup of a log: the length of a record cannot be read")
    else:
        return None
    if not 0 < length <= MAX_RECORD_BYTES:
        raise BackupInvalidError(f"this is no backup of a log: a record says that it has {length} bytes")
    return (position, position + length) if position + length <= len(data) else None


def _sequences(part: StreamPart) -> Iterator[int]:
    return iter(range(part.first, part.last + 1))


def _header(header: pb.Header) -> BackupHeader:
    if header.version != VERSION:
        raise BackupInvalidError(f"the backup is of version {header.version}, and this release reads {VERSION}")
    if tuple(part.name for part in header.streams) != STREAMS or len(header.source) > _MAX_SOURCE:
        raise BackupInvalidError("the backup does not say that it has the streams of a log")
    if header.follows and (len(header.follows) != 64 or not _HEX.issuperset(header.follows)):
        raise BackupInvalidError("the backup names no digest of the one that it follows")
    try:
        time = header.time.ToDatetime(UTC)
    except ValueError as exc:
        raise BackupInvalidError("the backup says no time") from exc
    return BackupHeader(time, header.source, header.follows, tuple(_part(part, header) for part in header.streams))


def _part(part: pb.StreamPart, header: pb.Header) -> StreamPart:
    window_s = part.duplicate_window_ns / NANOSECONDS
    in_bounds = 1 <= part.first <= part.last + 1 <= MAX_SEQUENCE
    if not in_bounds or not 1 <= part.num_replicas <= _MAX_REPLICAS or not 0 < window_s <= _MAX_WINDOW_S:
        raise BackupInvalidError(f"what the backup says of stream {part.name} cannot be")
    if not header.follows and part.first != 1:
        raise BackupInvalidError(f"the backup follows no other one, and begins at message {part.first} of {part.name}")
    return StreamPart(part.name, part.first, part.last, StreamSettings(part.num_replicas, window_s))
