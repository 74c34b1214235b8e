"""The header of VDI, VirtualBox's disk image (VirtualBox, VDICore.h; QEMU, block/vdi.c): version 1.1."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tintype.domain.errors import DifferencingDiskError, MalformedImageError

SIGNATURE_OFFSET = 0x40
SIGNATURE = b"\x7f\x10\xda\xbe"
HEADER = struct.Struct("<64s4sIIII256sIIIIIIIQIIII16s16s16s16s")
DISCARDED = 0xFFFF_FFFE
"""Entries of the block map from here on stand for blocks that are not stored."""
SUBTYPES = {1: "dynamic", 2: "static"}

_VERSION_1_1 = 0x0001_0001
_DIFFERENCES = (3, 4)  # undo, differencing
_NO_UUID = bytes(16)
_SECTOR_SIZE = 512
_BLOCK_SIZE = 1024 * 1024
_MAX_BLOCKS = 0x2000_0000  # QEMU's VDI_BLOCKS_IN_IMAGE_MAX is as large


@dataclass(frozen=True, slots=True)
class VdiHeader:
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


def parse_header(data: bytes) -> VdiHeader:
    """Read a header of :data:`HEADER`'s size.

    Raises:
        MalformedImageError: it is none of the known version, or contradicts itself.
        DifferencingDiskError: the disk is not in this file alone.
    """
    header = _unpack(data)
    if header.image_type in _DIFFERENCES or header.link_uuid != _NO_UUID or header.parent_uuid != _NO_UUID:
        raise DifferencingDiskError("the VDI holds the difference to another disk only")
    _check_geometry(header)
    return header


def _unpack(data: bytes) -> VdiHeader:
    fields = HEADER.unpack(data)
    creator, signature, version, _, image_type, _, _, map_offset, data_offset, *geometry, sector_size, _ = fields[:14]
    disk_size, block_size, block_extra, blocks, allocated, uuid, _, link_uuid, parent_uuid = fields[14:]
    if signature != SIGNATURE or version != _VERSION_1_1:
        raise MalformedImageError(f"this is no VDI of version 1.1, but {version:#x}")
    return VdiHeader(
        creator, image_type, map_offset, data_offset, tuple(geometry), sector_size,
        disk_size, block_size, block_extra, blocks, allocated, uuid, link_uuid, parent_uuid,
    )  # fmt: skip


def _check_geometry(header: VdiHeader) -> None:
    if header.image_type not in SUBTYPES:
        raise MalformedImageError(f"VDI type {header.image_type} is not known")
    if header.sector_size != _SECTOR_SIZE or header.block_size != _BLOCK_SIZE or header.block_extra:
        raise MalformedImageError("the VDI has sectors or blocks of another size than VirtualBox makes")
    if header.blocks > _MAX_BLOCKS or header.blocks * header.block_size < header.disk_size:
        raise MalformedImageError(f"{header.blocks} VDI blocks do not fit a disk of {header.disk_size} bytes")
    if header.allocated > header.blocks:
        raise MalformedImageError(f"the VDI stores {header.allocated} of {header.blocks} blocks")
    if header.map_offset % _SECTOR_SIZE or header.data_offset % _SECTOR_SIZE or header.map_offset < _SECTOR_SIZE:
        raise MalformedImageError("the VDI's tables lie between two sectors")
    if header.map_offset + header.blocks * 4 > header.data_offset:
        raise MalformedImageError("the VDI's blocks lie over its block map")
