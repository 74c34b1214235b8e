"""VMDK in one file (VMware, Virtual Disk Format 5.0): monolithicSparse, and streamOptimized with compressed grains.

The descriptor is not read: where data is, the binary header says, and no other file is ever opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from tintype.disks.block_disk import PIECE_ENTRIES, BlockDisk, BlockLayout, EntryTable
from tintype.disks.byte_file import ByteFile
from tintype.disks.decompression import inflate_whole
from tintype.disks.disk import SECTOR_SIZE, Disk
from tintype.disks.opening import Reader
from tintype.domain.errors import MalformedImageError, UnsupportedImageError
from tintype.domain.values import DiskFormat
from tintype.inspect.tables.vmdk_header import (
    FOOTER_SIZE,
    GD_AT_END,
    GRAIN_MARKER,
    HEADER,
    VmdkHeader,
    parse_footer,
    parse_header,
)

_HAS_ZERO_GRAINS = 1 << 2
_HAS_MARKERS = 1 << 17
_NOT_STORED, _ZEROES = 0, 1
_DEFLATE = 1

_MAX_COMPRESSED_GRAIN_SECTORS = 2048
"""A compressed grain is inflated as a whole; programs make them of 128 sectors."""
_KEPT_GRAINS_SIZE = 8 * 1024 * 1024


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
        sector, size = GRAIN_MARKER.unpack(self._file.read_exactly(place, GRAIN_MARKER.size, what))
        if sector * SECTOR_SIZE != block * grain_size:
            raise MalformedImageError(f"{what} says that it is that of sector {sector}")
        if not 0 < size <= 2 * grain_size:
            raise MalformedImageError(f"{what} has {size} bytes")
        data = inflate_whole(self._file.read_exactly(place + GRAIN_MARKER.size, size, what), grain_size, what)
        # The last one need not go beyond the end of the disk.
        if len(data) < min(grain_size, self.size - block * grain_size):
            raise MalformedImageError(f"{what} does not inflate to the size of a grain")
        return data


def _open(file: ByteFile) -> Disk:
    header = _read_header(file)
    directory = _directory(file, header)
    layout = BlockLayout(
        header.capacity * SECTOR_SIZE,
        header.grain_bytes,
        header.entries_per_table,
        _GrainTables(file, header, directory).locate,
    )
    return StreamOptimizedVmdk(file, layout) if header.compression == _DEFLATE else BlockDisk(file, layout)


class _GrainTables:
    """Where grains are: the directory names the tables, which name the grains; both are read in pieces."""

    def __init__(self, file: ByteFile, header: VmdkHeader, directory: EntryTable) -> None:
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


def _directory(file: ByteFile, header: VmdkHeader) -> EntryTable:
    if header.directory_offset == 0:
        raise MalformedImageError("the VMDK has no grain directory")
    offset = header.directory_offset * SECTOR_SIZE
    return EntryTable(file, offset, header.grain_tables, "I", "the VMDK grain directory", frozenset({_NOT_STORED}))


def _read_header(file: ByteFile) -> VmdkHeader:
    header = parse_header(file.read_exactly(0, HEADER.size, "the VMDK header"))
    if header.compression and not header.flags & _HAS_MARKERS:
        raise UnsupportedImageError("the VMDK has compressed grains without markers")
    if header.compression and header.grain_size > _MAX_COMPRESSED_GRAIN_SECTORS:
        raise UnsupportedImageError(f"the VMDK has compressed grains of {header.grain_size} sectors")
    if header.directory_offset != GD_AT_END:
        return header
    return parse_footer(file.read(max(0, file.size - FOOTER_SIZE), FOOTER_SIZE), header)


READER = Reader(DiskFormat.VMDK, _open)
