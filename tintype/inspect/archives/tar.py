"""Tar archives (POSIX.1-2017, pax; GNU tar's manual, "Basic Tar Format") as their bytes pass: which members there are.

What is read: ustar, GNU's long names, pax. What is refused: whatever two programs would read differently, and
whatever makes a reader work without end. What names may be and what the data is, is the matter of those who walk:
:mod:`tintype.inspect.archives.tar_archive` for an archive that is an image,
:mod:`tintype.inspect.archives.container_layer` for a layer.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from enum import Enum

from tintype.domain.errors import (
    ArchiveContentError,
    ArchiveTraversalError,
    MalformedImageError,
    RefusedContentError,
    TruncatedError,
    UnsupportedImageError,
)

BLOCK_SIZE = 512
MAX_NAME_LENGTH = 4096
"""Bytes of a member's name or a link's target: Linux's PATH_MAX."""
MAX_EXTENSION_SIZE = 1024 * 1024
"""Bytes of a pax header, as Go's archive/tar has it."""

_ZEROS = bytes(BLOCK_SIZE)
_CHECKSUM = slice(148, 156)
_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
_SIGNED = struct.Struct("512b")
_DIGITS = re.compile(rb"[0-9]+")
_MAX_DIGITS = 128
_MAX_SIZE = 1 << 62


class MemberKind(Enum):
    """What a member stands for; the values are as messages call them."""

    FILE = "a file"
    DIRECTORY = "a directory"
    SYMLINK = "a symbolic link"
    HARD_LINK = "a hard link"
    DEVICE = "a device"
    FIFO = "a named pipe"


_KINDS = {
    b"\0": MemberKind.FILE,
    b"0": MemberKind.FILE,
    b"7": MemberKind.FILE,
    b"1": MemberKind.HARD_LINK,
    b"2": MemberKind.SYMLINK,
    b"3": MemberKind.DEVICE,
    b"4": MemberKind.DEVICE,
    b"5": MemberKind.DIRECTORY,
    b"6": MemberKind.FIFO,
}
_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_TARGET = b"x", b"g", b"L", b"K"
_EXTENSIONS = frozenset({_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_TARGET})


@dataclass(frozen=True, slots=True)
class Header:
    """One member: its name and a link's target as written, and its data's size in bytes."""

    name: str
    kind: MemberKind
    size: int
    target: str

    @property
    def padded_size(self) -> int:
        """Bytes from the data's beginning to the next header."""
        return _padded(self.size)


@dataclass(frozen=True, slots=True)
class _Block:
    """A header block, before what the blocks in front of it say."""

    name: bytes
    type: bytes
    size: int
    target: bytes


@dataclass(slots=True)
class _Overrides:
    """What the blocks in front of a member's header say of it."""

    name: bytes | None = None
    target: bytes | None = None
    size: int | None = None
    seen: set[bytes] = field(default_factory=set)


def next_header() -> Generator[int, bytes, Header | None]:
    """Read up to the next member's data: yields how many bytes it needs, and is sent just as many.

    Returns ``None`` at the archive's end mark: behind it there may be zeros only.

    Raises:
        MalformedImageError: this is no tar header.
        UnsupportedImageError: a member is sparse, or of a type that is not known.
        ArchiveContentError: a name is too long, or given twice.
    """
    overrides = _Overrides()
    while True:
        data = yield BLOCK_SIZE
        if data == _ZEROS:
            if overrides.seen:
                raise MalformedImageError("the tar archive ends behind a header that says what follows")
            return None
        block = _parse_block(data)
        if block.type not in _EXTENSIONS:
            return _header_of(block, overrides)
        if block.size > MAX_EXTENSION_SIZE:
            raise ArchiveContentError(f"the tar archive has an extended header of {block.size} bytes")
        payload = (yield _padded(block.size)) if block.size else b""
        _extend(overrides, block.type, payload[: block.size])


def header_at(read: Callable[[int, int], bytes], offset: int) -> tuple[Header | None, int]:
    """The member whose headers begin at ``offset`` of an archive at rest, and where its data begins.

    ``read`` is given an offset and a length, and answers fewer bytes only at the archive's end.

    Raises:
        TruncatedError: the archive ends first.
        RefusedContentError: as :func:`next_header`.
    """
    asking = next_header()
    wanted = next(asking)
    while True:
        data = read(offset, wanted)
        if len(data) < wanted:
            raise TruncatedError(f"the tar archive ends at byte {offset + len(data)}, before its end mark")
        offset += wanted
        try:
            wanted = asking.send(data)
        except StopIteration as done:
            return done.value, offset


def is_tar(head: bytes) -> bool:
    """Whether a file begins with a tar header: by its checksum, and by its magic or what its fields may be."""
    block = head[:BLOCK_SIZE]
    if len(block) < BLOCK_SIZE or not _has_checksum(block):
        return False
    name = block[:100].rstrip(b"\0")
    is_plain = block[156:157] in _KINDS and name.isascii() and name.decode("ascii").isprintable()
    return block[257:262] == b"ustar" or (is_plain and bool(name))


def first_file_name(head: bytes, max_members: int = 64) -> str:
    """The name of the first member that is no directory; empty if it is not within the head."""
    offset = 0
    for _ in range(max_members):
        try:
            header, offset = header_at(lambda at, length: head[at : at + length], offset)
        except RefusedContentError:
            return ""
        if header is None or header.kind is not MemberKind.DIRECTORY:
            return header.name if header else ""
        offset += header.padded_size
    return ""


