"""A zip archive read from its beginning, as it comes: one entry, stored or deflated, and a directory that agrees.

A zip is made to be read from its end. Two readers that begin at different ends may see different files, so what stands
at the end must say the same of the one entry as what stood before it. See APPNOTE.TXT 6.3.10, whose sections are cited.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

from tintype.domain.errors import (
    ArchiveContentError,
    ArchiveTraversalError,
    MalformedImageError,
    TruncatedError,
    UnsupportedImageError,
)
from tintype.inspect.compression.decoders import Decoder, deflate_decoder, pieces_of

MAX_DIRECTORY_SIZE = 512 * 1024
"""Of what follows the entry: its fields are 16 bits long each, with a comment and a few records behind."""

_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_DESCRIPTOR, _END64, _LOCATOR64 = b"PK\x07\x08", b"PK\x06\x06", b"PK\x06\x07"
_STORED, _DEFLATED = 0, 8
_HAS_DESCRIPTOR, _ANY_ENCRYPTION = 1 << 3, 1 | 1 << 6 | 1 << 13  # 4.4.4: usual, strong, masked headers
_ZIP64 = 1
_LOCAL_SIZE, _CENTRAL_SIZE, _END_SIZE, _END64_SIZE, _LOCATOR64_SIZE = 30, 46, 22, 56, 20
_SLICE_SIZE = 64 * 1024
_FULL32, _FULL16 = 0xFFFF_FFFF, 0xFFFF


@dataclass(frozen=True, slots=True)
class _Header:
    """What a header says of the entry; sizes in bytes, 0 where the descriptor behind the data has them."""

    flags: int
    method: int
    crc: int
    compressed_size: int
    size: int
    name: bytes
    offset: int = 0

    @property
    def has_descriptor(self) -> bool:
        """Whether checksum and sizes follow the data."""
        return bool(self.flags & _HAS_DESCRIPTOR)


class ZipEntry:
    """The only entry of a zip archive."""

    def __init__(self) -> None:
        self._begin = bytearray()
        self._opened: tuple[_Header, Decoder] | None = None
        self._rest = bytearray()
        self._compressed_size = 0
        self._size = 0
        self._crc = 0

    def decode(self, data: memoryview) -> Iterator[bytes]:
        """Take bytes, and give the entry's."""
        rest = data if self._opened else self._take_header(data)
        if self._opened is None:
            return
        header, decoder = self._opened
        if not decoder.eof:
            rest = yield from self._take_entry(header, decoder, rest)
        if decoder.eof and rest:
            self._take_rest(header, rest)

    def end(self) -> None:
        """Check that the archive is complete, and that its directory says what its beginning did.

        Raises:
            TruncatedError: it ends early.
            MalformedImageError: two of its parts contradict each other, or more follows.
            ArchiveContentError: it has no entry, or several.
        """
        if self._opened is None or not self._opened[1].eof:
            raise TruncatedError("the zip archive ends before its only entry does")
        header, rest = self._opened[0], bytes(self._rest)
        central = self._after_descriptor(header, rest)
        entry = replace(header, crc=self._crc, compressed_size=self._compressed_size, size=self._size)
        _check_directory(entry, rest, central, len(self._begin) + self._compressed_size)

    def _take_header(self, data: memoryview) -> memoryview:
        """Take what the local header needs; return the rest."""
        while data and (missing := self._wanted() - len(self._begin)):
            self._begin += data[:missing]
            data = data[missing:]
        if len(self._begin) >= 4 and self._begin[:4] != _LOCAL:
            raise ArchiveContentError("the zip archive has no entry; it must hold exactly one image")
        if len(self._begin) == self._wanted():
            header = _local_header(bytes(self._begin))
            decoder = _Stored(header.compressed_size) if header.method == _STORED else deflate_decoder()
            self._opened = header, decoder
        return data

    def _wanted(self) -> int:
        if len(self._begin) < _LOCAL_SIZE:
            return _LOCAL_SIZE
        name_length, extra_length = struct.unpack_from("<HH", self._begin, 26)
        return _LOCAL_SIZE + int(name_length) + int(extra_length)

    def _take_entry(self, header: _Header, decoder: Decoder, data: memoryview) -> Generator[bytes, None, memoryview]:
        """Yield what comes out; return what follows the entry."""
        while data and not decoder.eof:
            part, data = bytes(data[:_SLICE_SIZE]), data[_SLICE_SIZE:]
            for piece in pieces_of(decoder, part):
                self._crc = zlib.crc32(piece, self._crc)
                self._size += len(piece)
                yield piece
            self._compressed_size += len(part) - len(decoder.unused_data)
            if decoder.unused_data:  # it has ended
                data = memoryview(decoder.unused_data + bytes(data))
        if not header.has_descriptor and self._compressed_size > header.compressed_size:
            raise MalformedImageError("the zip entry is longer than its header says")
        return data

    def _take_rest(self, header: _Header, data: memoryview) -> None:
        room = MAX_DIRECTORY_SIZE + 1 - len(self._rest)
        self._rest += data[:room]
        for offset in self._descriptor_sizes(header):
            if self._rest[offset : offset + 4] == _LOCAL:
                raise ArchiveContentError("the zip archive has several entries; it must hold exactly one image")
        if len(self._rest) > MAX_DIRECTORY_SIZE:
            raise MalformedImageError("other bytes follow the zip archive's only entry")

    def _descriptor_sizes(self, header: _Header) -> tuple[int, ...]:
        # 4.3.9: its signature is optional, and its sizes have 8 bytes in ZIP64.
        return (16, 24, 12, 20) if header.has_descriptor else (0,)

    def _after_descriptor(self, header: _Header, rest: bytes) -> int:
        """Where the directory begins in ``rest``; the checksum and the sizes before it are those of the data."""
        found = (self._crc, self._compressed_size, self._size)
        if not header.has_descriptor:
            if (header.crc, header.compressed_size, header.size) != found:
                raise MalformedImageError("the zip entry is not what its header says: checksum or sizes differ")
            return 0
        for size in self._descriptor_sizes(header):
            signature = size % 8 == 0
            fields = struct.Struct("<IQQ" if size > 16 else "<III")
            if rest[size : size + 4] != _CENTRAL or (signature and rest[:4] != _DESCRIPTOR):
                continue
            if fields.unpack_from(rest, 4 if signature else 0) == found:
                return size
        if len(rest) < 28:
            raise TruncatedError("the zip archive ends before its directory")
        raise MalformedImageError("the zip entry is not what its descriptor says: checksum or sizes differ")


