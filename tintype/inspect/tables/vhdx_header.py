"""The structures of VHDX (Microsoft, MS-VHDX 2) that lead to its block table: headers, region table and metadata."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from tintype.domain.errors import DifferencingDiskError, MalformedImageError, UnsupportedImageError
from tintype.inspect.stream import ReadExactly
from tintype.inspect.tables.crc32c import crc32c

SIGNATURE = b"vhdxfile"
_KIB, MIB = 1024, 1024 * 1024
_HEADER_OFFSETS, _HEADER_SIZE = (64 * _KIB, 128 * _KIB), 4 * _KIB
_HEADER = struct.Struct("<4sIQ16s16s16sHHIQ")
_REGION_TABLE_OFFSET, _REGION_TABLE_SIZE = 192 * _KIB, 64 * _KIB
_REGION_ENTRY = struct.Struct("<16sQII")
_MAX_ENTRIES = 2047
BAT = UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
METADATA = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")

MAX_METADATA_SIZE = 2 * MIB
"""The table of items and the items: all that are known have 40 bytes, behind the table's 64 KiB."""
_METADATA_TABLE_SIZE = 64 * _KIB
_METADATA_ENTRY = struct.Struct("<16sIIII")
_FILE_PARAMETERS = UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
_DISK_SIZE = UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
_DISK_ID = UUID("beca12ab-b2e6-4523-93ef-c309e000c746")
_LOGICAL_SECTOR_SIZE = UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f")
_PHYSICAL_SECTOR_SIZE = UUID("cda348c7-445d-4471-9cc9-e9885251c556")
_PARENT_LOCATOR = UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")
_ITEM_SIZES = {
    _FILE_PARAMETERS: 8,
    _DISK_SIZE: 8,
    _DISK_ID: 16,
    _LOGICAL_SECTOR_SIZE: 4,
    _PHYSICAL_SECTOR_SIZE: 4,
    _PARENT_LOCATOR: None,
}
"""The items that are known, and the bytes that each has (MS-VHDX 2.6.2)."""

_ITEM_IS_REQUIRED = 4
_HAS_PARENT = 2
_MAX_DISK_SIZE = 64 * 1024**4
_SECTORS_OF_BITMAP = 1 << 23
"""A block of the sector bitmap stands for so many sectors (MS-VHDX 2.5): a chunk."""
STATE_MASK = 7
"""The bits of a block table's entry that tell the block's state; the upper 44 are its place in MiB."""


