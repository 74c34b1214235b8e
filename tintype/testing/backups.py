"""Backups of a log, sound ones, for tests to break."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

from tintype.codec import cloudevents
from tintype.codec.log_backup import STREAMS, BackupEncoder, BackupHeader, StoredMessage, StreamPart
from tintype.codec.streams import StreamSettings
from tintype.codec.subjects import CHECKPOINT_STREAM, CHECKPOINT_SUBJECT, STREAM
from tintype.domain.events import Event
from tintype.testing.clock import START
from tintype.testing.events import IMPORT_ROAD, EventBuilder, an_image_id


def stored_events(*images: str, first: int = 1, road: Sequence[Event] = IMPORT_ROAD) -> list[StoredMessage]:
    """The messages of some images' histories, one behind the other, from the sequence ``first`` on."""
    messages: list[StoredMessage] = []
    for name in images:
        for event in EventBuilder(an_image_id(name)).recorded(road):
            encoded = cloudevents.encode(event.event, version=event.version, previous_hash=event.previous_hash)
            sequence = first + len(messages)
            headers = {**encoded.headers, "Nats-Msg-Id": f"{name}-{sequence}"}
            messages.append(
                StoredMessage(STREAM, sequence, 1_000 * sequence, encoded.subject, headers, encoded.payload)
            )
    return messages


def checkpoint_messages(*envelopes: bytes) -> list[StoredMessage]:
    """Checkpoints as their stream has them."""
    return [
        StoredMessage(CHECKPOINT_STREAM, number, number, CHECKPOINT_SUBJECT, {}, envelope)
        for number, envelope in enumerate(envelopes, start=1)
    ]


def header_of(messages: Iterable[StoredMessage], follows: str = "", after: int = 0) -> BackupHeader:
    """A header that tells of these messages, in a log of ``after`` events before them."""
    listed = list(messages)
    parts = []
    for stream in STREAMS:
        count = sum(message.stream == stream for message in listed)
        before = after if stream == STREAM else 0
        parts.append(StreamPart(stream, before + 1, before + count, StreamSettings()))
    return BackupHeader(START, "127.0.0.1:4222", follows, tuple(parts))


def records_of(messages: Iterable[StoredMessage], header: BackupHeader | None = None) -> list[bytes]:
    """The records of a backup of these messages, not compressed."""
    listed = list(messages)
    encoder = BackupEncoder()
    records = [encoder.header(header or header_of(listed)), *(encoder.message(message) for message in listed)]
    return [*records, encoder.trailer()[0]]


def compressed(content: bytes) -> bytes:
    """One gzip member."""
    compressor = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    return compressor.compress(content) + compressor.flush()
