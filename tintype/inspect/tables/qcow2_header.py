"""The header of QCOW2, versions 2 and 3 (QEMU, docs/interop/qcow2.txt): its reading, and what may stand in it.

The inspector judges a file by it as the bytes come; a reader of disks goes by it later, and judges again, since nobody
vouches that it is the same file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from tintype.domain.errors import (
    MalformedImageError,
    UnsafeBackingFileError,
    UnsafeDataFileError,
    UnsupportedImageError,
)
from tintype.inspect.stream import ReadExactly

MAGIC = b"QFI\xfb"
_V2 = struct.Struct(">4sIQIIQIIQQIIQ")
_V3 = struct.Struct(">QQQII")

# Incompatible features: https://www.qemu.org/docs/master/interop/qcow2.html, header bytes 72-79
DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION, _EXTENDED_L2 = (1 << bit for bit in range(5))
_KNOWN_INCOMPATIBLE = DIRTY | _CORRUPT | _DATA_FILE | _COMPRESSION | _EXTENDED_L2
LAZY_REFCOUNTS = 1

_EXTENSION_END = 0
_EXTENSION_DATA_FILE = 0x44415441
_EXTENSION_LUKS = 0x0537BE77
ENCRYPTION_METHODS = {0: None, 1: "aes", 2: "luks"}
_LUKS = 2
COMPRESSION_TYPES = {0: "zlib", 1: "zstd"}

# QEMU refuses larger ones as well (block/qcow2.h: QCOW_MAX_L1_SIZE, QCOW_MAX_REFTABLE_SIZE, QCOW_MAX_SNAPSHOTS).
MAX_L1_BYTES = 32 * 1024 * 1024
_MAX_REFCOUNT_TABLE_BYTES = 8 * 1024 * 1024
_MAX_SNAPSHOTS = 65536
_MAX_VM_STATE_L1_ENTRIES = 1 << 18
"""L1 entries beyond the disk hold the memory of saved machines; more than this is no machine's."""