@dataclass(frozen=True, slots=True)
class VhdxRegion:
    """Where a table lies in the file, in bytes."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class VhdxDisk:
    """What the metadata say; sizes in bytes."""

    size: int
    block_size: int
    leaves_blocks_allocated: bool
    logical_sector_size: int
    physical_sector_size: int
    disk_id: UUID | None

    @property
    def chunk_blocks(self) -> int:
        """Blocks of a chunk, whose entries in the block table an entry for a sector bitmap follows (MS-VHDX 2.5)."""
        return _SECTORS_OF_BITMAP * self.logical_sector_size // self.block_size

    @property
    def table_entries(self) -> int:
        """Entries of the block table, those for sector bitmaps included."""
        blocks = -(-self.size // self.block_size)
        return blocks + (blocks - 1) // self.chunk_blocks


def check_header(read_exactly: ReadExactly) -> None:
    """Check the current header: of two the intact one with the greater sequence number (MS-VHDX 2.2.2).

    Raises:
        MalformedImageError: neither is intact, or the version is not known.
        UnsupportedImageError: the log is not empty.
        TruncatedError: the file ends before them.
    """
    current: tuple[int, bytes, int] | None = None
    for offset in _HEADER_OFFSETS:
        data = read_exactly(offset, _HEADER_SIZE, "the VHDX header")
        signature, checksum, sequence, _, _, log_guid, _, version, _, _ = _HEADER.unpack_from(data)
        is_intact = signature == b"head" and checksum == _checksum(data)
        if is_intact and (current is None or sequence > current[0]):
            current = sequence, log_guid, version
    if current is None:
        raise MalformedImageError("both headers of the VHDX are damaged")
    if current[2] != 1:
        raise MalformedImageError(f"VHDX version {current[2]} is not known")
    if any(current[1]):
        raise UnsupportedImageError(
            "the VHDX was not closed: changes in its log are yet to be replayed; open it once where it was made"
        )


def read_regions(read_exactly: ReadExactly) -> Mapping[UUID, VhdxRegion]:
    """Where the block table and the metadata lie, by :data:`BAT` and :data:`METADATA`.

    Raises:
        MalformedImageError: the region table is damaged, contradicts itself, or asks for what is not known.
        TruncatedError: the file ends before it.
    """
    data = read_exactly(_REGION_TABLE_OFFSET, _REGION_TABLE_SIZE, "the VHDX region table")
    signature, checksum, count = struct.unpack_from("<4sII", data)
    if signature != b"regi" or checksum != _checksum(data) or count > _MAX_ENTRIES:
        raise MalformedImageError("the VHDX region table is damaged")
    regions: dict[UUID, VhdxRegion] = {}
    for index in range(count):
        guid, offset, length, required = _REGION_ENTRY.unpack_from(data, 16 + index * _REGION_ENTRY.size)
        name = UUID(bytes_le=guid)
        if name not in (BAT, METADATA):
            if required & 1:
                raise MalformedImageError(f"the VHDX needs the unknown region {name}")
            continue
        if name in regions or offset < MIB or offset % MIB or length % MIB or not length:
            raise MalformedImageError("the VHDX region table contradicts itself")
        regions[name] = VhdxRegion(offset, length)
    if regions.keys() != {BAT, METADATA}:
        raise MalformedImageError("the VHDX has no block table or no metadata")
    first, second = sorted(regions.values(), key=lambda region: region.offset)
    if second.offset < first.offset + first.length:
        raise MalformedImageError("the VHDX's block table and its metadata overlap")
    return regions


def parse_metadata(data: bytes) -> VhdxDisk:
    """Read the metadata's region, of which the first :data:`MAX_METADATA_SIZE` bytes are enough.

    Raises:
        MalformedImageError: an item is missing, not known, or beyond what a disk has.
        DifferencingDiskError: the disk is not in this file alone.
    """
    items = _metadata_items(data)
    if _PARENT_LOCATOR in items:
        raise DifferencingDiskError("the VHDX names a parent disk")
    block_size, flags = struct.unpack("<II", items[_FILE_PARAMETERS])
    if flags & _HAS_PARENT:
        raise DifferencingDiskError("the VHDX holds the difference to another disk only")
    (size,) = struct.unpack("<Q", items[_DISK_SIZE])
    (logical,) = struct.unpack("<I", items[_LOGICAL_SECTOR_SIZE])
    (physical,) = struct.unpack("<I", items[_PHYSICAL_SECTOR_SIZE])
    if not MIB <= block_size <= 256 * MIB or block_size & (block_size - 1):
        raise MalformedImageError(f"the VHDX's block size is {block_size} bytes")
    if logical not in (512, 4096) or physical not in (512, 4096):
        raise MalformedImageError(f"the VHDX's sectors have {logical} and {physical} bytes")
    if not 0 < size <= _MAX_DISK_SIZE or size % logical:
        raise MalformedImageError(f"the VHDX's disk has {size} bytes")
    disk_id = UUID(bytes_le=items[_DISK_ID]) if _DISK_ID in items else None
    return VhdxDisk(size, block_size, bool(flags & 1), logical, physical, disk_id)


def _metadata_items(data: bytes) -> Mapping[UUID, bytes]:
    """All items by id; a required one that is not known, or two of one id, make the file unreadable."""
    signature, _, count = struct.unpack_from("<8sHH", data)
    if signature != b"metadata" or count > _MAX_ENTRIES:
        raise MalformedImageError("the VHDX metadata table is damaged")
    items: dict[UUID, bytes] = {}
    for index in range(count):
        guid, offset, length, flags, _ = _METADATA_ENTRY.unpack_from(data, 32 + index * _METADATA_ENTRY.size)
        name = UUID(bytes_le=guid)
        if name not in _ITEM_SIZES:
            if flags & _ITEM_IS_REQUIRED:
                raise MalformedImageError(f"the VHDX needs the unknown metadata item {name}")
            continue
        if name in items or offset < _METADATA_TABLE_SIZE or offset + length > len(data):
            raise MalformedImageError("the VHDX metadata table contradicts itself")
        if length != (_ITEM_SIZES[name] or length):
            raise MalformedImageError(f"the VHDX metadata item {name} has {length} bytes")
        items[name] = data[offset : offset + length]
    for needed in (_FILE_PARAMETERS, _DISK_SIZE, _LOGICAL_SECTOR_SIZE, _PHYSICAL_SECTOR_SIZE):
        if needed not in items:
            raise MalformedImageError(f"the VHDX has no metadata item {needed}")
    return items


def _checksum(data: bytes) -> int:
    """CRC-32C of a structure, its own field at bytes 4-7 taken as zero."""
    return crc32c(data[:4] + bytes(4) + data[8:])
