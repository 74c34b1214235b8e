"""Ploop, the expandable disk of Parallels and OpenVZ (QEMU, docs/interop/parallels.txt): one base image by itself."""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass

from tintype.domain.errors import DecompressionBombError, MalformedImageError, TruncatedError, UnsupportedImageError
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect.inspection import Findings
from tintype.inspect.registry import FactSpec, Format, Rule
from tintype.inspect.stream import Parsing, Stream
from tintype.inspect.tables.allocation import Allocation, read_claims
from tintype.inspect.tables.rules import DISK_RULES

_MAGICS = {b"WithoutFreeSpace": 1, b"WithouFreSpacExt": 2}
_HEADER = struct.Struct("<16sIIIIIQIIIQ")
_SECTOR = 512
_HEADER_VERSION = 2
_OPEN, _CLOSED = 0x746F_6E59, (0, 0x312E_3276)
"""What the field in_use may be; 0 was written by programs that did not mark what they had open."""
_MAX_CLUSTER_SECTORS = 1 << 21
_MAX_SECTORS = 1 << 54
_MAX_TABLE_SIZE = 1 << 30
"""QEMU refuses larger disks (block/parallels.c: the catalog may have INT_MAX bytes)."""


@dataclass(frozen=True, slots=True)
class _Header:
    """The header under its specified names; ``generation`` tells the magics apart. Offsets and sizes in sectors."""

    generation: int
    heads: int
    cylinders: int
    tracks: int
    bat_entries: int
    sectors: int
    in_use: int
    data_offset: int
    flags: int
    extension_offset: int

    @property
    def cluster_size(self) -> int:
        """Bytes of a cluster."""
        return self.tracks * _SECTOR

    @property
    def entry_unit(self) -> int:
        """Bytes that an entry of the block table counts by: sectors in the first generation, then clusters."""
        return _SECTOR if self.generation == 1 else self.cluster_size

    @property
    def bat_end(self) -> int:
        """The offset in bytes behind the block table, which follows the header."""
        return _HEADER.size + self.bat_entries * 4

    @property
    def data_start(self) -> int:
        """The offset in bytes of the first cluster."""
        return self.data_offset * _SECTOR or -(-self.bat_end // _SECTOR) * _SECTOR


def _in_head(head: bytes) -> bool:
    return head[:16] in _MAGICS


def _parse(stream: Stream) -> Parsing:
    header = _read_header(stream)
    _check_state(header)
    _check_geometry(header)
    stream.require_admissible(header.sectors * _SECTOR)
    allocation = Allocation("ploop clusters")
    lowest = -(-header.data_start // header.entry_unit)

    def stored(entries: array[int]) -> list[int]:
        places = [entry for entry in entries if entry]
        if places and min(places) < lowest:
            raise MalformedImageError("the ploop's block table points to before its data")
        return places

    yield from read_claims(stream, _HEADER.size, header.bat_entries * 4, "I", stored, allocation, header.cluster_size)
    yield from stream.end()
    stream.require_size(header.bat_end, "the ploop's block table")
    if allocation.highest >= 0:
        # Programs of the first generation do not write what follows the data in the last cluster.
        length = 1 if header.generation == 1 else header.cluster_size
        stream.require_size(allocation.highest * header.entry_unit + length, "the ploop's last cluster")
    allocation.require_backed(stream.size)
    return Findings(header.sectors * _SECTOR, _facts(header))


def _read_header(stream: Stream) -> _Header:
    magic, version, *fields = _HEADER.unpack(stream.head_exactly(0, _HEADER.size, "the ploop header"))
    if version != _HEADER_VERSION:
        raise MalformedImageError(f"ploop header version {version} is not known")
    header = _Header(_MAGICS[magic], *fields)
    if header.generation == 1 and header.sectors >= 1 << 32:
        raise MalformedImageError("the ploop's size has more digits than the first generation of the format has")
    return header


def _check_state(header: _Header) -> None:
    if header.in_use == _OPEN:
        raise UnsupportedImageError(
            "the ploop was not closed: stop what uses it, or `ploop check` it, and copy it anew"
        )
    if header.in_use not in _CLOSED:
        raise MalformedImageError(f"the ploop's state {header.in_use:#x} is not known")
    if header.extension_offset:
        raise UnsupportedImageError("the ploop has format extensions, such as a running machine's dirty bitmaps")


def _check_geometry(header: _Header) -> None:
    if not 0 < header.tracks <= _MAX_CLUSTER_SECTORS:
        raise MalformedImageError(f"the ploop's clusters have {header.tracks} sectors")
    if header.sectors > _MAX_SECTORS or header.bat_entries * 4 > _MAX_TABLE_SIZE:
        raise MalformedImageError(f"the ploop has {header.sectors} sectors in {header.bat_entries} clusters")
    if header.bat_entries * header.tracks < header.sectors:
        raise MalformedImageError(f"{header.bat_entries} ploop clusters do not fit a disk of {header.sectors} sectors")
    if header.data_start < header.bat_end:
        raise MalformedImageError("the ploop's data lies over its block table")
    if header.generation == 2 and (not header.data_offset or header.data_offset % header.tracks):
        raise MalformedImageError(f"the ploop's data begins at sector {header.data_offset}, between two clusters")


def _facts(header: _Header) -> dict[str, PropertyValue]:
    facts: dict[str, PropertyValue] = {
        "ploop_version": header.generation,
        "ploop_block_size_bytes": header.cluster_size,
    }
    if header.cylinders and header.heads:
        facts |= {"ploop_cylinders": header.cylinders, "ploop_heads": header.heads}
    return facts


FORMAT = Format(
    DiskFormat.PLOOP,
    _parse,
    in_head=_in_head,
    facts=(
        FactSpec("ploop_version", int, "ploop header, bytes 0-15", "1 (WithoutFreeSpace) or 2 (WithouFreSpacExt)"),
        FactSpec("ploop_block_size_bytes", int, "ploop header, bytes 28-31", "unit of allocation"),
        FactSpec("ploop_cylinders", int, "ploop header, bytes 24-27", "cylinders that the guest sees"),
        FactSpec("ploop_heads", int, "ploop header, bytes 20-23", "heads that the guest sees"),
    ),
    rules=(
        Rule(MalformedImageError, "unknown versions and states; sizes of disk, cluster and table that do not fit"),
        Rule(MalformedImageError, "a block table that points into itself, or data that lies over it"),
        Rule(UnsupportedImageError, "an image that is in use, or has format extensions"),
        Rule(DecompressionBombError, "entries of the block table that share a cluster"),
        Rule(TruncatedError, "a header, a block table or clusters that end beyond the file"),
        *DISK_RULES,
    ),
)
