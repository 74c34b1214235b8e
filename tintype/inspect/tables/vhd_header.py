"""The structures of VHD (Microsoft, Virtual Hard Disk Image Format Specification 1.0): footer and dynamic header."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tintype.domain.errors import DifferencingDiskError, MalformedImageError, UnsupportedImageError
from tintype.inspect.tables.vhd_geometry import vhd_disk_size

COOKIE = b"conectix"
FOOTER_SIZE = 512
FIXED, DYNAMIC, _DIFFERENCING = 2, 3, 4
_FOOTER = struct.Struct(">8sIIQI4sI4sQQHBBII16sB")
_FOOTER_CHECKSUM_OFFSET = 64

DYNAMIC_HEADER_SIZE = 1024
UNUSED = 0xFFFF_FFFF
"""A block table's entry for a block that is not stored."""
_SPARSE_COOKIE = b"cxsparse"
_SPARSE = struct.Struct(">8sQQIIII16s")
_SPARSE_CHECKSUM_OFFSET = 36

MAX_GEOMETRY = 65535, 16, 255
"""Stands for "too large to be told", which QEMU writes also where only the size counts."""
_SECTOR_SIZE = 512
_MAX_SIZE = 2040 * 1024**3
"""The largest VHD: 2040 GiB."""
_MAX_BLOCK_SIZE = 1 << 28
_MAX_TABLE_SIZE = 1 << 30


@dataclass(frozen=True, slots=True)
class VhdFooter:
    """The footer's fields that count; sizes and offsets in bytes."""

    data_offset: int
    creator: bytes
    creator_version: int
    creator_host: bytes
    current_size: int
    disk_size: int
    """What the guest sees: not more than what is stored, which is the current size."""
    geometry: tuple[int, int, int]
    disk_type: int
    uuid: bytes


@dataclass(frozen=True, slots=True)
class DynamicHeader:
    """Where a dynamic disk's blocks are told; sizes and offsets in bytes."""

    table_offset: int
    entries: int
    block_size: int

    @property
    def bitmap_size(self) -> int:
        """Bytes in front of each block: a bit for each of its sectors, padded to a sector."""
        return -(-self.block_size // (8 * _SECTOR_SIZE * _SECTOR_SIZE)) * _SECTOR_SIZE


def is_footer(data: bytes) -> bool:
    """Whether it is a footer, whatever it says: a cookie alone may be any disk's last sector, a checksum tells."""
    return len(data) == FOOTER_SIZE and data.startswith(COOKIE) and _is_intact(data, _FOOTER_CHECKSUM_OFFSET)


def parse_footer(data: bytes) -> VhdFooter:
    """Read a footer, or its copy at the file's begin.

    Raises:
        MalformedImageError: it is damaged, or contradicts itself.
        DifferencingDiskError: the disk is not in this file alone.
        UnsupportedImageError: the disk is that of a saved machine.
    """
    if not is_footer(data):
        raise MalformedImageError("the VHD's footer is damaged")
    fields = _FOOTER.unpack_from(data)
    _, _, version, data_offset, _, creator, creator_version, creator_host, _, current_size, *rest = fields
    cylinders, heads, sectors, disk_type, _, uuid, is_saved = rest
    if version >> 16 != 1:
        raise MalformedImageError(f"VHD version {version:#x} is not known")
    if disk_type == _DIFFERENCING:
        raise DifferencingDiskError("the VHD holds the difference to another disk only")
    if current_size % _SECTOR_SIZE or not 0 < current_size <= _MAX_SIZE:
        raise MalformedImageError(f"the VHD's disk has {current_size} bytes")
    geometry = cylinders, heads, sectors
    disk_size = vhd_disk_size(creator, cylinders << 16 | heads << 8 | sectors, current_size)
    if geometry != MAX_GEOMETRY and (cylinders - 1) * heads * sectors * _SECTOR_SIZE >= current_size:
        # Older releases of QEMU go by the geometry of creators that they do not know; some round up by a cylinder.
        raise MalformedImageError("the VHD's geometry is that of a larger disk")
    if is_saved:
        raise UnsupportedImageError("the VHD is of a machine whose state was saved: shut it down, and copy it anew")
    return VhdFooter(
        data_offset, creator, creator_version, creator_host, current_size, disk_size, geometry, disk_type, uuid
    )


def parse_dynamic_header(data: bytes, footer: VhdFooter) -> DynamicHeader:
    """Read the header of a dynamic disk.

    Raises:
        MalformedImageError: it is damaged, or does not fit the disk.
    """
    if not data.startswith(_SPARSE_COOKIE) or not _is_intact(data, _SPARSE_CHECKSUM_OFFSET):
        raise MalformedImageError("the VHD's dynamic header is damaged")
    _, _, table_offset, _, entries, block_size, _, _ = _SPARSE.unpack_from(data)
    if not _SECTOR_SIZE <= block_size <= _MAX_BLOCK_SIZE or block_size & (block_size - 1):
        raise MalformedImageError(f"the VHD's block size is {block_size} bytes")
    if entries * block_size < footer.current_size or entries * 4 > _MAX_TABLE_SIZE:
        raise MalformedImageError(f"{entries} VHD blocks do not fit a disk of {footer.current_size} bytes")
    return DynamicHeader(table_offset, entries, block_size)


def _is_intact(structure: bytes, checksum_offset: int) -> bool:
    """One's complement of the sum of all bytes but the checksum's own."""
    stored = structure[checksum_offset : checksum_offset + 4]
    return ~(sum(structure) - sum(stored)) & 0xFFFF_FFFF == int.from_bytes(stored, "big")