def clean_name(name: str) -> str:
    """A name without ``./`` and doubled or trailing slashes; empty for the archive's own root, be it ``.`` or ``/``.

    Raises:
        ArchiveTraversalError: if it is absolute, or goes up.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if (name.startswith("/") and parts) or ".." in parts:
        raise ArchiveTraversalError(f"the name {name!a:.80} leads out of the archive")
    return "/".join(parts)


def _parse_block(data: bytes) -> _Block:
    if not _has_checksum(data):
        raise MalformedImageError("a header in the tar archive has a wrong checksum")
    kind, magic = data[156:157], data[257:265]
    if kind not in _KINDS and kind not in _EXTENSIONS:
        raise UnsupportedImageError(f"the tar archive has a member of type {kind!r}: sparse, or of one program's own")
    name, prefix = _text(data[:100]), b""
    if magic[:6] == b"ustar\0":
        prefix = _text(data[345:500])
    elif magic == b"ustar  \0" and any(data[345:500]):
        # GNU's dumps have times here, and sparse maps: readers that do not look at the magic take them for a name.
        raise UnsupportedImageError("the tar archive is of GNU's incremental kind")
    return _Block(prefix + b"/" + name if prefix else name, kind, _number(data[124:136]), _text(data[157:257]))


def _has_checksum(block: bytes) -> bool:
    match = _OCTAL.fullmatch(block[_CHECKSUM])
    if match is None or not match[1]:
        return False
    told = int(match[1], 8)
    others = block[:148] + b" " * 8 + block[156:]
    # Some old programs added up the bytes as signed numbers.
    return told == sum(others) or told == sum(_SIGNED.unpack(others))


def _header_of(block: _Block, overrides: _Overrides) -> Header:
    raw = block.name if overrides.name is None else overrides.name
    target = block.target if overrides.target is None else overrides.target
    size = block.size if overrides.size is None else overrides.size
    kind = _KINDS[block.type]
    if kind is MemberKind.FILE and raw.endswith(b"/"):
        kind = MemberKind.DIRECTORY  # as the tars of before POSIX wrote it
    if not raw:
        raise ArchiveContentError("the tar archive has a member without a name")
    if len(raw) > MAX_NAME_LENGTH or len(target) > MAX_NAME_LENGTH:
        raise ArchiveContentError(f"the tar archive has a name of {max(len(raw), len(target))} bytes")
    if b"\0" in raw or b"\0" in target:
        raise ArchiveContentError("the tar archive has a name with a zero byte in it")
    if size and kind is not MemberKind.FILE:
        # Some programs take such data for the next header.
        raise MalformedImageError(f"the tar archive has {kind.value} with {size} bytes of data")
    return Header(_decode(raw), kind, size, _decode(target))


def _extend(overrides: _Overrides, kind: bytes, payload: bytes) -> None:
    if kind == _PAX_GLOBAL:
        if _pax_records(payload):
            # Go's reader ignores such a record where others obey it.
            raise ArchiveContentError("the tar archive names several members at once, by a global pax header")
        return
    if kind in overrides.seen or (overrides.seen and _PAX in (kind, *overrides.seen)):
        raise ArchiveContentError("the tar archive has several extended headers for one member")
    overrides.seen.add(kind)
    if kind == _LONG_NAME:
        overrides.name = _text(payload)
    elif kind == _LONG_TARGET:
        overrides.target = _text(payload)
    else:
        records = _pax_records(payload)
        overrides.name, overrides.target = records.get(b"path"), records.get(b"linkpath")
        if b"size" in records:
            overrides.size = _decimal(records[b"size"])


def _pax_records(payload: bytes) -> dict[bytes, bytes]:
    """The records that say where a member goes and how long it is (pax: ``length key=value newline``)."""
    if any(len(digits) > _MAX_DIGITS for digits in _DIGITS.findall(payload)):
        # Some readers take time that grows with the square of such a number's length (CVE-2024-6232).
        raise ArchiveContentError("the tar archive has a pax header with an absurdly long number")
    found: dict[bytes, bytes] = {}
    begin = 0
    while begin < len(payload):
        space = payload.find(b" ", begin, begin + 20)
        length = _decimal(payload[begin : max(begin, space)])
        key, equals, value = payload[space + 1 : begin + length].partition(b"=")
        if begin + length > len(payload) or not equals or not value.endswith(b"\n"):
            raise MalformedImageError("the tar archive has a pax header that cannot be read")
        if key.startswith(b"GNU.sparse."):
            raise UnsupportedImageError("the tar archive has a sparse member")
        if key in (b"path", b"linkpath", b"size"):
            if key in found:
                raise ArchiveContentError("the tar archive has a pax header that names one member twice")
            found[key] = value[:-1]
        begin += length
    return found


def _decimal(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 18:
        raise MalformedImageError("the tar archive has a pax header that cannot be read")
    return int(digits)


def _number(data: bytes) -> int:
    """A header's number: octal digits, or GNU's base 256, which has the first bit set."""
    if data[0] & 0x80:
        value = int.from_bytes(data, "big") - (0x80 << 8 * (len(data) - 1))
    else:
        match = _OCTAL.fullmatch(data)
        if match is None:
            raise MalformedImageError("the tar archive has a header whose numbers cannot be read")
        value = int(match[1] or b"0", 8)
    if not 0 <= value < _MAX_SIZE:
        raise MalformedImageError(f"the tar archive has a member of {value} bytes")
    return value


def _text(data: bytes) -> bytes:
    return data.split(b"\0", 1)[0]


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _padded(size: int) -> int:
    return -(-size // BLOCK_SIZE) * BLOCK_SIZE