class _Stored:
    """The data of an entry that is not compressed: so many bytes."""

    needs_input = True

    def __init__(self, size: int) -> None:
        self._left = size
        self.unused_data = b""

    @property
    def eof(self) -> bool:
        return self._left == 0

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        piece, self.unused_data = data[: self._left], data[self._left :]
        self._left -= len(piece)
        return piece


def _local_header(data: bytes) -> _Header:
    """Section 4.3.7."""
    _, flags, method, _, crc, compressed_size, size, name_length, _ = struct.unpack_from("<HHHIIIIHH", data, 4)
    name, extra = data[_LOCAL_SIZE : _LOCAL_SIZE + name_length], data[_LOCAL_SIZE + name_length :]
    if flags & _ANY_ENCRYPTION:
        raise UnsupportedImageError("the zip archive is encrypted")
    if method not in (_STORED, _DEFLATED):
        raise UnsupportedImageError(f"the zip archive is compressed by method {method}, and not by deflate")
    if method == _STORED and flags & _HAS_DESCRIPTOR:
        raise UnsupportedImageError("the zip entry is stored, and only the bytes behind it would tell its size")
    _check_name(name)
    large = _zip64_fields(extra)
    size, compressed_size = _large(large, size, compressed_size)
    return _Header(flags, method, crc, compressed_size, size, name)


def _check_name(name: bytes) -> None:
    # The name is not used; but an archive that names such a place was made to harm somebody.
    parts = name.replace(b"\\", b"/").split(b"/")
    if b".." in parts or not parts[0] or parts[0][1:2] == b":" or b"\0" in name:
        raise ArchiveTraversalError(f"the zip archive has an entry named {name[:80]!r}")
    if not parts[-1]:
        raise ArchiveContentError("the zip archive begins with a directory; it must hold exactly one image")


