"""Frames made by hand are what protobuf makes, and the other way round."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tintype.api.importer.v1 import importer_pb2 as pb
from tintype.codec import framing
from tintype.domain.errors import InvalidArgumentError

OFFSETS = st.integers(min_value=0, max_value=2**63 - 1)
NAMES = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=300)


@given(NAMES, OFFSETS, st.booleans(), st.binary(max_size=70_000))
def test_a_write_is_byte_for_byte_what_protobuf_makes(name: str, offset: int, finish: bool, data: bytes) -> None:
    message = pb.WriteRequest(upload_id=name, write_offset=offset, finish_write=finish, data=data)

    assert framing.encode_write(framing.WriteFrame(name, offset, finish, data)) == message.SerializeToString()


@given(NAMES, st.integers(min_value=-(2**63), max_value=2**63 - 1), st.booleans(), st.binary(max_size=70_000))
def test_a_write_of_protobuf_is_read(name: str, offset: int, finish: bool, data: bytes) -> None:
    message = pb.WriteRequest(upload_id=name, write_offset=offset, finish_write=finish, data=data)

    assert framing.decode_write(message.SerializeToString()) == framing.WriteFrame(name, offset, finish, data)


@given(st.binary(max_size=70_000))
def test_a_read_goes_both_ways(data: bytes) -> None:
    wire = pb.ReadResponse(data=data).SerializeToString()

    assert framing.encode_read(data) == wire
    assert framing.decode_read(wire) == data


def test_a_payload_may_be_a_view() -> None:
    data = memoryview(bytearray(b"0123456789"))[2:5]

    assert pb.ReadResponse.FromString(framing.encode_read(data)).data == b"234"


def test_a_received_payload_is_not_copied() -> None:
    wire = framing.encode_read(b"x" * 1000)

    assert framing.decode_read(wire).obj is wire


def test_unknown_fields_are_skipped_and_the_last_of_a_field_counts() -> None:
    unknown = bytes([15 << 3 | 0 & 7, 1]) + bytes([14 << 3 | 1]) + b"8" * 8 + bytes([13 << 3 | 5]) + b"4" * 4
    first = pb.WriteRequest(write_offset=1, data=b"first").SerializeToString()
    last = pb.WriteRequest(write_offset=2, data=b"last").SerializeToString()

    assert framing.decode_write(first + unknown + last) == framing.WriteFrame("", 2, False, b"last")


@pytest.mark.parametrize(
    "wire",
    [b"\x52", b"\x52\x05abcd", b"\xff" * 11, b"\x0a\x02\xff\xfe", b"\x0b\x00", b"\x09abc", b"\x52\xff\xff\xff\xff\x7f"],
    ids=["no length", "cut off", "endless varint", "not UTF-8", "group", "cut fixed64", "absurd length"],
)
def test_a_malformed_frame_is_refused(wire: bytes) -> None:
    with pytest.raises(InvalidArgumentError):
        framing.decode_write(wire)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(wire: bytes) -> None:
    try:
        frame = framing.decode_write(wire)
    except InvalidArgumentError:
        return
    assert len(frame.data) <= len(wire)
