"""Backups as bytes: what was written is read, and whatever is not that is refused before anything is done with it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tintype.api.backup.v1 import backup_pb2 as pb
from tintype.client import backup_file
from tintype.client.backup_file import BackupReader, GzipPieces
from tintype.codec.log_backup import (
    MAX_RECORD_BYTES,
    BackupEncoder,
    BackupHeader,
    BackupParser,
    StoredMessage,
    StreamPart,
)
from tintype.codec.streams import StreamSettings
from tintype.codec.subjects import CHECKPOINT_STREAM, STREAM
from tintype.domain.errors import BackupInvalidError, DecompressionBombError
from tintype.testing.backups import checkpoint_messages, compressed, header_of, records_of, stored_events
from tintype.testing.clock import START

MESSAGES = [*checkpoint_messages(b"{}", b"[]"), *stored_events("one", "two")]
RECORDS = records_of(MESSAGES)


def parsed(content: bytes, piece: int = 64 * 1024) -> tuple[BackupHeader, list[StoredMessage]]:
    parser = BackupParser()
    found: list[StoredMessage] = []
    for start in range(0, len(content), piece):
        found += parser.feed(content[start : start + piece])
    return parser.finish(), found


@pytest.mark.parametrize("piece", [1, 7, 1000, 10**6])
def test_what_was_written_is_read_however_it_is_cut(piece: int) -> None:
    assert parsed(b"".join(RECORDS), piece) == (header_of(MESSAGES), MESSAGES)


def test_a_backup_without_a_message_is_a_backup() -> None:
    header = header_of([], follows="ab" * 32, after=70)
    assert parsed(b"".join(records_of([], header))) == (header, [])


def test_the_digest_is_over_everything_before_the_trailer() -> None:
    parser = BackupParser()
    list(parser.feed(b"".join(RECORDS)))
    assert parser.digest == hashlib.sha256(b"".join(RECORDS[:-1])).hexdigest()


Change = Callable[[list[bytes]], list[bytes]]
WRONG: dict[str, Change] = {
    "nothing at all": lambda records: [],
    "no header": lambda records: records[1:],
    "two headers": lambda records: [records[0], *records],
    "no trailer": lambda records: records[:-1],
    "two trailers": lambda records: [*records, records[-1]],
    "the last message is missing": lambda records: [*records[:-2], records[-1]],
    "a message is missing": lambda records: [*records[:4], *records[5:]],
    "a message stands twice": lambda records: [*records[:4], records[3], *records[4:]],
    "two messages are exchanged": lambda records: [*records[:3], records[4], records[3], *records[5:]],
    "the streams are exchanged": lambda records: [records[0], *records[3:-1], *records[1:3], records[-1]],
    "cut off in a record": lambda records: [*records[:-2], records[-2][:-9]],
    "bytes behind the end": lambda records: [*records, b"\x00"],
    "half a record behind the end": lambda records: [*records, b"\x05\x01"],
    "an empty record": lambda records: [*records[:2], b"\x00", *records[2:]],
    "a record of a newer release": lambda records: [*records[:2], b"\x02\x22\x00", *records[2:]],
    "a record that is no protobuf": lambda records: [*records[:2], b"\x02\xff\xff", *records[2:]],
    "a length without an end": lambda records: [records[0], b"\xff" * 12],
    "a record that says it is huge": lambda records: [records[0], b"\xff\xff\xff\x7f"],
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_what_is_not_whole_or_not_in_order_is_refused(change: Change) -> None:
    with pytest.raises(BackupInvalidError):
        parsed(b"".join(change(RECORDS)))


@given(st.integers(0, len(b"".join(RECORDS)) * 8 - 1))
def test_a_flipped_bit_is_refused(bit: int) -> None:
    content = bytearray(b"".join(RECORDS))
    content[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BackupInvalidError):
        parsed(bytes(content))


@given(st.integers(0, len(b"".join(RECORDS)) - 1))
def test_a_backup_that_is_cut_off_anywhere_is_refused(length: int) -> None:
    with pytest.raises(BackupInvalidError):
        parsed(b"".join(RECORDS)[:length])


def part(name: str, first: int = 1, last: int = 0, *, replicas: int = 1, window_s: float = 120) -> StreamPart:
    return StreamPart(name, first, last, StreamSettings(replicas, window_s))


@pytest.mark.parametrize(
    "streams",
    [
        (),
        (part(STREAM), part(CHECKPOINT_STREAM)),
        (part(CHECKPOINT_STREAM), part(STREAM), part("OTHER")),
        (part(CHECKPOINT_STREAM), part("OTHER")),
        (part(CHECKPOINT_STREAM), part(STREAM, first=2, last=1)),
        (part(CHECKPOINT_STREAM), part(STREAM, first=5, last=2)),
        (part(CHECKPOINT_STREAM), part(STREAM, last=2**63)),
        (part(CHECKPOINT_STREAM), part(STREAM, replicas=0)),
        (part(CHECKPOINT_STREAM), part(STREAM, replicas=99)),
        (part(CHECKPOINT_STREAM), part(STREAM, window_s=1e9)),
    ],
)
def test_a_header_that_cannot_be_is_refused(streams: tuple[StreamPart, ...]) -> None:
    header = BackupHeader(START, "", "", streams)
    with pytest.raises(BackupInvalidError):
        parsed(b"".join(records_of([], header)))


@pytest.mark.parametrize("follows", ["x" * 64, "AB" * 32, "ab", "ab" * 33])
def test_a_digest_that_is_none_is_refused(follows: str) -> None:
    with pytest.raises(BackupInvalidError):
        parsed(b"".join(records_of([], replace(header_of([]), follows=follows))))


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "$JS.API.STREAM.DELETE.TINTYPE_IMAGES",
        "tintype.v1.checkpoint",
        "tintype.v1.store.main",
        "tintype.v1.default.progress.x",
        "tintype.v1.default.image",
        "tintype.v1..image.a.b",
        "tintype.v1.default.image.a b.created",
        "tintype.v1.default.image.a.created\r\nPUB x",
    ],
)
def test_a_message_that_belongs_elsewhere_is_refused(subject: str) -> None:
    """A restore publishes it, with an operator's rights."""
    hostile = [replace(MESSAGES[2], subject=subject)]
    with pytest.raises(BackupInvalidError, match="subject"):
        parsed(b"".join(records_of(hostile)))


