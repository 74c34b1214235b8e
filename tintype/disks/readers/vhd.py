"""VHD (Microsoft, Virtual Hard Disk Image Format Specification 1.0): fixed and dynamic disks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from tintype.disks.block_disk import PIECE_ENTRIES, BlockDisk, BlockLayout, EntryTable
from tintype.disks.byte_file import ByteFile, OnFile
from tintype.disks.disk import SECTOR_SIZE, Disk, Extent
from tintype.disks.opening import Reader
from tintype.domain.errors import MalformedImageError, TruncatedError
from tintype.domain.values import DiskFormat
from tintype.inspect.tables.vhd_header import (
    COOKIE,
    DYNAMIC,
    DYNAMIC_HEADER_SIZE,
    FIXED,
    FOOTER_SIZE,
    UNUSED,
    VhdFooter,
    parse_dynamic_header,
    parse_footer,
)

_KEPT_BITMAPS = 16
_UNUSED_SECTORS = re.compile("0+")


class FixedVhd(OnFile):
    """The file's bytes without its footer."""

    def __init__(self, file: ByteFile, size: int) -> None:
        super().__init__(file)
        self._size = size

    @property
    def size(self) -> int:
        """The disk's size in bytes."""
        return self._size

    def extents(self) -> Iterator[Extent]:
        """Data, and the file's holes as zeros."""
        for extent in self._file.extents():
            if extent.offset < self._size:
                yield Extent(extent.offset, min(extent.end, self._size) - extent.offset, is_zero=extent.is_zero)

    def read(self, offset: int, length: int) -> bytes:
        """The file's bytes there."""
        return self._file.read(offset, max(0, min(length, self._size - offset)))


class DynamicVhd(BlockDisk):
    """Each stored block begins with a bitmap of those of its sectors that were written.

    Others read as zeros, says the specification; QEMU reads what is stored there. Programs store zeros there, and where
    one does not the image has no one meaning, and is refused.
    """

    _are_blocks_apart = True

    def __init__(self, file: ByteFile, layout: BlockLayout, bitmap_size: int) -> None:
        super().__init__(file, layout)
        self._bitmap_size = bitmap_size
        self._bitmap = lru_cache(_KEPT_BITMAPS)(self._read_bitmap)

    def _read_stored(self, block: int, place: int, skipped: int, length: int) -> bytes:
        data = super()._read_stored(block, place, skipped, length)
        for begin, end in _unused_ranges(self._bitmap(place), skipped, skipped + length):
            unused = data[max(0, begin - skipped) : end - skipped]
            if unused != bytes(len(unused)):
                raise MalformedImageError(f"block {block} of the VHD has data in sectors that its bitmap calls unused")
        return data

    def _read_bitmap(self, place: int) -> bytes:
        return self._file.read_exactly(place - self._bitmap_size, self._bitmap_size, "the bitmap of a VHD block")


def _unused_ranges(bitmap: bytes, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Runs of unused sectors among those that ``begin`` to ``end`` touch; all are in bytes from the block's begin."""
    first = begin // SECTOR_SIZE // 8  # the most significant bit of the first byte stands for the first sector
    part = bitmap[first : -(-end // (8 * SECTOR_SIZE))]
    if part == b"\xff" * len(part):
        return
    bits = f"{int.from_bytes(part, 'big'):0{len(part) * 8}b}"
    for run in _UNUSED_SECTORS.finditer(bits):
        run_begin, run_end = ((first * 8 + bit) * SECTOR_SIZE for bit in run.span())
        if run_begin < end and run_end > begin:
            yield run_begin, run_end


def is_sized_by_geometry(path: Path, *, offset: int = 0, length: int | None = None) -> bool:
    """Whether the disk of the VHD in a file, or in a window of it, is as large as its footer's geometry says.

    Another program may have to be told, to read the same disk.

    Raises:
        RefusedContentError: it is no VHD.
        StoreUnavailableError: the file cannot be read.
    """
    with ByteFile(path, offset=offset, length=length) as file:
        footer = parse_footer(file.read_exactly(max(0, file.size - FOOTER_SIZE), FOOTER_SIZE, "the VHD footer"))
        return footer.disk_size != footer.current_size


def _open(file: ByteFile) -> Disk:
    head = file.read(0, FOOTER_SIZE)
    if head.startswith(COOKIE):
        return _open_dynamic(file, parse_footer(head))
    tail = file.read_exactly(max(0, file.size - FOOTER_SIZE), FOOTER_SIZE, "the VHD footer")
    footer = parse_footer(tail)
    if footer.disk_type != FIXED:
        raise MalformedImageError("the VHD's footer is that of a dynamic disk, but its beginning is missing")
    if footer.current_size + FOOTER_SIZE > file.size:
        raise TruncatedError(f"the fixed VHD holds a disk of {footer.current_size} bytes, and the file {file.size}")
    return FixedVhd(file, footer.disk_size)


def _open_dynamic(file: ByteFile, footer: VhdFooter) -> Disk:
    if footer.disk_type != DYNAMIC:
        raise MalformedImageError(f"a VHD of type {footer.disk_type} does not begin with a footer")
    data = file.read_exactly(footer.data_offset, DYNAMIC_HEADER_SIZE, "the VHD's dynamic header")
    header = parse_dynamic_header(data, footer)
    table = EntryTable(
        file, header.table_offset, header.entries, "I", "the VHD block table", frozenset({UNUSED}), big_endian=True
    )

    def locate(piece: int) -> Sequence[int]:
        sectors = table.read(piece * PIECE_ENTRIES, PIECE_ENTRIES)
        return [0 if sector == UNUSED else sector * SECTOR_SIZE + header.bitmap_size for sector in sectors]

    layout = BlockLayout(footer.disk_size, header.block_size, PIECE_ENTRIES, locate)
    return DynamicVhd(file, layout, header.bitmap_size)


READER = Reader(DiskFormat.VHD, _open)