def _zip64_fields(extra: bytes) -> list[int] | None:
    """The 64-bit values of section 4.5.3, in their order; ``None`` if there are none."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if len(field) < length:
            break
        if kind == _ZIP64:
            return [value for (value,) in struct.iter_unpack("<Q", field[: len(field) // 8 * 8])]
    return None


def _large(large: list[int] | None, *values: int) -> list[int]:
    """The values, with those that are too large for 32 bits taken from the extra field."""
    fields = iter(large or ())
    try:
        return [next(fields) if value == _FULL32 else value for value in values]
    except StopIteration:
        raise MalformedImageError("a size of the zip entry is missing") from None


def _check_directory(entry: _Header, rest: bytes, begin: int, rest_offset: int) -> None:
    """The directory has this one entry, and its end says where it is (sections 4.3.12 to 4.3.16)."""
    if len(rest) < begin + _CENTRAL_SIZE:
        raise TruncatedError("the zip archive ends before its directory")
    if rest[begin : begin + 4] != _CENTRAL:
        raise MalformedImageError("the zip archive has no directory behind its only entry")
    told, position = _central_header(rest, begin)
    if rest[position : position + 4] == _CENTRAL:
        raise ArchiveContentError("the zip archive lists several entries; it must hold exactly one image")
    if position > len(rest):
        raise TruncatedError("the zip archive ends in its directory")
    facts = [(h.method, h.crc, h.compressed_size, h.size, h.name, h.offset) for h in (told, entry)]
    if facts[0] != facts[1] or told.flags & _ANY_ENCRYPTION:
        raise MalformedImageError("the zip archive's directory says other things of the entry than the entry itself")
    _check_end(rest, position, begin + rest_offset, position - begin)


def _central_header(data: bytes, begin: int) -> tuple[_Header, int]:
    """Section 4.3.12; the header, and where it ends."""
    _, _, flags, method, _, crc, compressed_size, size, *lengths, disk, _, _, offset = struct.unpack_from(
        "<HHHHIIIIHHHHHII", data, begin + 4
    )
    name_begin = begin + _CENTRAL_SIZE
    extra_begin = name_begin + lengths[0]
    name, extra = data[name_begin:extra_begin], data[extra_begin : extra_begin + lengths[1]]
    large = _zip64_fields(extra)
    size, compressed_size, offset = _large(large, size, compressed_size, offset)
    end = name_begin + sum(lengths)
    if disk not in (0, _FULL16):
        raise UnsupportedImageError("the zip archive is one part of several")
    return _Header(flags, method, crc, compressed_size, size, name, offset), end


def _check_end(rest: bytes, position: int, directory_offset: int, directory_size: int) -> None:
    values = (1, 1, directory_size, directory_offset)
    if rest[position : position + 4] == _END64:
        position += _check_end64(rest, position, values)
    if len(rest) < position + _END_SIZE:
        raise TruncatedError("the zip archive ends in its directory")
    magic, _, _, *told, comment_length = struct.unpack_from("<4sHHHHIIH", rest, position)
    is_same = all(
        value in (wanted, full)
        for value, wanted, full in zip(told, values, (_FULL16, _FULL16, _FULL32, _FULL32), strict=True)
    )
    if magic != _END or not is_same:
        raise MalformedImageError("the end of the zip archive does not list just its only entry")
    excess = len(rest) - position - _END_SIZE - comment_length
    if excess < 0:
        raise TruncatedError("the zip archive ends in its comment")
    if excess > 0:
        raise MalformedImageError("other bytes follow the zip archive")


def _check_end64(rest: bytes, position: int, values: tuple[int, int, int, int]) -> int:
    """Sections 4.3.14 and 4.3.15; how long the two records are."""
    if len(rest) < position + _END64_SIZE:
        raise TruncatedError("the zip archive ends in its directory")
    _, record_size, _, _, _, _, *told = struct.unpack_from("<4sQHHIIQQQQ", rest, position)
    length = 12 + record_size
    locator = rest[position + length : position + length + _LOCATOR64_SIZE]
    if tuple(told) != values or locator[:4] != _LOCATOR64:
        raise MalformedImageError("the end of the zip archive does not list just its only entry")
    return int(length) + _LOCATOR64_SIZE