@pytest.mark.parametrize(
    ("name", "value"),
    [("", "x"), ("a:b", "x"), ("a b", "x"), ("a\r\nb", "x"), ("ce-a", "x\r\nNats-Rollup: all"), ("ä", "x")],
)
def test_a_header_that_would_be_another_one_is_refused(name: str, value: str) -> None:
    hostile = [replace(MESSAGES[2], headers={name: value})]
    with pytest.raises(BackupInvalidError, match="header"):
        parsed(b"".join(records_of(hostile)))


def test_a_newer_version_is_told() -> None:
    record = pb.Record(header=pb.Header(version=2)).SerializeToString()
    with pytest.raises(BackupInvalidError, match="version 2"):
        parsed(bytes([len(record)]) + record)


def test_a_header_that_stands_twice_on_a_message_is_refused() -> None:
    record = pb.Record.FromString(RECORDS[3][2:])
    record.message.headers.append(record.message.headers[0])
    body = record.SerializeToString()
    length = bytes([len(body) & 0x7F | 0x80, len(body) >> 7])
    with pytest.raises(BackupInvalidError, match="twice"):
        parsed(b"".join([*RECORDS[:3], length + body]))


def test_a_message_beyond_all_bounds_is_not_written() -> None:
    with pytest.raises(BackupInvalidError):
        BackupEncoder().message(replace(MESSAGES[-1], payload=bytes(MAX_RECORD_BYTES)))


# --- the file ---------------------------------------------------------------------------------------------------------


async def read(content: bytes) -> list[StoredMessage]:
    return [message async for some in BackupReader(io.BytesIO(content)).messages() for message in some]


async def test_a_file_is_read() -> None:
    assert await read(compressed(b"".join(RECORDS))) == MESSAGES


WHOLE = compressed(b"".join(RECORDS))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        b"".join(RECORDS),
        WHOLE[:-1],
        WHOLE[:-8],
        WHOLE[: len(WHOLE) // 2],
        WHOLE + b"\x00",
        WHOLE + WHOLE,
        compressed(b""),
        WHOLE[:30] + bytes([WHOLE[30] ^ 4]) + WHOLE[31:],
    ],
    ids=["empty", "nonsense", "not compressed", "cut", "no checksum", "half", "more", "two", "of nothing", "flipped"],
)
async def test_a_file_that_is_none_is_refused(content: bytes) -> None:
    with pytest.raises(BackupInvalidError):
        await read(content)


async def test_a_bomb_is_refused_by_what_it_grows_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages that are well-formed, and compress to next to nothing."""
    monkeypatch.setattr(backup_file, "FREE_BYTES", 256 * 1024)
    bomb = [replace(message, payload=bytes(1024 * 1024)) for message in stored_events("one")]
    with pytest.raises(DecompressionBombError):
        await read(compressed(b"".join(records_of(bomb))))


async def test_a_bomb_without_a_message_ends_at_its_first_record() -> None:
    reader = GzipPieces(io.BytesIO(compressed(bytes(64 * 1024 * 1024))))
    piece = reader.next()
    assert piece is not None and len(piece) <= 1024 * 1024
    with pytest.raises(BackupInvalidError):
        await read(compressed(bytes(64 * 1024 * 1024)))
