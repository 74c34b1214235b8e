"""VDI, VirtualBox's disk image (VirtualBox, VDICore.h; QEMU, block/vdi.c): dynamic and static, version 1.1."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from tintype.disks.block_disk import PIECE_ENTRIES, BlockDisk, BlockLayout, EntryTable, whole_sectors
from tintype.disks.byte_file import ByteFile
from tintype.disks.disk import SECTOR_SIZE, Disk
from tintype.disks.opening import Reader
from tintype.domain.errors import DifferencingDiskError, MalformedImageError
from tintype.domain.values import DiskFormat

_SIGNATURE_OFFSET = 0x40
_SIGNATURE = b"\x7f\x10\xda\xbe"
_HEADER = struct.Struct("<4sIIII256sIIIIIIIQIIII16s16s16s16s")
_VERSION_1_1 = 0x0001_0001
_DYNAMIC, _STATIC = 1, 2
_NO_UUID = bytes(16)
_BLOCK_SIZE = 1024 * 1024
_DISCARDED = 0xFFFF_FFFE
"""Entries from here on stand for blocks that are not stored."""
_NOT_STORED = frozenset({_DISCARDED, _DISCARDED + 1})
_MAX_BLOCKS = 0x2000_0000


@dataclass(frozen=True, slots=True)
class _Header:
    map_offset: int
    data_offset: int
    disk_size: int
    blocks: int


def _open(file: ByteFile) -> Disk:
    header = _read_header(file)
    table = EntryTable(file, header.map_offset, header.blocks, "I", "the VDI block map", _NOT_STORED)

    def locate(piece: int) -> Sequence[int]:
        entries = table.read(piece * PIECE_ENTRIES, PIECE_ENTRIES)
        if any(header.blocks <= entry < _DISCARDED for entry in entries):
            raise MalformedImageError("the VDI block map points beyond its last block")
        return [0 if entry >= _DISCARDED else header.data_offset + entry * _BLOCK_SIZE for entry in entries]

    # VBoxManage makes disks of any number of bytes; a guest sees whole sectors (QEMU, block/vdi.c: vdi_open).
    return BlockDisk(file, BlockLayout(whole_sectors(header.disk_size), _BLOCK_SIZE, PIECE_ENTRIES, locate))


def _read_header(file: ByteFile) -> _Header:
    fields = _HEADER.unpack(file.read_exactly(_SIGNATURE_OFFSET, _HEADER.size, "the VDI header"))
    signature, version, _, image_type, _, _, map_offset, data_offset, _, _, _, sector_size, _ = fields[:13]
    disk_size, block_size, block_extra, blocks, _, _, _, link_uuid, parent_uuid = fields[13:]
    if signature != _SIGNATURE or version != _VERSION_1_1:
        raise MalformedImageError(f"this is no VDI of version 1.1, but {version:#x}")
    if image_type not in (_DYNAMIC, _STATIC) or link_uuid != _NO_UUID or parent_uuid != _NO_UUID:
        raise DifferencingDiskError("the VDI holds the difference to another disk only")
    if sector_size != SECTOR_SIZE or block_size != _BLOCK_SIZE or block_extra:
        raise MalformedImageError("the VDI has sectors or blocks of another size than VirtualBox makes")
    if blocks > _MAX_BLOCKS or blocks * _BLOCK_SIZE < disk_size:
        raise MalformedImageError(f"{blocks} VDI blocks do not fit a disk of {disk_size} bytes")
    if map_offset % SECTOR_SIZE or data_offset % SECTOR_SIZE or map_offset < SECTOR_SIZE or data_offset < SECTOR_SIZE:
        raise MalformedImageError("the VDI's tables lie between two sectors")
    return _Header(map_offset, data_offset, disk_size, blocks)


READER = Reader(DiskFormat.VDI, _open)
