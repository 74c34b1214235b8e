"""A disk whose image keeps it in blocks of one size, and has a table of where each block is: what such formats share.

A format's reader tells where the blocks of a *piece* of the table are; pieces are read when they are needed, and few of
them are kept, so that a table of any length costs no more memory than a short one. Where the bytes of a block are not
simply those of the file, the reader says how to get at them. It parses no header.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tintype.disks.byte_file import ByteFile, OnFile
from tintype.disks.disk import SECTOR_SIZE, Extent
from tintype.domain.errors import MalformedImageError, TruncatedError
from tintype.inspect.stream import integers

PIECE_ENTRIES = 8192
"""Entries of a block table that are read at a time."""

_KEPT_PIECES = 16
_MAX_EXTENT_SIZE = 64 * 1024**3
"""An extent goes no further, so that a disk of any size is told of bit by bit."""


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """Of how many bytes the disk and its blocks are, and where a piece of the table says that its blocks are.

    ``locate`` takes the number of a piece and gives the offset in the file of each block of it, or 0 for one that reads
    as zeros; nothing at all stands for a piece without any stored block.
    """

    size: int
    block_size: int
    piece_blocks: int
    locate: Callable[[int], Sequence[int]]


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A part of the disk that is zeros (``place`` is 0), or lies in one piece from ``place`` in the file."""

    offset: int
    end: int
    place: int


class BlockDisk(OnFile):
    """Reads the disk by its layout."""

    _stored_size_min: int | None = None
    """How many bytes of the file a block takes at least, if not all of its own."""
    _are_blocks_apart = False
    """Whether each block has to be read by itself, even where two are neighbours in the file."""

    def __init__(self, file: ByteFile, layout: BlockLayout) -> None:
        super().__init__(file)
        self._layout = layout
        self._locate = lru_cache(_KEPT_PIECES)(layout.locate)

    @property
    def size(self) -> int:
        """The disk's size in bytes."""
        return self._layout.size

    def extents(self) -> Iterator[Extent]:
        """The stored blocks and the others, neighbours of one kind as one.

        Raises:
            MalformedImageError: the blocks are more than the file can hold: some of them share a place.
        """
        stored_size = self._stored_size_min or self._layout.block_size
        # The last block of the file may end where the disk does.
        room = self._file.size + self._layout.block_size
        begin = end = 0
        was_zero = True
        for stretch in self._stretches(0, self.size):
            is_zero = not stretch.place
            if not is_zero:
                room -= -(-(stretch.end - stretch.offset) // self._layout.block_size) * stored_size
            if room < 0:
                raise MalformedImageError("the image's tables name more data than the file holds")
            if (is_zero != was_zero or stretch.end - begin > _MAX_EXTENT_SIZE) and end > begin:
                yield Extent(begin, end - begin, is_zero=was_zero)
                begin = end
            was_zero, end = is_zero, stretch.end
        if end > begin:
            yield Extent(begin, end - begin, is_zero=was_zero)

    def read(self, offset: int, length: int) -> bytes:
        """The disk's bytes there."""
        if offset < 0 or length < 0:
            raise ValueError((offset, length))
        parts = [
            self._read_block(stretch) if stretch.place else bytes(stretch.end - stretch.offset)
            for stretch in self._stretches(offset, min(offset + length, self.size))
        ]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_block(self, stretch: _Stretch) -> bytes:
        block, skipped = divmod(stretch.offset, self._layout.block_size)
        return self._read_stored(block, stretch.place - skipped, skipped, stretch.end - stretch.offset)

    def _read_stored(self, block: int, place: int, skipped: int, length: int) -> bytes:
        """``length`` bytes of the stored ``block``, which begins at ``place``, without the first ``skipped``."""
        return self._file.read_exactly(place + skipped, length, f"block {block} of the disk")

    def _stretches(self, offset: int, end: int) -> Iterator[_Stretch]:
        """The part of the disk from ``offset`` to ``end``, in order and without gaps."""
        piece_size = self._layout.piece_blocks * self._layout.block_size
        while offset < end:
            piece, skipped = divmod(offset, piece_size)
            piece_end = min(end, offset - skipped + piece_size)
            places = self._locate(piece)
            if places:
                yield from self._stretches_of_piece(places, offset - skipped, offset, piece_end)
            else:
                yield _Stretch(offset, piece_end, 0)
            offset = piece_end

    def _stretches_of_piece(self, places: Sequence[int], base: int, offset: int, end: int) -> Iterator[_Stretch]:
        size = self._layout.block_size
        step = 0 if self._are_blocks_apart else size
        index, stop = (offset - base) // size, -(-(end - base) // size)
        while index < stop:
            place = places[index]
            following = index + 1
            if not place:
                while following < stop and not places[following]:
                    following += 1
            elif step:
                while following < stop and places[following] == place + (following - index) * step:
                    following += 1
            stretch_end = min(end, base + following * size)
            yield _Stretch(offset, stretch_end, place and place + offset - base - index * size)
            index, offset = following, stretch_end


@dataclass(frozen=True, slots=True)
class EntryTable:
    """A table of unsigned integers in a file; ``typecode`` is that of :mod:`array`, ``name`` is for errors.

    ``empty`` is what entries hold whose block is not stored, or some such values.

    Raises:
        TruncatedError: the file ends before the table does.
    """

    file: ByteFile
    offset: int
    entries: int
    typecode: str
    name: str
    empty: frozenset[int]
    big_endian: bool = False

    def __post_init__(self) -> None:
        end = self.offset + self.entries * self._width
        if end > self.file.size:
            raise TruncatedError(f"{self.name} should reach to byte {end}, and the file has {self.file.size}")

    @property
    def _width(self) -> int:
        return array(self.typecode).itemsize

    def read(self, first: int, count: int) -> Sequence[int]:
        """Up to ``count`` entries from the ``first``: fewer at the table's end.

        Where all hold the same empty value there are none, which spares looking at each: most of a large disk is so.
        """
        count, width = min(count, self.entries - first), self._width
        data = self.file.read_exactly(self.offset + first * width, count * width, self.name)
        entries = integers(data, self.typecode, big_endian=self.big_endian)
        if entries[0] in self.empty and data == data[:width] * count:
            return ()
        return entries


def whole_sectors(size: int) -> int:
    """The size in bytes, rounded up to whole sectors."""
    return -(-size // SECTOR_SIZE) * SECTOR_SIZE
