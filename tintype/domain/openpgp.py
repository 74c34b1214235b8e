"""The outer form of OpenPGP data: armor, and the packets in it. Pure; nothing here verifies anything.

Whoever verifies gets only packets of the kinds that belong there. What holds others inside (compressed and encrypted
data) never reaches a parser that would unpack it, and a secret key is found before anybody keeps it. RFC 9580, 4 and 6.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tintype.domain.errors import PublisherKeyError

MAX_KEY_BYTES = 64 * 1024
"""Of a publisher's certificates, armored or binary."""

MAX_CERTIFICATES = 16
"""In one publisher's key ring."""

SIGNATURE = 2
PUBLIC_KEY = 6
_SECRET = frozenset({5, 7})
_OF_A_CERTIFICATE = frozenset(
    {
        SIGNATURE,
        PUBLIC_KEY,
        10,  # marker
        12,  # trust, which gpg adds
        13,  # user id
        14,  # public subkey
        17,  # user attribute
        21,  # padding
    }
)

# Each line's end is in exactly one of these, so that no input is gone over twice.
_ARMOR = re.compile(
    rb"-----BEGIN PGP (?P<kind>[A-Z ]{1,40})-----[ \t\r]*\n"
    rb"(?:[A-Za-z]{1,40}: [^\n]*\n){0,20}"
    rb"[ \t\r]*\n"
    rb"(?P<body>[A-Za-z0-9+/=\s]*)"
    rb"-----END PGP (?P=kind)-----"
)
_CHECKSUM = re.compile(rb"\n=[A-Za-z0-9+/]{4}\s*\Z")


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet: the number of its kind, and all of its bytes, header included."""

    tag: int
    raw: bytes


def packets(data: bytes) -> list[Packet]:
    """The packets in some data, armored (one block or several) or binary.

    Raises:
        ValueError: it is neither, or ends in the middle of one.
    """
    return [packet for part in _dearmored(data) for packet in _split(part)]


def publisher_certificates(key: bytes) -> list[bytes]:
    """The certificates in what a publisher gives as its key: one, or a key ring. Each is a row of packets, unverified.

    Raises:
        PublisherKeyError: it is empty, too large, no OpenPGP certificate, or holds a secret key.
    """
    if not key:
        raise PublisherKeyError("the publisher's key is empty")
    if len(key) > MAX_KEY_BYTES:
        raise PublisherKeyError(f"the publisher's key has more than {MAX_KEY_BYTES} bytes")
    if b"PRIVATE KEY" in key:
        raise PublisherKeyError(_HOLDS_A_SECRET)
    try:
        found = packets(key)
    except ValueError as exc:
        raise PublisherKeyError(f"the publisher's key is not an OpenPGP certificate: {exc}") from None
    certificates: list[list[bytes]] = []
    for packet in found:
        if packet.tag in _SECRET:
            raise PublisherKeyError(_HOLDS_A_SECRET)
        if packet.tag not in _OF_A_CERTIFICATE or not (certificates or packet.tag == PUBLIC_KEY):
            raise PublisherKeyError(f"the publisher's key holds a packet of kind {packet.tag}, which is out of place")
        if packet.tag == PUBLIC_KEY:
            certificates.append([])
        certificates[-1].append(packet.raw)
    if not 1 <= len(certificates) <= MAX_CERTIFICATES:
        raise PublisherKeyError(
            f"the publisher's key has {len(certificates)} certificates, not 1 to {MAX_CERTIFICATES}"
        )
    return [b"".join(rows) for rows in certificates]


_HOLDS_A_SECRET = (
    "what was given as the publisher's key holds a secret key, which nobody may ever be given: export the public "
    "certificate, and replace that key if others may have seen it"
)


def _dearmored(data: bytes) -> Iterator[bytes]:
    if data[:1] >= b"\x80":  # the first bit of every binary packet is set
        yield data
        return
    blocks = list(_ARMOR.finditer(data))
    if not blocks:
        raise ValueError("it is neither binary nor armored")
    for block in blocks:
        body = _CHECKSUM.sub(b"", b"\n" + block["body"].rstrip())
        try:
            yield base64.b64decode(b"".join(body.split()), validate=True)
        except binascii.Error:
            raise ValueError("its armor is damaged") from None


def _split(data: bytes) -> Iterator[Packet]:
    position = 0
    while position < len(data):
        start, first = position, data[position]
        if not first & 0x80:
            raise ValueError("there is something that is no packet")
        is_new = bool(first & 0x40)
        tag = first & 0x3F if is_new else (first >> 2) & 0x0F
        size, position = (_new_length if is_new else _old_length)(data, position)
        position += size
        if position > len(data):
            raise ValueError("it ends in the middle of a packet")
        yield Packet(tag, data[start:position])


def _new_length(data: bytes, position: int) -> tuple[int, int]:
    """The size of a packet's body, and where that begins. RFC 9580, 4.2.1."""
    first = _number(data, position + 1, 1)
    if first < 192:
        return first, position + 2
    if first < 224:
        return ((first - 192) << 8) + _number(data, position + 2, 1) + 192, position + 3
    if first < 255:
        raise ValueError("a packet comes in parts")  # allowed for packets of data only
    return _number(data, position + 2, 4), position + 6


def _old_length(data: bytes, position: int) -> tuple[int, int]:
    """The same in the legacy format. RFC 9580, 4.2.2."""
    kind = data[position] & 3
    if kind == 3:
        raise ValueError("a packet does not tell its size")
    size = 1 << kind
    return _number(data, position + 1, size), position + 1 + size


def _number(data: bytes, position: int, size: int) -> int:
    if position + size > len(data):
        raise ValueError("it ends in the middle of a packet")
    return int.from_bytes(data[position : position + size], "big")
