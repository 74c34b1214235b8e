"""VDI, VirtualBox's disk image (VirtualBox, VDICore.h; QEMU, block/vdi.c): header version 1.1."""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass
from uuid import UUID

from tintype.domain.errors import DecompressionBombError, DifferencingDiskError, MalformedImageError, TruncatedError
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect.inspection import Findings
from tintype.inspect.registry import FactSpec, Format, Rule
from tintype.inspect.stream import Parsing, Stream
from tintype.inspect.tables.allocation import Allocation, read_claims
from tintype.inspect.tables.rules import DISK_RULES

_CREATOR_SIZE = 0x40
_SIGNATURE_OFFSET = 0x40
_SIGNATURE = b"\x7f\x10\xda\xbe"
_HEADER = struct.Struct("<4sIIII256sIIIIIIIQIIII16s16s16s16s")
_VERSION_1_1 = 0x0001_0001
_SUBTYPES = {1: "dynamic", 2: "static"}
_DIFFERENCES = (3, 4)  # undo, differencing
_NO_UUID = bytes(16)
_BLOCK_SIZE = 1024 * 1024
_DISCARDED = 0xFFFF_FFFE
"""Entries from here on stand for blocks that are not stored."""
_MAX_BLOCKS = 0x2000_0000  # QEMU's VDI_BLOCKS_IN_IMAGE_MAX is as large


@dataclass(frozen=True, slots=True)
class _Header:
    """The fields that count; sizes and offsets in bytes."""

    creator: bytes
    image_type: int
    map_offset: int
    data_offset: int
    geometry: tuple[int, int, int]
    sector_size: int
    disk_size: int
    block_size: int
    block_extra: int
    blocks: int
    allocated: int
    uuid: bytes
    link_uuid: bytes
    parent_uuid: bytes


def _in_head(head: bytes) -> bool:
    return head[_SIGNATURE_OFFSET : _SIGNATURE_OFFSET + 4] == _SIGNATURE


def _parse(stream: Stream) -> Parsing:
    header = _read_header(stream)
    if header.image_type in _DIFFERENCES or header.link_uuid != _NO_UUID or header.parent_uuid != _NO_UUID:
        raise DifferencingDiskError("the VDI holds the difference to another disk only")
    _check_geometry(header)
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


def _read_header(stream: Stream) -> _Header:
    fields = _HEADER.unpack(stream.head_exactly(_SIGNATURE_OFFSET, _HEADER.size, "the VDI header"))
    _, version, _, image_type, _, _, map_offset, data_offset, *geometry, sector_size, _ = fields[:13]
    disk_size, block_size, block_extra, blocks, allocated, uuid, _, link_uuid, parent_uuid = fields[13:]
    if version != _VERSION_1_1:
        raise MalformedImageError(f"VDI version {version:#x} is not known")
    return _Header(
        stream.head[:_CREATOR_SIZE], image_type, map_offset, data_offset, tuple(geometry), sector_size,
        disk_size, block_size, block_extra, blocks, allocated, uuid, link_uuid, parent_uuid,
    )  # fmt: skip


def _check_geometry(header: _Header) -> None:
    if header.image_type not in _SUBTYPES:
        raise MalformedImageError(f"VDI type {header.image_type} is not known")
    if header.sector_size != 512 or header.block_size != _BLOCK_SIZE or header.block_extra:
        raise MalformedImageError("the VDI has sectors or blocks of another size than VirtualBox makes")
    if header.blocks > _MAX_BLOCKS or header.blocks * header.block_size < header.disk_size:
        raise MalformedImageError(f"{header.blocks} VDI blocks do not fit a disk of {header.disk_size} bytes")
    if header.allocated > header.blocks:
        raise MalformedImageError(f"the VDI stores {header.allocated} of {header.blocks} blocks")
    if header.map_offset % 512 or header.data_offset % 512 or header.map_offset < 512:
        raise MalformedImageError("the VDI's tables lie between two sectors")
    if header.map_offset + header.blocks * 4 > header.data_offset:
        raise MalformedImageError("the VDI's blocks lie over its block map")


def _stored(entries: array[int]) -> list[int]:
    return [entry for entry in entries if entry < _DISCARDED]


def _facts(header: _Header) -> dict[str, PropertyValue]:
    cylinders, heads, sectors = header.geometry
    creator = header.creator.split(b"\0", 1)[0].decode("ascii", "replace").strip("<> \r\n")
    facts: dict[str, PropertyValue] = {
        "vdi_subtype": _SUBTYPES[header.image_type],
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
