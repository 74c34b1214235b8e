"""What a format's tables claim of the file, against what the file has: the bound on how far an image can expand.

Programs give every block of the disk a place of its own. A table whose entries share places makes a small file expand
to any size, which whoever converts it would pay for. Two checks find it, in memory that does not grow with the disk:

- no two entries of one piece of a table name the same place;
- all entries together claim no more bytes than the file has.

The second holds over all tables that were read. Where entries name compressed data, each claims the least that so much
can be compressed to. Deciding by the disk's size alone is the matter of the inspector's limits.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Generator

from tintype.domain.errors import DecompressionBombError
from tintype.inspect.stream import Stream, Wish, integers

PIECE_SIZE = 256 * 1024
"""Bytes of a table that are looked at at once. As Python's integers they take 20 times as much."""
_MAX_TABLE_SIZE = 128 * 1024 * 1024
"""Bytes of one table that are read, which bounds the time."""

_DEFLATE_RATIO = 1032
"""What deflate can expand a byte to at most: 258 bytes by two bits (RFC 1951, 3.2.5)."""
_ZSTD_BLOCK, _ZSTD_FRAME, _ZSTD_RLE = 128 * 1024, 6, 4
"""A zstd block gives up to 128 KiB for at least a header and a byte; a frame has a magic and a header (RFC 8878, 3)."""

Places = Callable[["array[int]"], Collection[int]]
"""The places that are in use, in any unit, by a piece of a table."""


def least_deflated(length: int) -> int:
    """Bytes that deflate needs at least for ``length`` bytes."""
    return max(1, length // _DEFLATE_RATIO)


def least_zstd(length: int) -> int:
    """Bytes that zstd needs at least for ``length`` bytes."""
    return _ZSTD_FRAME + -(-length // _ZSTD_BLOCK) * _ZSTD_RLE


class Allocation:
    """Counts what an image's tables claim. ``highest`` is the greatest place that was claimed, -1 if there is none."""

    __slots__ = ("_claimed_bytes", "_largest_bytes", "_what", "highest")

    def __init__(self, what: str) -> None:
        """``what`` names the table's entries in refusals."""
        self._what = what
        self._claimed_bytes = 0
        self._largest_bytes = 0
        self.highest = -1

    def claim(self, places: Collection[int], bytes_each: int) -> None:
        """Count entries of one piece of a table, each of which needs at least ``bytes_each`` of the file.

        Raises:
            DecompressionBombError: if two of them name the same place.
        """
        if not places:
            return
        distinct = set(places)
        if len(distinct) < len(places):
            raise DecompressionBombError(
                f"{len(places)} {self._what} share {len(distinct)} places of the file: it would expand without end"
            )
        self.highest = max(self.highest, max(distinct))
        self._claimed_bytes += len(places) * bytes_each
        self._largest_bytes = max(self._largest_bytes, bytes_each)

    def require_backed(self, file_size: int, *, unit: int = 1) -> None:
        """Check, once the file's size is known, that it has room for all that was claimed; the last may be short.

        ``unit`` in bytes is for claims that were counted in units, before their size was known.

        Raises:
            DecompressionBombError: if it has not, so that some must share places.
        """
        claimed_bytes = self._claimed_bytes * unit
        if claimed_bytes > file_size + self._largest_bytes * unit:
            raise DecompressionBombError(
                f"{self._what} claim {claimed_bytes} bytes of a file that has {file_size}: some share places"
            )


def read_claims(
    stream: Stream, offset: int, length: int, typecode: str, places: Places, allocation: Allocation, bytes_each: int,
    *, big_endian: bool = False,
) -> Generator[Wish, bytes, None]:  # fmt: skip
    """Read a table of integers piece by piece as it passes, up to 128 MiB of it, and count its claims.

    What has passed, or is missing at the file's end, is left out.

    Raises:
        DecompressionBombError: if two entries of one piece name the same place.
    """
    end = offset + min(length, _MAX_TABLE_SIZE)
    for begin in range(offset, end, PIECE_SIZE):
        piece = yield from stream.read(begin, min(PIECE_SIZE, end - begin))
        if piece is not None:
            allocation.claim(places(integers(piece, typecode, big_endian=big_endian)), bytes_each)
