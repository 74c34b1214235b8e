"""The grain directory and the grain tables of a VMDK that has them before its grains, as they pass by."""

from __future__ import annotations

from collections.abc import Generator

from tintype.domain.errors import DecompressionBombError
from tintype.inspect.stream import MAX_REGION_SIZE, Stream, Wish, integers
from tintype.inspect.tables.allocation import Allocation, least_deflated
from tintype.inspect.tables.vmdk_header import GRAIN_MARKER, SECTOR_SIZE, VmdkHeader

_MAX_TABLES = 1 << 15
"""Grain tables that are read, which bounds the time: a disk of 1 TiB, by usual grains of 64 KiB."""
_FIRST_GRAIN = 2
"""An entry of 0 means "not stored", 1 "reads as zeros"."""


def stored_grains(table: bytes) -> list[int]:
    """The sectors where a grain table's grains are stored."""
    return [sector for sector in integers(table, "I", big_endian=False) if sector >= _FIRST_GRAIN]


def directory_entries(directory: bytes) -> list[int]:
    """The sectors of all grain tables that a directory names, in order.

    Raises:
        DecompressionBombError: if it names one twice.
    """
    named = [sector for sector in integers(directory, "I", big_endian=False) if sector]
    tables = sorted(set(named))
    if len(tables) < len(named):
        raise DecompressionBombError(f"{len(named)} entries of the VMDK grain directory share {len(tables)} tables")
    return tables


def read_tables(header: VmdkHeader, stream: Stream, allocation: Allocation) -> Generator[Wish, bytes, int]:
    """Read what passes, count the grains' claims, and return how many bytes the file has at least.

    Raises:
        DecompressionBombError: entries share a table or a grain.
    """
    begin = header.directory_offset * SECTOR_SIZE
    directory = yield from stream.read(begin, min(header.directory_bytes, MAX_REGION_SIZE))
    tables = directory_entries(directory or b"")
    reach = begin + header.directory_bytes
    if tables:
        reach = max(reach, tables[-1] * SECTOR_SIZE + header.table_bytes)
    # A compressed grain begins with a marker.
    least = GRAIN_MARKER.size + least_deflated(header.grain_bytes) if header.compression else header.grain_bytes
    for sector in tables[:_MAX_TABLES]:
        table = yield from stream.read(sector * SECTOR_SIZE, header.table_bytes)
        allocation.claim(stored_grains(table or b""), least)
    if allocation.highest < 0:
        return reach
    return max(reach, (yield from _end_of_grain(header, stream, allocation.highest * SECTOR_SIZE)))


def _end_of_grain(header: VmdkHeader, stream: Stream, offset: int) -> Generator[Wish, bytes, int]:
    """How far a stored grain reaches: a compressed one tells its size, a plain one may be short at the file's end."""
    if header.compression:
        marker = yield from stream.read(offset, GRAIN_MARKER.size)
        if marker is not None and len(marker) == GRAIN_MARKER.size:
            return offset + GRAIN_MARKER.size + int(GRAIN_MARKER.unpack(marker)[1])
    return offset + 1
