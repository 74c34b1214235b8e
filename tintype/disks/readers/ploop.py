"""Ploop, the expandable image of Parallels and Virtuozzo (QEMU, docs/interop/parallels.txt): versions 1 and 2."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from tintype.disks.block_disk import PIECE_ENTRIES, BlockDisk, BlockLayout, EntryTable
from tintype.disks.byte_file import ByteFile
from tintype.disks.disk import SECTOR_SIZE, Disk
from tintype.disks.opening import Reader
from tintype.domain.errors import MalformedImageError, UnsupportedImageError
from tintype.domain.values import DiskFormat

_MAGIC_1, _MAGIC_2 = b"WithoutFreeSpace", b"WithouFreSpacExt"
_HEADER = struct.Struct("<16sIIIIIQIIIQ")
_VERSION = 2
_IN_USE = 0x746F_6E59
_MAX_CLUSTER_SECTORS = 1 << 21


@dataclass(frozen=True, slots=True)
class _Header:
    """Sizes in sectors, but for the table's entries."""

    cluster: int
    entry_unit: int
    entries: int
    disk: int


def _open(file: ByteFile) -> Disk:
    header = _read_header(file)
    table = EntryTable(file, _HEADER.size, header.entries, "I", "the ploop block table", frozenset({0}))
    first = _HEADER.size + header.entries * 4
    unit = header.entry_unit * SECTOR_SIZE

    def locate(piece: int) -> Sequence[int]:
        places = [entry * unit for entry in table.read(piece * PIECE_ENTRIES, PIECE_ENTRIES)]
        if any(0 < place < first for place in places):
            raise MalformedImageError("the ploop block table names itself as a block of the disk")
        return places

    layout = BlockLayout(header.disk * SECTOR_SIZE, header.cluster * SECTOR_SIZE, PIECE_ENTRIES, locate)
    return BlockDisk(file, layout)


def _read_header(file: ByteFile) -> _Header:
    fields = _HEADER.unpack(file.read_exactly(0, _HEADER.size, "the ploop header"))
    magic, version, _, _, cluster, entries, disk, in_use, _, _, _ = fields
    if magic not in (_MAGIC_1, _MAGIC_2) or version != _VERSION:
        raise MalformedImageError("this is no ploop image of a known version")
    if in_use == _IN_USE:
        raise UnsupportedImageError("the ploop image was not closed: its table may not be true")
    if magic == _MAGIC_1:
        disk &= 0xFFFF_FFFF  # the other half belongs to version 2
    if not 1 <= cluster <= _MAX_CLUSTER_SECTORS:
        raise MalformedImageError(f"the ploop image has clusters of {cluster} sectors")
    if entries * cluster < disk:
        raise MalformedImageError(f"{entries} ploop clusters do not fit a disk of {disk} sectors")
    return _Header(cluster, cluster if magic == _MAGIC_2 else 1, entries, disk)


READER = Reader(DiskFormat.PLOOP, _open)
