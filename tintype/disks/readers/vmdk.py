"""VMDK in one file (VMware, Virtual Disk Format 5.0): monolithicSparse, and streamOptimized with compressed grains.

The descriptor is not read: where data is, the binary header says, and no other file is ever opened.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from isal import isal_zlib

from tintype.disks.block_disk import PIECE_ENTRIES, BlockDisk, BlockLayout, EntryTable
from tintype.disks.byte_file import ByteFile
from tintype.disks.disk import SECTOR_SIZE, Disk
from tintype.disks.opening import Reader
from tintype.domain.errors import MalformedImageError, TruncatedError, UnsafeExtentError, UnsupportedImageError
from tintype.domain.values import DiskFormat

_MAGIC = b"KDMV"
_HEADER = struct.Struct("<4sIIQQQQIQQQ?4sH")
_CHECK_BYTES = b"\n \r\n"
_GD_AT_END = 0xFFFF_FFFF_FFFF_FFFF
_MARKER = struct.Struct("<QII")
_FOOTER_MARKER = (1, 0, 3)
_END_MARKER = (0, 0, 0)
_GRAIN_MARKER = struct.Struct("<QI")

_HAS_ZERO_GRAINS = 1 << 2
_HAS_MARKERS = 1 << 17
_NOT_STORED, _ZEROES = 0, 1
_DEFLATE = 1

_MAX_GRAIN_SECTORS = 0x20_0000
_MAX_COMPRESSED_GRAIN_SECTORS = 2048
"""A compressed grain is inflated as a whole; programs make them of 128 sectors."""
_MAX_TABLE_ENTRIES = 512
_MAX_GRAIN_TABLES = 1 << 22
_MAX_CAPACITY = 1 << 54
_KEPT_GRAINS_SIZE = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Header:
    """The sparse extent header; all sizes and offsets in sectors."""

    version: int
    flags: int
    capacity: int
    grain_size: int
    descriptor_offset: int
    descriptor_size: int
    entries_per_table: int
    redundant_directory_offset: int
    directory_offset: int
    overhead: int
    is_unclean: bool
    check_bytes: bytes
    compression: int

    @property
    def grain_tables(self) -> int:
        return -(-self.capacity // (self.grain_size * self.entries_per_table))


class StreamOptimizedVmdk(BlockDisk):
    """Each grain is compressed, with the sector of the disk that it begins at and its size in front of it."""

    _stored_size_min = SECTOR_SIZE  # a grain begins with a sector
    _are_blocks_apart = True

    def __init__(self, file: ByteFile, layout: BlockLayout) -> None:
        super().__init__(file, layout)
        self._grain = lru_cache(max(2, _KEPT_GRAINS_SIZE // layout.block_size))(self._read_grain)

    def _read_stored(self, block: int, place: int, skipped: int, length: int) -> bytes:
        grain = self._grain(block, place)
        return grain if length == len(grain) else grain[skipped : skipped + length]

    def _read_grain(self, block: int, place: int) -> bytes:
        what, grain_size = f"grain {block} of the VMDK", self._layout.block_size
        sector, size = _GRAIN_MARKER.unpack(self._file.read_exactly(place, _GRAIN_MARKER.size, what))
        if sector * SECTOR_SIZE != block * grain_size:
            raise MalformedImageError(f"{what} says that it is that of sector {sector}")
        if not 0 < size <= 2 * grain_size:
            raise MalformedImageError(f"{what} has {size} bytes")
        data = _inflate(self._file.read_exactly(place + _GRAIN_MARKER.size, size, what), grain_size + 1)
        # The last one need not go beyond the end of the disk.
        if not min(grain_size, self.size - block * grain_size) <= len(data) <= grain_size:
            raise MalformedImageError(f"{what} does not inflate to the size of a grain")
        return data


def _inflate(data: bytes, limit: int) -> bytes:
    inflater = isal_zlib.decompressobj()
    try:
        inflated: bytes = inflater.decompress(data, limit)
    except isal_zlib.error as exc:  # type: ignore[misc]  # isal's stub says that it is an instance
        raise MalformedImageError("a grain of the VMDK cannot be inflated") from exc
    if not inflater.eof:
        raise MalformedImageError("a grain of the VMDK goes on beyond its end")
    return inflated


def _open(file: ByteFile) -> Disk:
    header = _check(_parse_header(file.read_exactly(0, _HEADER.size, "the VMDK header")))
    if header.directory_offset == _GD_AT_END:
        header = _read_footer(file, header)
    directory = _directory(file, header)
    layout = BlockLayout(
        header.capacity * SECTOR_SIZE,
        header.grain_size * SECTOR_SIZE,
        header.entries_per_table,
        _GrainTables(file, header, directory).locate,
    )
    return StreamOptimizedVmdk(file, layout) if header.compression == _DEFLATE else BlockDisk(file, layout)


class _GrainTables:
    """Where grains are: the directory names the tables, which name the grains; both are read in pieces."""

    def __init__(self, file: ByteFile, header: _Header, directory: EntryTable) -> None:
        self._file, self._header = file, header
        self._empty = frozenset({_NOT_STORED, _ZEROES} if header.flags & _HAS_ZERO_GRAINS else {_NOT_STORED})
        self._directory_piece = lru_cache(4)(lambda piece: directory.read(piece * PIECE_ENTRIES, PIECE_ENTRIES))

    def locate(self, index: int) -> Sequence[int]:
        """The offset of each grain that the table of this number names, or 0."""
        piece, rest = divmod(index, PIECE_ENTRIES)
        tables = self._directory_piece(piece)
        if not tables or not tables[rest]:
            return ()
        count = self._header.entries_per_table
        offset = tables[rest] * SECTOR_SIZE
        entries = EntryTable(self._file, offset, count, "I", "a VMDK grain table", self._empty).read(0, count)
        if _ZEROES in entries and _ZEROES not in self._empty:
            raise MalformedImageError("a VMDK grain table names the header as a grain")
        if self._empty.issuperset(entries):
            return ()
        return [0 if entry == _ZEROES else entry * SECTOR_SIZE for entry in entries]


def _directory(file: ByteFile, header: _Header) -> EntryTable:
    if header.directory_offset == 0:
        raise MalformedImageError("the VMDK has no grain directory")
    offset = header.directory_offset * SECTOR_SIZE
    return EntryTable(file, offset, header.grain_tables, "I", "the VMDK grain directory", frozenset({_NOT_STORED}))


def _parse_header(data: bytes) -> _Header:
    magic, *fields = _HEADER.unpack(data)
    if magic != _MAGIC:
        raise UnsafeExtentError("this is no VMDK that holds a disk in one file")
    return _Header(*fields)


def _check(header: _Header) -> _Header:
    if header.version not in (1, 2, 3) or header.check_bytes != _CHECK_BYTES:
        raise MalformedImageError(f"the VMDK header is damaged, or of version {header.version}")
    if not 1 <= header.grain_size <= _MAX_GRAIN_SECTORS or header.grain_size & (header.grain_size - 1):
        raise MalformedImageError(f"the VMDK grain size is {header.grain_size} sectors")
    if not 1 <= header.entries_per_table <= _MAX_TABLE_ENTRIES:
        raise MalformedImageError(f"a VMDK grain table has {header.entries_per_table} entries")
    if not 0 < header.capacity < _MAX_CAPACITY or header.grain_tables > _MAX_GRAIN_TABLES:
        raise MalformedImageError(f"the VMDK has {header.capacity} sectors")
    if header.compression not in (0, _DEFLATE):
        raise MalformedImageError(f"the VMDK compression algorithm {header.compression} is not known")
    if header.compression and not header.flags & _HAS_MARKERS:
        raise UnsupportedImageError("the VMDK has compressed grains without markers")
    if header.compression and header.grain_size > _MAX_COMPRESSED_GRAIN_SECTORS:
        raise UnsupportedImageError(f"the VMDK has compressed grains of {header.grain_size} sectors")
    return header


def _read_footer(file: ByteFile, header: _Header) -> _Header:
    """At the end: a marker, the header once more, which knows the directory, and an end marker."""
    if file.size < 4 * SECTOR_SIZE:
        raise TruncatedError("the VMDK ends before its footer")
    data = file.read_exactly(file.size - 3 * SECTOR_SIZE, 3 * SECTOR_SIZE, "the VMDK footer")
    marks = _MARKER.unpack_from(data), _MARKER.unpack_from(data, 2 * SECTOR_SIZE)
    if marks != (_FOOTER_MARKER, _END_MARKER) or data[SECTOR_SIZE:][: len(_MAGIC)] != _MAGIC:
        raise TruncatedError("the VMDK's footer is missing: the file is not complete")
    footer = _check(_parse_header(data[SECTOR_SIZE:][: _HEADER.size]))
    for name in ("version", "flags", "capacity", "grain_size", "entries_per_table", "compression"):
        if getattr(footer, name) != getattr(header, name):
            raise MalformedImageError(f"the VMDK's header and footer contradict each other on {name}")
    if footer.directory_offset == _GD_AT_END:
        raise MalformedImageError("the VMDK's footer does not say where the grain directory is")
    return footer


READER = Reader(DiskFormat.VMDK, _open)
