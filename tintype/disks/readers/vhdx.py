"""VHDX (Microsoft, MS-VHDX 2): fixed and dynamic disks that were closed, so that their log holds nothing."""

from __future__ import annotations

from collections.abc import Sequence

from tintype.disks.block_disk import PIECE_ENTRIES, BlockDisk, BlockLayout, EntryTable
from tintype.disks.byte_file import ByteFile
from tintype.disks.disk import Disk
from tintype.disks.opening import Reader
from tintype.domain.errors import MalformedImageError
from tintype.domain.values import DiskFormat
from tintype.inspect.tables.vhdx_header import (
    BAT,
    MAX_METADATA_SIZE,
    METADATA,
    SIGNATURE,
    STATE_MASK,
    check_header,
    parse_metadata,
    read_regions,
)

_FULLY_PRESENT = 6
_ZERO_STATES = frozenset({0, 1, 2, 3, 5})
"""Not present, undefined, zero, unmapped, and unmapped as version 0.95 had it: read as zeros, as QEMU does."""


def _open(file: ByteFile) -> Disk:
    if file.read(0, len(SIGNATURE)) != SIGNATURE:
        raise MalformedImageError("this is no VHDX")
    check_header(file.read_exactly)
    regions = read_regions(file.read_exactly)
    metadata = regions[METADATA]
    length = min(metadata.length, MAX_METADATA_SIZE)
    disk = parse_metadata(file.read_exactly(metadata.offset, length, "the VHDX's metadata"))
    if disk.table_entries * 8 > regions[BAT].length:
        raise MalformedImageError("the VHDX's block table is too short for its disk")
    table = EntryTable(file, regions[BAT].offset, disk.table_entries, "Q", "the VHDX block table", _ZERO_STATES)
    piece_blocks = min(PIECE_ENTRIES, disk.chunk_blocks)  # both are powers of two: a piece lies within one chunk

    def locate(piece: int) -> Sequence[int]:
        first = piece * piece_blocks
        entries = table.read(first + first // disk.chunk_blocks, piece_blocks)
        return [_place(entry) for entry in entries]

    return BlockDisk(file, BlockLayout(disk.size, disk.block_size, piece_blocks, locate))


def _place(entry: int) -> int:
    """Where a block is in the file, by its entry: 0 if it reads as zeros."""
    state = entry & STATE_MASK
    if state in _ZERO_STATES:
        return 0
    place = entry >> 20 << 20
    if state != _FULLY_PRESENT or not place:
        raise MalformedImageError(f"a block of the VHDX is in state {state} at byte {place}")
    return place


READER = Reader(DiskFormat.VHDX, _open)
