"""VDI, VirtualBox's disk image (VirtualBox, VDICore.h; QEMU, block/vdi.c): header version 1.1."""

from __future__ import annotations

from array import array
from uuid import UUID

from tintype.domain.errors import DecompressionBombError, DifferencingDiskError, MalformedImageError, TruncatedError
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect.inspection import Findings
from tintype.inspect.registry import FactSpec, Format, Rule
from tintype.inspect.stream import Parsing, Stream
from tintype.inspect.tables.allocation import Allocation, read_claims
from tintype.inspect.tables.rules import DISK_RULES
from tintype.inspect.tables.vdi_header import (
    DISCARDED,
    HEADER,
    SIGNATURE,
    SIGNATURE_OFFSET,
    SUBTYPES,
    VdiHeader,
    parse_header,
)


def _in_head(head: bytes) -> bool:
    return head.startswith(SIGNATURE, SIGNATURE_OFFSET)


def _parse(stream: Stream) -> Parsing:
    header = parse_header(stream.head_exactly(0, HEADER.size, "the VDI header"))
    stream.require_admissible(header.disk_size)
    allocation = Allocation("VDI blocks")
    map_size = header.blocks * 4
    yield from read_claims(stream, header.map_offset, map_size, "I", _stored, allocation, header.block_size)
    if allocation.highest >= header.blocks:
        raise MalformedImageError("the VDI block map points beyond its last block")
    yield from stream.end()
    stream.require_size(header.map_offset + map_size, "the VDI block map")
    stored = max(header.allocated, allocation.highest + 1)
    stream.require_size(header.data_offset + stored * header.block_size, "the VDI's last block")
    allocation.require_backed(stream.size)
    # VBoxManage makes disks of any number of bytes; a guest sees whole sectors (QEMU, block/vdi.c: vdi_open).
    return Findings(-(-header.disk_size // header.sector_size) * header.sector_size, _facts(header))


def _stored(entries: array[int]) -> list[int]:
    return [entry for entry in entries if entry < DISCARDED]


def _facts(header: VdiHeader) -> dict[str, PropertyValue]:
    cylinders, heads, sectors = header.geometry
    creator = header.creator.split(b"\0", 1)[0].decode("ascii", "replace").strip("<> \r\n")
    facts: dict[str, PropertyValue] = {
        "vdi_subtype": SUBTYPES[header.image_type],
        "vdi_version": "1.1",
        "vdi_block_size_bytes": header.block_size,
        "vdi_uuid": str(UUID(bytes_le=header.uuid)),
    }
    if creator:
        facts["vdi_creator"] = creator
    if cylinders:
        facts["vdi_geometry"] = f"{cylinders}/{heads}/{sectors}"
    return facts


FORMAT = Format(
    DiskFormat.VDI,
    _parse,
    in_head=_in_head,
    facts=(
        FactSpec("vdi_subtype", str, "VDI header, image type", "dynamic or static"),
        FactSpec("vdi_version", str, "VDI header, version", "version of the format"),
        FactSpec("vdi_block_size_bytes", int, "VDI header, block size", "unit of allocation"),
        FactSpec("vdi_uuid", str, "VDI header, UUID of the image", "identifies the image"),
        FactSpec("vdi_creator", str, "VDI header, bytes 0-63", "program that made it"),
        FactSpec("vdi_geometry", str, "VDI header, legacy geometry", "cylinders/heads/sectors"),
    ),
    rules=(
        Rule(DifferencingDiskError, "undo and differencing images; a linked or a parent image's UUID"),
        Rule(MalformedImageError, "unknown versions; sector, block or map sizes that do not fit the disk"),
        Rule(MalformedImageError, "a block map that lies over the header or the blocks, or points beyond them"),
        Rule(DecompressionBombError, "entries of the block map that share a block"),
        Rule(TruncatedError, "a header, a block map or blocks that end beyond the file"),
        *DISK_RULES,
    ),
)