@dataclass(frozen=True, slots=True)
class Qcow2Header:
    """The header's fields under their specified names; sizes and offsets in bytes."""

    version: int
    backing_file_offset: int
    backing_file_size: int
    cluster_bits: int
    size: int
    crypt_method: int
    l1_size: int
    l1_table_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    nb_snapshots: int
    snapshots_offset: int
    incompatible: int = 0
    compatible: int = 0
    refcount_order: int = 4
    header_length: int = 72
    compression_type: int = 0

    @property
    def cluster_size(self) -> int:
        """Bytes of a cluster, the unit of allocation."""
        return 1 << self.cluster_bits

    @property
    def has_subclusters(self) -> bool:
        """Whether L2 entries are extended: by a bitmap of a cluster's parts."""
        return bool(self.incompatible & _EXTENDED_L2)

    @property
    def is_zstd(self) -> bool:
        """Whether compressed clusters are zstd frames; they are deflate streams otherwise."""
        return COMPRESSION_TYPES[self.compression_type] == "zstd"

    @property
    def l2_stride(self) -> int:
        """Integers of 64 bits that make one L2 entry."""
        return 2 if self.has_subclusters else 1

    @property
    def l2_entries(self) -> int:
        """Entries of one L2 table."""
        return self.cluster_size // (8 * self.l2_stride)

    @property
    def bytes_per_l1_entry(self) -> int:
        """Bytes of the disk that one L2 table maps."""
        return self.cluster_size * self.l2_entries

    @property
    def l1_entries_for_disk(self) -> int:
        """L1 entries that the disk needs."""
        return -(-self.size // self.bytes_per_l1_entry)

    @property
    def l1_end(self) -> int:
        """The offset behind the L1 table."""
        return self.l1_table_offset + self.l1_size * 8

    @property
    def refcount_table_end(self) -> int:
        """The offset behind the refcount table."""
        return self.refcount_table_offset + self.refcount_table_clusters * self.cluster_size


def read_header(read_exactly: ReadExactly) -> Qcow2Header:
    """Read the header, and refuse a disk that is not in this file alone, or of a kind that is not known.

    Raises:
        TruncatedError: the file ends in the header.
        UnsafeBackingFileError, UnsafeDataFileError: the disk is not in this file alone.
        UnsupportedImageError: version 1.
        MalformedImageError: an unknown version, or what the specification does not know.
    """
    header = _unpack(read_exactly)
    _check_references(header)
    _check_features(header)
    return header


def check_tables(header: Qcow2Header) -> None:
    """Check sizes and places of all tables.

    Raises:
        MalformedImageError: a table does not fit the disk, or lies over another.
    """
    _check_sizes(header)
    _check_layout(header)


def read_luks_offset(header: Qcow2Header, head: bytes) -> int | None:
    """Walk through the header's extensions: where the header of the LUKS encryption lies, ``None`` if nowhere.

    Raises:
        UnsafeDataFileError: one names an external data file.
        MalformedImageError: one is longer than its cluster, or contradicts the header.
    """
    found: int | None = None
    for kind, data in _extensions(header, head):
        if kind == _EXTENSION_DATA_FILE:
            raise UnsafeDataFileError("the qcow2 header has an extension that names an external data file")
        if kind == _EXTENSION_LUKS:
            if header.crypt_method != _LUKS or len(data) != 16 or found is not None:
                raise MalformedImageError("the qcow2 header's extension for LUKS contradicts the header")
            found = int.from_bytes(data[:8], "big")
            if found < header.cluster_size or found % header.cluster_size or found >= 1 << 63:
                raise MalformedImageError(f"the LUKS header of the qcow2 lies at offset {found}")
    return found


def _unpack(read_exactly: ReadExactly) -> Qcow2Header:
    magic, *fields = _V2.unpack(read_exactly(0, _V2.size, "the qcow2 header"))
    if magic != MAGIC:
        raise MalformedImageError("the file is no qcow2 image")
    if fields[0] == 1:
        raise UnsupportedImageError("qcow version 1 is not taken; version 2 or 3 is")
    if fields[0] == 2:
        return Qcow2Header(*fields)
    if fields[0] != 3:
        raise MalformedImageError(f"qcow2 version {fields[0]} is not known")
    incompatible, compatible, _, refcount_order, header_length = _V3.unpack(
        read_exactly(_V2.size, _V3.size, "the qcow2 header")
    )
    if header_length < _V2.size + _V3.size or header_length % 8:
        raise MalformedImageError(f"the qcow2 header's length is {header_length}")
    compression_type = read_exactly(104, 1, "the qcow2 header")[0] if header_length > 104 else 0
    return Qcow2Header(*(*fields, incompatible, compatible, refcount_order, header_length, compression_type))


def _check_references(header: Qcow2Header) -> None:
    """Nothing outside of the file may be needed: the host would open it (CVE-2024-32498)."""
    if header.backing_file_offset or header.backing_file_size:
        raise UnsafeBackingFileError("the qcow2 header names a backing file")
    if header.incompatible & _DATA_FILE:
        raise UnsafeDataFileError("the qcow2 image keeps its data in an external file")


def _check_features(header: Qcow2Header) -> None:
    unknown = header.incompatible & ~_KNOWN_INCOMPATIBLE
    if unknown:
        raise MalformedImageError(f"the qcow2 header asks for unknown incompatible features {unknown:#x}")
    if header.incompatible & _CORRUPT:
        raise MalformedImageError("the qcow2 image is marked as corrupt")
    if header.crypt_method not in ENCRYPTION_METHODS:
        raise MalformedImageError(f"the qcow2 encryption method {header.crypt_method} is not known")
    if header.compression_type not in COMPRESSION_TYPES:
        raise MalformedImageError(f"the qcow2 compression type {header.compression_type} is not known")
    if bool(header.compression_type) != bool(header.incompatible & _COMPRESSION):
        raise MalformedImageError("the qcow2 compression type and its feature bit contradict each other")


def _check_sizes(header: Qcow2Header) -> None:
    """Every size is one that a disk can need; QEMU allocates by some of them."""
    # Subclusters are 1/32 of a cluster, and at least a sector.
    least_bits = 14 if header.has_subclusters else 9
    if not least_bits <= header.cluster_bits <= 21:
        raise MalformedImageError(f"the qcow2 cluster size is 2^{header.cluster_bits} bytes")
    if header.header_length > header.cluster_size:
        raise MalformedImageError("the qcow2 header is longer than a cluster")
    if header.refcount_order > 6:
        raise MalformedImageError(f"the qcow2 refcount order is {header.refcount_order}")
    needed = header.l1_entries_for_disk
    if header.l1_size < needed or needed * 8 > MAX_L1_BYTES:
        raise MalformedImageError(f"{header.l1_size} L1 entries do not fit a disk of {header.size} bytes")
    if header.l1_size * 8 > MAX_L1_BYTES or header.l1_size > needed + _MAX_VM_STATE_L1_ENTRIES:
        raise MalformedImageError(f"{header.l1_size} L1 entries are absurd for a disk of {header.size} bytes")
    refcount_bytes = header.refcount_table_clusters * header.cluster_size
    if not 0 < refcount_bytes <= _MAX_REFCOUNT_TABLE_BYTES:
        raise MalformedImageError(f"the qcow2 refcount table has {refcount_bytes} bytes")
    if header.nb_snapshots > _MAX_SNAPSHOTS:
        raise MalformedImageError(f"the qcow2 image has {header.nb_snapshots} snapshots")
    for offset in (header.l1_table_offset, header.refcount_table_offset, header.snapshots_offset):
        if offset % header.cluster_size or offset >= 1 << 63:
            raise MalformedImageError(f"a qcow2 table lies at offset {offset}, between two clusters")


def _check_layout(header: Qcow2Header) -> None:
    """No table lies over the header or over another: programs would take the same bytes for different things."""
    tables = [(0, header.cluster_size), (header.refcount_table_offset, header.refcount_table_end)]
    if header.l1_size:
        tables.append((header.l1_table_offset, header.l1_end))
    if header.nb_snapshots:
        tables.append((header.snapshots_offset, header.snapshots_offset + 1))
    for before, after in pairwise(sorted(tables)):
        if after[0] < before[1]:
            raise MalformedImageError(f"two tables of the qcow2 overlap at offset {after[0]}")


def _extensions(header: Qcow2Header, head: bytes) -> Iterator[tuple[int, bytes]]:
    """All header extensions, by type; they end with the first cluster at the latest."""
    offset, end = header.header_length, min(header.cluster_size, len(head))
    while offset + 8 <= end:
        kind, length = struct.unpack_from(">II", head, offset)
        if kind == _EXTENSION_END:
            return
        data = head[offset + 8 : offset + 8 + length]
        offset += 8 + -(-length // 8) * 8
        if offset > end:
            raise MalformedImageError("a qcow2 header extension is longer than the header's cluster")
        yield kind, data
