"""Ploop, the expandable image of Parallels and Virtuozzo (QEMU, docs/interop/parallels.txt): versions 1 and 2."""

from __future__ import annotations

from collections.abc import Sequence

from tintype.disks.block_disk import PIECE_ENTRIES, BlockDisk, BlockLayout, EntryTable
from tintype.disks.byte_file import ByteFile
from tintype.disks.disk import Disk
from tintype.disks.opening import Reader
from tintype.domain.errors import MalformedImageError
from tintype.domain.values import DiskFormat
from tintype.inspect.tables.ploop_header import HEADER, parse_header


def _open(file: ByteFile) -> Disk:
    header = parse_header(file.read_exactly(0, HEADER.size, "the ploop header"))
    table = EntryTable(file, HEADER.size, header.bat_entries, "I", "the ploop block table", frozenset({0}))

    def locate(piece: int) -> Sequence[int]:
        places = [entry * header.entry_unit for entry in table.read(piece * PIECE_ENTRIES, PIECE_ENTRIES)]
        if any(0 < place < header.data_start for place in places):
            raise MalformedImageError("the ploop block table points to before its data")
        return places

    return BlockDisk(file, BlockLayout(header.size, header.cluster_size, PIECE_ENTRIES, locate))


READER = Reader(DiskFormat.PLOOP, _open)
