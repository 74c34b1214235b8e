"""VHDX (Microsoft, MS-VHDX 2): fixed and dynamic disks that were closed, so that their log holds nothing."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from tintype.disks.block_disk import PIECE_ENTRIES, BlockDisk, BlockLayout, EntryTable
from tintype.disks.byte_file import ByteFile
from tintype.disks.disk import Disk
from tintype.disks.opening import Reader
from tintype.domain.errors import DifferencingDiskError, MalformedImageError, UnsupportedImageError
from tintype.domain.values import DiskFormat
from tintype.inspect.tables.crc32c import crc32c

_KIB, _MIB = 1024, 1024 * 1024
_SIGNATURE = b"vhdxfile"
_HEADER_OFFSETS, _HEADER_SIZE = (64 * _KIB, 128 * _KIB), 4 * _KIB
_HEADER = struct.Struct("<4sIQ16s16s16sHHIQ")
_REGION_TABLE_OFFSET, _REGION_TABLE_SIZE = 192 * _KIB, 64 * _KIB
_ENTRY_LIMIT = 2047
_REGION_ENTRY = struct.Struct("<16sQII")
_BAT = UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
_METADATA = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
_REGIONS = frozenset({_BAT, _METADATA})

_METADATA_TABLE_SIZE = 64 * _KIB
_METADATA_ENTRY = struct.Struct("<16sIIII")
_FILE_PARAMETERS = UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
_DISK_SIZE = UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
_LOGICAL_SECTOR_SIZE = UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f")
_PARENT_LOCATOR = UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")
_NOT_NEEDED = frozenset(
    {
        UUID("beca12ab-b2e6-4523-93ef-c309e000c746"),  # the disk's id
        UUID("cda348c7-445d-4471-9cc9-e9885251c556"),  # its physical sector size
    }
)
_VALUES = {_FILE_PARAMETERS: "<II", _DISK_SIZE: "<Q", _LOGICAL_SECTOR_SIZE: "<I"}
_IS_REQUIRED = 4
_HAS_PARENT = 2

_MAX_DISK_SIZE = 64 * 1024**4
_SECTORS_OF_BITMAP = 1 << 23
"""A block of the sector bitmap stands for so many sectors (MS-VHDX 2.5): a chunk."""
_STATE_MASK, _FULLY_PRESENT = 7, 6
_ZERO_STATES = frozenset({0, 1, 2, 3, 5})
"""Not present, undefined, zero, unmapped, and unmapped as version 0.95 had it: read as zeros, as QEMU does."""


@dataclass(frozen=True, slots=True)
class _Region:
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class _Shape:
    """Sizes in bytes; a chunk's blocks are followed by an entry for a sector bitmap, which counts in no disk here."""

    size: int
    block_size: int
    chunk_blocks: int

    @property
    def entries(self) -> int:
        blocks = -(-self.size // self.block_size)
        return blocks + (blocks - 1) // self.chunk_blocks


def _open(file: ByteFile) -> Disk:
    if not file.read(0, len(_SIGNATURE)) == _SIGNATURE:
        raise MalformedImageError("this is no VHDX")
    _check_header(file)
    regions = _read_regions(file)
    shape = _read_metadata(file, regions[_METADATA])
    if shape.entries * 8 > regions[_BAT].length:
        raise MalformedImageError("the VHDX's block table is too short for its disk")
    table = EntryTable(file, regions[_BAT].offset, shape.entries, "Q", "the VHDX block table", _ZERO_STATES)
    piece_blocks = min(PIECE_ENTRIES, shape.chunk_blocks)  # both are powers of two: a piece lies within one chunk

    def locate(piece: int) -> Sequence[int]:
        first = piece * piece_blocks
        entries = table.read(first + first // shape.chunk_blocks, piece_blocks)
        return [_place(entry) for entry in entries]

    return BlockDisk(file, BlockLayout(shape.size, shape.block_size, piece_blocks, locate))


def _place(entry: int) -> int:
    """Where a block is in the file, by its entry: 0 if it reads as zeros."""
    state = entry & _STATE_MASK
    if state in _ZERO_STATES:
        return 0
    place = entry >> 20 << 20
    if state != _FULLY_PRESENT or not place:
        raise MalformedImageError(f"a block of the VHDX is in state {state} at byte {place}")
    return place


def _check_header(file: ByteFile) -> None:
    """Of two headers the intact one with the greater sequence number counts; its log must be empty (MS-VHDX 2.2.2)."""
    intact = []
    for offset in _HEADER_OFFSETS:
        data = file.read_exactly(offset, _HEADER_SIZE, "the VHDX header")
        signature, checksum, sequence, _, _, log_guid, _, version, _, _ = _HEADER.unpack_from(data)
        if signature == b"head" and checksum == _checksum(data):
            intact.append((sequence, any(log_guid), version))
    if not intact:
        raise MalformedImageError("both headers of the VHDX are damaged")
    _, has_log, version = max(intact)
    if version != 1:
        raise MalformedImageError(f"VHDX version {version} is not known")
    if has_log:
        raise UnsupportedImageError("the VHDX was not closed: changes in its log are yet to be replayed")


def _read_regions(file: ByteFile) -> Mapping[UUID, _Region]:
    data = file.read_exactly(_REGION_TABLE_OFFSET, _REGION_TABLE_SIZE, "the VHDX region table")
    signature, checksum, count = struct.unpack_from("<4sII", data)
    if signature != b"regi" or checksum != _checksum(data) or count > _ENTRY_LIMIT:
        raise MalformedImageError("the VHDX region table is damaged")
    regions: dict[UUID, _Region] = {}
    for index in range(count):
        guid, offset, length, required = _REGION_ENTRY.unpack_from(data, 16 + index * _REGION_ENTRY.size)
        name = UUID(bytes_le=guid)
        if name in _REGIONS:
            if name in regions or offset < _MIB or offset % _MIB or length % _MIB or not length:
                raise MalformedImageError("the VHDX region table contradicts itself")
            regions[name] = _Region(offset, length)
        elif required & 1:
            raise MalformedImageError(f"the VHDX needs the unknown region {name}")
    if regions.keys() != _REGIONS:
        raise MalformedImageError("the VHDX has no block table or no metadata")
    return regions


def _read_metadata(file: ByteFile, region: _Region) -> _Shape:
    values = _metadata_values(file, region)
    block_size, flags = values[_FILE_PARAMETERS]
    (size,), (sector_size,) = values[_DISK_SIZE], values[_LOGICAL_SECTOR_SIZE]
    if flags & _HAS_PARENT:
        raise DifferencingDiskError("the VHDX holds the difference to another disk only")
    if not _MIB <= block_size <= 256 * _MIB or block_size & (block_size - 1):
        raise MalformedImageError(f"the VHDX's block size is {block_size} bytes")
    if sector_size not in (512, 4096) or not 0 < size <= _MAX_DISK_SIZE or size % sector_size:
        raise MalformedImageError(f"the VHDX's disk has {size} bytes in sectors of {sector_size}")
    return _Shape(size, block_size, _SECTORS_OF_BITMAP * sector_size // block_size)


def _metadata_values(file: ByteFile, region: _Region) -> Mapping[UUID, tuple[int, ...]]:
    """The items that count, by id; a required one that is not known makes the file unreadable (MS-VHDX 2.6.1.2)."""
    data = file.read_exactly(region.offset, _METADATA_TABLE_SIZE, "the VHDX metadata table")
    signature, _, count = struct.unpack_from("<8sHH", data)
    if signature != b"metadata" or count > _ENTRY_LIMIT:
        raise MalformedImageError("the VHDX metadata table is damaged")
    values: dict[UUID, tuple[int, ...]] = {}
    for index in range(count):
        guid, offset, length, flags, _ = _METADATA_ENTRY.unpack_from(data, 32 + index * _METADATA_ENTRY.size)
        name = UUID(bytes_le=guid)
        if name == _PARENT_LOCATOR:
            raise DifferencingDiskError("the VHDX names a parent disk")
        if name not in _VALUES:
            if flags & _IS_REQUIRED and name not in _NOT_NEEDED:
                raise MalformedImageError(f"the VHDX needs the unknown metadata item {name}")
            continue
        layout = struct.Struct(_VALUES[name])
        if name in values or length != layout.size or not _METADATA_TABLE_SIZE <= offset <= region.length - length:
            raise MalformedImageError("the VHDX metadata table contradicts itself")
        values[name] = layout.unpack(file.read_exactly(region.offset + offset, length, "an item of the VHDX metadata"))
    if values.keys() != _VALUES.keys():
        raise MalformedImageError("the VHDX metadata does not describe the disk")
    return values


def _checksum(data: bytes) -> int:
    """CRC-32C of a structure, its own field at bytes 4-7 taken as zero."""
    return crc32c(data[:4] + bytes(4) + data[8:])


READER = Reader(DiskFormat.VHDX, _open)
