"""The hot path's two messages, ``WriteRequest`` and ``ReadResponse``, framed by hand.

A protobuf ``bytes`` field costs about twice its copy in Python. These functions write and read the very bytes that the
generated classes would (https://protobuf.dev/programming-guides/encoding/), so that any gRPC client still understands
them, and hand out the payload as a view of the received message, without a copy.
"""

from __future__ import annotations

from dataclasses import dataclass

from tintype.domain.errors import InvalidArgumentError

MESSAGE_SIZE = 1024 * 1024
"""Payload bytes of one message: more gains nothing, and makes the queues between both ends larger."""

MAX_MESSAGE_SIZE = 4 * MESSAGE_SIZE + 8 * 1024
"""The longest message that is taken, in bytes: four times the usual payload, and an upload's longest name."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_UPLOAD_ID = 1 << 3 | _LENGTH
_WRITE_OFFSET = 2 << 3 | _VARINT
_FINISH_WRITE = 3 << 3 | _VARINT
_WRITE_DATA = 10 << 3 | _LENGTH
_READ_DATA = 1 << 3 | _LENGTH

Payload = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class WriteFrame:
    """A ``WriteRequest``; a received ``data`` is a view of the message it came in."""

    upload_id: str
    write_offset: int
    finish_write: bool
    data: Payload


def encode_write(frame: WriteFrame) -> bytes:
    """The bytes of a ``WriteRequest``."""
    header = bytearray()
    if frame.upload_id:
        name = frame.upload_id.encode()
        header.append(_UPLOAD_ID)
        _append_varint(header, len(name))
        header += name
    if frame.write_offset:
        header.append(_WRITE_OFFSET)
        _append_varint(header, frame.write_offset)
    if frame.finish_write:
        header += bytes((_FINISH_WRITE, 1))
    if frame.data:
        header.append(_WRITE_DATA)
        _append_varint(header, len(frame.data))
    return b"".join((header, frame.data))


def decode_write(message: bytes) -> WriteFrame:
    """Read a ``WriteRequest``, fields in any order, unknown ones skipped.

    Raises:
        InvalidArgumentError: the bytes are no such message.
    """
    upload_id, offset, finish, data = "", 0, False, memoryview(b"")
    view = memoryview(message)
    position = 0
    while position < len(view):
        tag, position = _read_varint(view, position)
        value, position = _read_value(view, position, tag & 7)
        if tag == _WRITE_DATA and isinstance(value, memoryview):
            data = value
        elif tag == _WRITE_OFFSET and isinstance(value, int):
            offset = value - (1 << 64) if value >= 1 << 63 else value
        elif tag == _FINISH_WRITE and isinstance(value, int):
            finish = value != 0
        elif tag == _UPLOAD_ID and isinstance(value, memoryview):
            upload_id = _text(value)
    return WriteFrame(upload_id, offset, finish, data)


def encode_read(data: Payload) -> bytes:
    """The bytes of a ``ReadResponse`` with ``data``."""
    if not data:
        return b""
    header = bytearray((_READ_DATA,))
    _append_varint(header, len(data))
    return b"".join((header, data))


def decode_read(message: bytes) -> memoryview:
    """The data of a ``ReadResponse``: a view of ``message``.

    Raises:
        InvalidArgumentError: the bytes are no such message.
    """
    data = memoryview(b"")
    view = memoryview(message)
    position = 0
    while position < len(view):
        tag, position = _read_varint(view, position)
        value, position = _read_value(view, position, tag & 7)
        if tag == _READ_DATA and isinstance(value, memoryview):
            data = value
    return data


def _append_varint(target: bytearray, value: int) -> None:
    while value > 0x7F:
        target.append(value & 0x7F | 0x80)
        value >>= 7
    target.append(value)


def _read_varint(view: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(view) and shift < 70:
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
        shift += 7
    raise InvalidArgumentError("a message of the byte stream is cut off or malformed")


def _read_value(view: memoryview, position: int, wire_type: int) -> tuple[int | memoryview, int]:
    if wire_type == _VARINT:
        return _read_varint(view, position)
    if wire_type == _LENGTH:
        length, position = _read_varint(view, position)
    elif wire_type in (_FIXED64, _FIXED32):
        length = 8 if wire_type == _FIXED64 else 4
    else:
        raise InvalidArgumentError(f"a message of the byte stream has the unknown wire type {wire_type}")
    if position + length > len(view):
        raise InvalidArgumentError("a message of the byte stream is cut off")
    return view[position : position + length], position + length


def _text(view: memoryview) -> str:
    try:
        return str(view, "utf-8")
    except UnicodeDecodeError:
        raise InvalidArgumentError("an upload id must be UTF-8") from None
