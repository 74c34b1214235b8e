"""The binary header of a VMDK's sparse extent (VMware, Virtual Disk Format 5.0), which a footer repeats."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise

from tintype.domain.errors import MalformedImageError, TruncatedError, UnsafeExtentError

MAGIC = b"KDMV"
SECTOR_SIZE = 512
GD_AT_END = 0xFFFF_FFFF_FFFF_FFFF
"""The directory's offset in a header that was written before it was known; then the footer tells."""

HEADER = struct.Struct("<4sIIQQQQIQQQ?4sH")
MARKER = struct.Struct("<QII")
"""What stands in front of a footer and of tables in a stream: a number of sectors, a size of 0, and a type."""
FOOTER_MARKER = 3
FOOTER_SIZE = 3 * SECTOR_SIZE
GRAIN_MARKER = struct.Struct("<QI")
"""What stands in front of a compressed grain: the sector of the disk that it begins at, and its size in bytes."""

_SAME_IN_FOOTER = (
    "version", "flags", "capacity", "grain_size", "entries_per_table", "descriptor_offset", "descriptor_size",
    "compression",
)  # fmt: skip
_CHECK_BYTES = b"\n \r\n"
_MAX_GRAIN_TABLES = 1 << 22
"""A directory of more grain tables than this is no disk's; QEMU allocates by it."""
_MAX_GRAIN_SECTORS = 0x20_0000
_MAX_TABLE_ENTRIES = 512


@dataclass(frozen=True, slots=True)
class VmdkHeader:
    """The header's fields; all sizes and offsets in sectors."""

    version: int
    flags: int
    capacity: int
    grain_size: int
    descriptor_offset: int
    descriptor_size: int
    entries_per_table: int
    redundant_directory_offset: int
    directory_offset: int
    overhead: int
    is_unclean: bool
    check_bytes: bytes
    compression: int

    @property
    def grain_tables(self) -> int:
        """How many grain tables the directory has entries for."""
        return -(-self.capacity // (self.grain_size * self.entries_per_table))

    @property
    def grain_bytes(self) -> int:
        """Bytes of the disk in one grain."""
        return self.grain_size * SECTOR_SIZE

    @property
    def table_bytes(self) -> int:
        """Bytes of one grain table."""
        return self.entries_per_table * 4

    @property
    def directory_bytes(self) -> int:
        """Bytes of the grain directory."""
        return self.grain_tables * 4


def parse_header(data: bytes) -> VmdkHeader:
    """Unpack a header of :data:`HEADER`'s size, and check every field by which a program allocates or looks elsewhere.

    Raises:
        MalformedImageError: a field is beyond what a disk needs, or structures overlap.
        UnsafeExtentError: by its header the file is not a disk by itself.
    """
    magic, *fields = HEADER.unpack(data)
    if magic != MAGIC:
        raise UnsafeExtentError("this is no VMDK that holds a disk in one file")
    header = VmdkHeader(*fields)
    _check_encoding(header)
    _check_sizes(header)
    if header.descriptor_offset == 0 or header.descriptor_size == 0:
        raise UnsafeExtentError("the VMDK has no descriptor: it is a part of a disk in several files")
    _check_layout(header)
    return header


def parse_footer(tail: bytes, header: VmdkHeader) -> VmdkHeader:
    """The header that a file's last sectors repeat: a marker, a header that knows the directory, and an end marker.

    Raises:
        TruncatedError: it is missing.
        MalformedImageError, UnsafeExtentError: it is no sound header, or contradicts the first.
    """
    if len(tail) < FOOTER_SIZE:
        raise TruncatedError("the VMDK ends before its footer")
    marker, copy, end = (tail[-n * SECTOR_SIZE :][:SECTOR_SIZE] for n in (3, 2, 1))
    if MARKER.unpack_from(marker) != (1, 0, FOOTER_MARKER) or not copy.startswith(MAGIC) or any(end):
        raise TruncatedError("the VMDK's footer is missing: the file is not complete")
    footer = parse_header(copy[: HEADER.size])
    for name in _SAME_IN_FOOTER:
        if getattr(footer, name) != getattr(header, name):
            raise MalformedImageError(f"the VMDK's header and footer contradict each other on {name}")
    if footer.directory_offset == GD_AT_END:
        raise MalformedImageError("the VMDK's footer does not say where the grain directory is")
    return footer


def _check_encoding(header: VmdkHeader) -> None:
    if header.version not in (1, 2, 3):
        raise MalformedImageError(f"VMDK version {header.version} is not known")
    if header.check_bytes != _CHECK_BYTES:
        raise MalformedImageError("the VMDK was damaged by a transfer in text mode")
    if header.compression not in (0, 1):
        raise MalformedImageError(f"the VMDK compression algorithm {header.compression} is not known")


def _check_sizes(header: VmdkHeader) -> None:
    if header.capacity == 0:
        # QEMU then takes the embedded descriptor for one that names other files (block/vmdk.c, vmdk_open_vmdk4).
        raise UnsafeExtentError("the VMDK header gives no capacity, so that only its descriptor would count")
    if not 1 <= header.grain_size <= _MAX_GRAIN_SECTORS or header.grain_size & (header.grain_size - 1):
        raise MalformedImageError(f"the VMDK grain size is {header.grain_size} sectors")
    if not 1 <= header.entries_per_table <= _MAX_TABLE_ENTRIES:
        raise MalformedImageError(f"a VMDK grain table has {header.entries_per_table} entries")
    if header.grain_tables > _MAX_GRAIN_TABLES or header.capacity >= 1 << 54:
        raise MalformedImageError(f"the VMDK has {header.capacity} sectors")


def _check_layout(header: VmdkHeader) -> None:
    """Neither descriptor nor directory lies over the header or over the other."""
    descriptor_end = header.descriptor_offset + header.descriptor_size
    structures = [(0, 1), (header.descriptor_offset, descriptor_end)]
    if header.directory_offset != GD_AT_END:
        directory_sectors = -(-header.directory_bytes // SECTOR_SIZE)
        structures.append((header.directory_offset, header.directory_offset + directory_sectors))
    for before, after in pairwise(sorted(structures)):
        if after[0] < before[1]:
            raise MalformedImageError(f"two structures of the VMDK overlap at sector {after[0]}")
