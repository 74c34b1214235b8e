"""VHDX (Microsoft, MS-VHDX 2): the headers, the region table, the metadata, and where the block table points."""

from __future__ import annotations

from array import array
from collections.abc import Generator, Mapping
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
from tintype.inspect.stream import Parsing, Stream, Wish
from tintype.inspect.tables.allocation import Allocation, read_claims
from tintype.inspect.tables.rules import DISK_RULES
from tintype.inspect.tables.vhdx_header import (
    BAT,
    MAX_METADATA_SIZE,
    METADATA,
    MIB,
    SIGNATURE,
    STATE_MASK,
    VhdxDisk,
    VhdxRegion,
    check_header,
    parse_metadata,
    read_regions,
)

_CREATOR_SIZE = 512
_PRESENT = (6, 7)  # fully, partially (MS-VHDX 2.5.1.1)


def _in_head(head: bytes) -> bool:
    return head.startswith(SIGNATURE)


def _parse(stream: Stream) -> Parsing:
    check_header(stream.head_exactly)
    regions = read_regions(stream.head_exactly)
    allocation = Allocation("VHDX blocks")
    disk = yield from _read_tables(regions, stream, allocation)
    stream.require_admissible(disk.size)
    if disk.table_entries * 8 > regions[BAT].length:
        raise MalformedImageError("the VHDX's block table is too short for its disk")
    yield from stream.end()
    for region in regions.values():
        stream.require_size(region.offset + region.length, "a region of the VHDX")
    if allocation.highest >= 0:
        stream.require_size(allocation.highest * MIB + disk.block_size, "the VHDX's last block")
    allocation.require_backed(stream.size, unit=disk.block_size)
    return Findings(disk.size, _facts(disk, stream.head))


def _read_tables(
    regions: Mapping[UUID, VhdxRegion], stream: Stream, allocation: Allocation
) -> Generator[Wish, bytes, VhdxDisk]:
    """The metadata and the block table, in the order of the file. Blocks are counted: their size may come last."""
    disk: VhdxDisk | None = None
    for name, region in sorted(regions.items(), key=lambda item: item[1].offset):
        if name == METADATA:
            length = min(region.length, MAX_METADATA_SIZE)
            disk = parse_metadata((yield from stream.read_exactly(region.offset, length, "the VHDX's metadata")))
            stream.require_admissible(disk.size)
        else:
            length = min(region.length, disk.table_entries * 8) if disk else region.length
            yield from read_claims(stream, region.offset, length, "Q", _stored, allocation, 1)
    assert disk is not None  # its region is required
    return disk


def _stored(entries: array[int]) -> list[int]:
    """Where blocks are stored, in MiB."""
    places = [entry >> 20 for entry in entries if entry & STATE_MASK in _PRESENT]
    if places and not min(places):
        raise MalformedImageError("a block of the VHDX lies over its headers")
    return places


def _facts(disk: VhdxDisk, head: bytes) -> dict[str, PropertyValue]:
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
