"""The header of ploop, the expandable disk of Parallels and OpenVZ (QEMU, docs/interop/parallels.txt)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tintype.domain.errors import MalformedImageError, UnsupportedImageError

MAGICS = {b"WithoutFreeSpace": 1, b"WithouFreSpacExt": 2}
HEADER = struct.Struct("<16sIIIIIQIIIQ")
_SECTOR_SIZE = 512
_HEADER_VERSION = 2
_OPEN, _CLOSED = 0x746F_6E59, (0, 0x312E_3276)
"""What the field in_use may be; 0 was written by programs that did not mark what they had open."""
_MAX_CLUSTER_SECTORS = 1 << 21
_MAX_SECTORS = 1 << 54
_MAX_TABLE_SIZE = 1 << 30
"""QEMU refuses larger disks (block/parallels.c: the catalog may have INT_MAX bytes)."""


@dataclass(frozen=True, slots=True)
class PloopHeader:
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
        return self.tracks * _SECTOR_SIZE

    @property
    def entry_unit(self) -> int:
        """Bytes that an entry of the block table counts by: sectors in the first generation, then clusters."""
        return _SECTOR_SIZE if self.generation == 1 else self.cluster_size

    @property
    def size(self) -> int:
        """Bytes of the disk."""
        return self.sectors * _SECTOR_SIZE

    @property
    def bat_end(self) -> int:
        """The offset in bytes behind the block table, which follows the header."""
        return HEADER.size + self.bat_entries * 4

    @property
    def data_start(self) -> int:
        """The offset in bytes of the first cluster."""
        return self.data_offset * _SECTOR_SIZE or -(-self.bat_end // _SECTOR_SIZE) * _SECTOR_SIZE


def parse_header(data: bytes) -> PloopHeader:
    """Read a header of :data:`HEADER`'s size.

    Raises:
        MalformedImageError: it is none that is known, or contradicts itself.
        UnsupportedImageError: the image is in use, or has extensions.
    """
    header = _unpack(data)
    _check_state(header)
    _check_geometry(header)
    return header


def _unpack(data: bytes) -> PloopHeader:
    magic, version, *fields = HEADER.unpack(data)
    if magic not in MAGICS or version != _HEADER_VERSION:
        raise MalformedImageError(f"this is no ploop whose header is of version {_HEADER_VERSION}")
    header = PloopHeader(MAGICS[magic], *fields)
    if header.generation == 1 and header.sectors >= 1 << 32:
        raise MalformedImageError("the ploop's size has more digits than the first generation of the format has")
    return header


def _check_state(header: PloopHeader) -> None:
    if header.in_use == _OPEN:
        raise UnsupportedImageError(
            "the ploop was not closed: stop what uses it, or `ploop check` it, and copy it anew"
        )
    if header.in_use not in _CLOSED:
        raise MalformedImageError(f"the ploop's state {header.in_use:#x} is not known")
    if header.extension_offset:
        raise UnsupportedImageError("the ploop has format extensions, such as a running machine's dirty bitmaps")


def _check_geometry(header: PloopHeader) -> None:
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
