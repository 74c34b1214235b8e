"""VDI, VirtualBox's disk image (VirtualBox, VDICore.h; QEMU, block/vdi.c): dynamic and static, version 1.1."""

from __future__ import annotations

from collections.abc import Sequence

from tintype.disks.block_disk import PIECE_ENTRIES, BlockDisk, BlockLayout, EntryTable, whole_sectors
from tintype.disks.byte_file import ByteFile
from tintype.disks.disk import Disk
from tintype.disks.opening import Reader
from tintype.domain.errors import MalformedImageError
from tintype.domain.values import DiskFormat
from tintype.inspect.tables.vdi_header import DISCARDED, HEADER, parse_header

_NOT_STORED = frozenset({DISCARDED, DISCARDED + 1})


def _open(file: ByteFile) -> Disk:
    header = parse_header(file.read_exactly(0, HEADER.size, "the VDI header"))
    table = EntryTable(file, header.map_offset, header.blocks, "I", "the VDI block map", _NOT_STORED)

    def locate(piece: int) -> Sequence[int]:
        entries = table.read(piece * PIECE_ENTRIES, PIECE_ENTRIES)
        if any(header.blocks <= entry < DISCARDED for entry in entries):
            raise MalformedImageError("the VDI block map points beyond its last block")
        return [0 if entry >= DISCARDED else header.data_offset + entry * header.block_size for entry in entries]

    # VBoxManage makes disks of any number of bytes; a guest sees whole sectors (QEMU, block/vdi.c: vdi_open).
    layout = BlockLayout(whole_sectors(header.disk_size), header.block_size, PIECE_ENTRIES, locate)
    return BlockDisk(file, layout)


READER = Reader(DiskFormat.VDI, _open)
