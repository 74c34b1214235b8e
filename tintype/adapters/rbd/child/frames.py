"""What the service and its Ceph process say to each other: a JSON object and bytes, both with their length in front."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

LENGTHS = struct.Struct("!II")
MAX_MESSAGE = 16 * 1024 * 1024
MAX_PAYLOAD = 64 * 1024 * 1024

Message = dict[str, Any]


class FrameError(Exception):
    """The other side said something else than a frame."""


def encode(message: Message, payload_size: int) -> bytes:
    """What goes in front of the payload."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return LENGTHS.pack(len(body), payload_size) + body


def lengths(head: bytes) -> tuple[int, int]:
    """The lengths of message and payload.

    Raises:
        FrameError: they are beyond the limits.
    """
    message, payload = LENGTHS.unpack(head)
    if message > MAX_MESSAGE or payload > MAX_PAYLOAD:
        raise FrameError("a frame is too long")
    return message, payload


def decode(body: bytes) -> Message:
    """The message.

    Raises:
        FrameError: it is not a JSON object.
    """
    try:
        message = json.loads(body)
    except ValueError as exc:
        raise FrameError("a frame is not JSON") from exc
    if not isinstance(message, dict):
        raise FrameError("a frame is not a JSON object")
    return message


def receive(connection: socket.socket) -> tuple[Message, bytearray] | None:
    """The next frame, waiting for it; ``None`` when the other side is gone."""
    head = _exactly(connection, LENGTHS.size)
    if head is None:
        return None
    message_size, payload_size = lengths(bytes(head))
    body = _exactly(connection, message_size)
    payload = _exactly(connection, payload_size)
    if body is None or payload is None:
        return None
    return decode(bytes(body)), payload


def send(connection: socket.socket, message: Message, payload: bytes = b"") -> None:
    """Send one frame, whole."""
    connection.sendall(encode(message, len(payload)))
    if payload:
        connection.sendall(payload)


def _exactly(connection: socket.socket, count: int) -> bytearray | None:
    data = bytearray(count)
    view = memoryview(data)
    while view:
        received = connection.recv_into(view)
        if received == 0:
            return None
        view = view[received:]
    return data
