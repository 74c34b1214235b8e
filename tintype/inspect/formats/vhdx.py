"""VHDX (Microsoft, MS-VHDX 2): the headers, the region table, the metadata, and where the block table points."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from uuid import UUID

from tintype.domain.errors import (
    DecompressionBombError,
    DifferencingDiskError,
    MalformedImageError,
    TruncatedError,
    UnsupportedImageError,
)
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect.inspection import Findings
from tintype.inspect.registry import FactSpec, Format, Rule
from tintype.inspect.stream import MAX_REGION_SIZE, Parsing, Region, Stream, Wish
from tintype.inspect.tables.allocation import Allocation, read_claims
from tintype.inspect.tables.crc32c import crc32c
from tintype.inspect.tables.rules import DISK_RULES

_SIGNATURE = b"vhdxfile"
_KIB, _MIB = 1024, 1024 * 1024
_CREATOR_SIZE = 512

_HEADER_OFFSETS, _HEADER_SIZE = (64 * _KIB, 128 * _KIB), 4 * _KIB
_HEADER = struct.Struct("<4sIQ16s16s16sHHIQ")
_REGION_TABLE_OFFSET, _REGION_TABLE_SIZE = 192 * _KIB, 64 * _KIB
_REGION_ENTRY = struct.Struct("<16sQII")
_MAX_REGIONS = 2047
_BAT = UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
_METADATA = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")

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
_BLOCK_STATE_MASK = 7
_PRESENT = (6, 7)  # fully, partially (MS-VHDX 2.5.1.1)


@dataclass(frozen=True, slots=True)
class _Disk:
    """What the metadata region says; sizes in bytes."""

    size: int
    block_size: int
    leaves_blocks_allocated: bool
    logical_sector_size: int
    physical_sector_size: int
    disk_id: UUID | None

    @property
    def table_entries(self) -> int:
        """Entries of the block table, of which one in each chunk stands for a sector bitmap (MS-VHDX 2.5)."""
        chunk_ratio = (1 << 23) * self.logical_sector_size // self.block_size
        blocks = -(-self.size // self.block_size)
        return blocks + (blocks - 1) // chunk_ratio


def _in_head(head: bytes) -> bool:
    return head.startswith(_SIGNATURE)


def _parse(stream: Stream) -> Parsing:
    _check_header(stream)
    regions = _read_regions(stream)
    if _BAT not in regions or _METADATA not in regions:
        raise MalformedImageError("the VHDX has no block table or no metadata")
    _check_layout(regions)
    allocation = Allocation("VHDX blocks")
    disk = yield from _read_tables(regions, stream, allocation)
    stream.require_admissible(disk.size)
    if disk.table_entries * 8 > regions[_BAT].length:
        raise MalformedImageError("the VHDX's block table is too short for its disk")
    yield from stream.end()
    for region in regions.values():
        stream.require_size(region.offset + region.length, "a region of the VHDX")
    if allocation.highest >= 0:
        stream.require_size(allocation.highest * _MIB + disk.block_size, "the VHDX's last block")
    allocation.require_backed(stream.size, unit=disk.block_size)
    return Findings(disk.size, _facts(disk, stream.head))


def _check_header(stream: Stream) -> None:
    """Of two headers the intact one with the greater sequence number counts; its log must be empty (MS-VHDX 2.2.2)."""
    current: tuple[int, bytes, int] | None = None
    for offset in _HEADER_OFFSETS:
        data = stream.head_exactly(offset, _HEADER_SIZE, "the VHDX header")
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


def _read_regions(stream: Stream) -> Mapping[UUID, Region]:
    data = stream.head_exactly(_REGION_TABLE_OFFSET, _REGION_TABLE_SIZE, "the VHDX region table")
    signature, checksum, count = struct.unpack_from("<4sII", data)
    if signature != b"regi" or checksum != _checksum(data) or count > _MAX_REGIONS:
        raise MalformedImageError("the VHDX region table is damaged")
    regions: dict[UUID, Region] = {}
    for index in range(count):
        guid, offset, length, required = _REGION_ENTRY.unpack_from(data, 16 + index * _REGION_ENTRY.size)
        name = UUID(bytes_le=guid)
        if name not in (_BAT, _METADATA):
            if required & 1:
                raise MalformedImageError(f"the VHDX needs the unknown region {name}")
            continue
        if name in regions or offset < _MIB or offset % _MIB or length % _MIB or not length:
            raise MalformedImageError("the VHDX region table contradicts itself")
        regions[name] = Region(offset, length)
    return regions


def _check_layout(regions: Mapping[UUID, Region]) -> None:
    first, second = sorted(regions.values(), key=lambda region: region.offset)
    if second.offset < first.offset + first.length:
        raise MalformedImageError("the VHDX's block table and its metadata overlap")


def _read_tables(
    regions: Mapping[UUID, Region], stream: Stream, allocation: Allocation
) -> Generator[Wish, bytes, _Disk]:
    """The metadata and the block table, in the order of the file. Blocks are counted: their size may come last."""
    disk: _Disk | None = None
    for name, region in sorted(regions.items(), key=lambda item: item[1].offset):
        if name == _METADATA:
            length = min(region.length, MAX_REGION_SIZE)
            disk = _read_metadata((yield from stream.read_exactly(region.offset, length, "the VHDX's metadata")))
            stream.require_admissible(disk.size)
        else:
            length = min(region.length, disk.table_entries * 8) if disk else region.length
            yield from read_claims(stream, region.offset, length, "Q", _stored, allocation, 1)
    assert disk is not None  # its region is required
    return disk


def _stored(entries: array[int]) -> list[int]:
    """Where blocks are stored, in MiB."""
    places = [entry >> 20 for entry in entries if entry & _BLOCK_STATE_MASK in _PRESENT]
    if places and not min(places):
        raise MalformedImageError("a block of the VHDX lies over its headers")
    return places


def _read_metadata(data: bytes) -> _Disk:
    items = _metadata_items(data)
    if _PARENT_LOCATOR in items:
        raise DifferencingDiskError("the VHDX names a parent disk")
    block_size, flags = struct.unpack("<II", items[_FILE_PARAMETERS])
    if flags & _HAS_PARENT:
        raise DifferencingDiskError("the VHDX holds the difference to another disk only")
    (size,) = struct.unpack("<Q", items[_DISK_SIZE])
    (logical,) = struct.unpack("<I", items[_LOGICAL_SECTOR_SIZE])
    (physical,) = struct.unpack("<I", items[_PHYSICAL_SECTOR_SIZE])
    if not _MIB <= block_size <= 256 * _MIB or block_size & (block_size - 1):
        raise MalformedImageError(f"the VHDX's block size is {block_size} bytes")
    if logical not in (512, 4096) or physical not in (512, 4096):
        raise MalformedImageError(f"the VHDX's sectors have {logical} and {physical} bytes")
    if not 0 < size <= _MAX_DISK_SIZE or size % logical:
        raise MalformedImageError(f"the VHDX's disk has {size} bytes")
    disk_id = UUID(bytes_le=items[_DISK_ID]) if _DISK_ID in items else None
    return _Disk(size, block_size, bool(flags & 1), logical, physical, disk_id)


def _metadata_items(data: bytes) -> Mapping[UUID, bytes]:
    """All items by id; a required one that is not known, or two of one id, make the file unreadable."""
    signature, _, count = struct.unpack_from("<8sHH", data)
    if signature != b"metadata" or count > _MAX_REGIONS:
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


def _facts(disk: _Disk, head: bytes) -> dict[str, PropertyValue]:
    creator = head[8 : 8 + _CREATOR_SIZE].decode("utf-16-le", "replace").split("\0", 1)[0].strip()
    facts: dict[str, PropertyValue] = {
        "vhdx_block_size_bytes": disk.block_size,
        "vhdx_subtype": "fixed" if disk.leaves_blocks_allocated else "dynamic",
        "vhdx_logical_sector_size_bytes": disk.logical_sector_size,
        "vhdx_physical_sector_size_bytes": disk.physical_sector_size,
    }
    if creator.isprintable() and creator:
        facts["vhdx_creator"] = creator
    return facts | ({"vhdx_uuid": str(disk.disk_id)} if disk.disk_id else {})


FORMAT = Format(
    DiskFormat.VHDX,
    _parse,
    in_head=_in_head,
    facts=(
        FactSpec("vhdx_block_size_bytes", int, "VHDX file parameters", "unit of allocation"),
        FactSpec("vhdx_subtype", str, "VHDX file parameters", "fixed or dynamic"),
        FactSpec("vhdx_logical_sector_size_bytes", int, "VHDX metadata", "sector size that the guest sees"),
        FactSpec("vhdx_physical_sector_size_bytes", int, "VHDX metadata", "sector size of the medium beneath"),
        FactSpec("vhdx_creator", str, "VHDX file identifier", "program that made it"),
        FactSpec("vhdx_uuid", str, "VHDX metadata, virtual disk id", "identifies the disk"),
    ),
    rules=(
        Rule(DifferencingDiskError, "a parent locator, or the flag that there is a parent"),
        Rule(UnsupportedImageError, "a log that is yet to be replayed"),
        Rule(MalformedImageError, "damaged headers, region or metadata tables; unknown required regions or items"),
        Rule(MalformedImageError, "sizes of disk, blocks, sectors and block table that do not fit each other"),
        Rule(MalformedImageError, "regions that overlap or lie askew"),
        Rule(DecompressionBombError, "entries of the block table that share a block"),
        Rule(TruncatedError, "regions or blocks that end beyond the file"),
        *DISK_RULES,
    ),
)
