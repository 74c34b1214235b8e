"""How large the disk in a VHD is: its footer tells two sizes, and who made it decides which of them counts."""

from __future__ import annotations

from tintype.domain.errors import MalformedImageError

_SECTOR_SIZE = 512
_GEOMETRY_COUNTS = frozenset({b"vpc ", b"qemu"})
"""Virtual PC, and QEMU before its option ``force_size``: their guests see the geometry.

All others fill in a geometry, which is a little smaller, for form's sake: Hyper-V, disk2vhd, XenServer, Azure,
VirtualBox, and QEMU as ``qem2``. (QEMU, block/vpc.c: vpc_ignore_current_size. Releases before 2025 know a list of those
others, and take the geometry for any other creator; ``force_size_calc`` tells such a QEMU what it does not know.)
"""
_MAX_GEOMETRY = 65535 * 16 * 255
"""In sectors: a geometry that cannot say more, so that the size counts (VHD specification, appendix)."""


def has_geometry_size(creator: bytes, geometry: int) -> bool:
    """Whether the disk is as large as the footer's ``geometry`` says, not its current size."""
    cylinders, heads, sectors = geometry >> 16, geometry >> 8 & 0xFF, geometry & 0xFF
    return creator in _GEOMETRY_COUNTS and cylinders * heads * sectors != _MAX_GEOMETRY


def vhd_disk_size(creator: bytes, geometry: int, current_size: int) -> int:
    """The disk's size in bytes, of the footer's fields: creator application, disk geometry (as one integer), size.

    Raises:
        MalformedImageError: the geometry is of no disk, or goes beyond the size.
    """
    if not has_geometry_size(creator, geometry):
        return current_size
    size = (geometry >> 16) * (geometry >> 8 & 0xFF) * (geometry & 0xFF) * _SECTOR_SIZE
    if not 0 < size <= current_size:
        raise MalformedImageError(f"the VHD's geometry has {size} bytes, and its disk {current_size}")
    return size
