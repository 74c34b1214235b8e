"""QCOW2, versions 2 and 3 (QEMU, docs/interop/qcow2.txt): its header, what it refers to, and whether it is whole.

Guest data is never decoded. The second-level tables are read as they pass, only to see how far the file must reach.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from tintype.domain.errors import MalformedImageError, UnsafeBackingFileError, UnsafeDataFileError
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect.inspection import ENCRYPTION, Findings
from tintype.inspect.registry import FactSpec, Format
from tintype.inspect.stream import MAX_REGION_SIZE, MAX_TABLES, Parsing, Stream, Wish, integers

_MAGIC = b"QFI\xfb"
_V2 = struct.Struct(">4sIQIIQIIQQIIQ")
_V3 = struct.Struct(">QQQII")

_OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00  # bits 9-55 of an L1 or a standard L2 entry
_COMPRESSED = 1 << 62
_ALL_ZEROES = 1

# Incompatible features: https://www.qemu.org/docs/master/interop/qcow2.html, header bytes 72-79
_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION, _EXTENDED_L2 = (1 << bit for bit in range(5))
_KNOWN_INCOMPATIBLE = _DIRTY | _CORRUPT | _DATA_FILE | _COMPRESSION | _EXTENDED_L2

_EXTENSION_END = 0
_EXTENSION_DATA_FILE = 0x44415441
_ENCRYPTION_METHODS = {0: None, 1: "aes", 2: "luks"}
_COMPRESSION_TYPES = {0: "zlib", 1: "zstd"}

# QEMU refuses larger ones as well (block/qcow2.h: QCOW_MAX_L1_SIZE, QCOW_MAX_REFTABLE_SIZE, QCOW_MAX_SNAPSHOTS).
_MAX_L1_BYTES = 32 * 1024 * 1024
_MAX_REFCOUNT_TABLE_BYTES = 8 * 1024 * 1024
_MAX_SNAPSHOTS = 65536
_MAX_VM_STATE_L1_ENTRIES = 1 << 18
"""L1 entries beyond the disk hold the memory of saved machines; more than this is no machine's."""


@dataclass(frozen=True, slots=True)
class _Header:
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
        return 1 << self.cluster_bits

    @property
    def l2_stride(self) -> int:
        """Integers of 64 bits that make one L2 entry."""
        return 2 if self.incompatible & _EXTENDED_L2 else 1

    @property
    def l1_entries_for_disk(self) -> int:
        covered = self.cluster_size * (self.cluster_size // (8 * self.l2_stride))
        return -(-self.size // covered)


def _in_head(head: bytes) -> bool:
    return head.startswith(_MAGIC)


def _parse(stream: Stream) -> Parsing:
    header = _read_header(stream)
    _check_references(header)
    _check_features(header)
    stream.require_admissible(header.size)
    _check_tables(header)
    if _EXTENSION_DATA_FILE in _extension_types(header, stream.head):
        raise UnsafeDataFileError("the qcow2 header has an extension that names an external data file")
    reach = yield from _reach(header, stream)
    yield from stream.end()
    _check_complete(header, stream, reach)
    return Findings(header.size, _facts(header))


def _read_header(stream: Stream) -> _Header:
    fields = _V2.unpack(stream.head_exactly(0, _V2.size, "the qcow2 header"))[1:]
    if fields[0] == 2:
        return _Header(*fields)
    if fields[0] != 3:
        raise MalformedImageError(f"qcow2 version {fields[0]} is not known")
    incompatible, compatible, _, refcount_order, header_length = _V3.unpack(
        stream.head_exactly(_V2.size, _V3.size, "the qcow2 header")
    )
    if header_length < _V2.size + _V3.size or header_length % 8:
        raise MalformedImageError(f"the qcow2 header's length is {header_length}")
    compression_type = stream.head_exactly(104, 1, "the qcow2 header")[0] if header_length > 104 else 0
    return _Header(*(*fields, incompatible, compatible, refcount_order, header_length, compression_type))


def _check_references(header: _Header) -> None:
    """Nothing outside of the file may be needed: the host would open it (CVE-2024-32498)."""
    if header.backing_file_offset or header.backing_file_size:
        raise UnsafeBackingFileError("the qcow2 header names a backing file")
    if header.incompatible & _DATA_FILE:
        raise UnsafeDataFileError("the qcow2 image keeps its data in an external file")


def _check_features(header: _Header) -> None:
    unknown = header.incompatible & ~_KNOWN_INCOMPATIBLE
    if unknown:
        raise MalformedImageError(f"the qcow2 header asks for unknown incompatible features {unknown:#x}")
    if header.incompatible & _CORRUPT:
        raise MalformedImageError("the qcow2 image is marked as corrupt")
    if header.crypt_method not in _ENCRYPTION_METHODS:
        raise MalformedImageError(f"the qcow2 encryption method {header.crypt_method} is not known")
    if header.compression_type not in _COMPRESSION_TYPES:
        raise MalformedImageError(f"the qcow2 compression type {header.compression_type} is not known")
    if bool(header.compression_type) != bool(header.incompatible & _COMPRESSION):
        raise MalformedImageError("the qcow2 compression type and its feature bit contradict each other")


def _check_tables(header: _Header) -> None:
    """Every size is one that a disk can need; QEMU allocates by some of them."""
    # Subclusters are 1/32 of a cluster, and at least a sector.
    least_bits = 14 if header.incompatible & _EXTENDED_L2 else 9
    if not least_bits <= header.cluster_bits <= 21:
        raise MalformedImageError(f"the qcow2 cluster size is 2^{header.cluster_bits} bytes")
    if header.header_length > header.cluster_size:
        raise MalformedImageError("the qcow2 header is longer than a cluster")
    if header.refcount_order > 6:
        raise MalformedImageError(f"the qcow2 refcount order is {header.refcount_order}")
    needed = header.l1_entries_for_disk
    if header.l1_size < needed or needed * 8 > _MAX_L1_BYTES:
        raise MalformedImageError(f"{header.l1_size} L1 entries do not fit a disk of {header.size} bytes")
    if header.l1_size * 8 > _MAX_L1_BYTES or header.l1_size > needed + _MAX_VM_STATE_L1_ENTRIES:
        raise MalformedImageError(f"{header.l1_size} L1 entries are absurd for a disk of {header.size} bytes")
    refcount_bytes = header.refcount_table_clusters * header.cluster_size
    if not 0 < refcount_bytes <= _MAX_REFCOUNT_TABLE_BYTES:
        raise MalformedImageError(f"the qcow2 refcount table has {refcount_bytes} bytes")
    if header.nb_snapshots > _MAX_SNAPSHOTS:
        raise MalformedImageError(f"the qcow2 image has {header.nb_snapshots} snapshots")
    for offset in (header.l1_table_offset, header.refcount_table_offset, header.snapshots_offset):
        if offset % header.cluster_size or offset >= 1 << 63:
            raise MalformedImageError(f"a qcow2 table lies at offset {offset}, between two clusters")


def _extension_types(header: _Header, head: bytes) -> Iterator[int]:
    """The types of all header extensions, which end with the first cluster at the latest."""
    offset, end = header.header_length, min(header.cluster_size, len(head))
    while offset + 8 <= end:
        kind, length = struct.unpack_from(">II", head, offset)
        if kind == _EXTENSION_END:
            return
        offset += 8 + -(-length // 8) * 8
        if offset > end:
            raise MalformedImageError("a qcow2 header extension is longer than the header's cluster")
        yield kind


def _reach(header: _Header, stream: Stream) -> Generator[Wish, bytes, int]:
    """How many bytes the file has at least, by those L1 and L2 tables that can be read as they pass."""
    l1_bytes = min(header.l1_size * 8, MAX_REGION_SIZE)
    data = yield from stream.read_exactly(header.l1_table_offset, l1_bytes, "the qcow2 L1 table")
    l2_offsets = sorted({entry & _OFFSET_MASK for entry in integers(data, "Q", big_endian=True)} - {0})
    if any(offset % header.cluster_size for offset in l2_offsets):
        raise MalformedImageError("a qcow2 L2 table lies between two clusters")
    reach = l2_offsets[-1] + header.cluster_size if l2_offsets else 0
    for offset in l2_offsets[:MAX_TABLES]:
        table = yield from stream.read(offset, header.cluster_size)
        if table is not None:
            reach = max(reach, _reach_of_l2(header, table))
    return reach


def _reach_of_l2(header: _Header, table: bytes) -> int:
    """How many bytes the file has at least, by one L2 table.

    The last cluster may be short, since programs do not write what follows the data in it.
    """
    # Compressed: the offset takes the lower bits, then the count of further sectors (spec: "Compressed Clusters").
    offset_bits = 62 - (header.cluster_bits - 8)
    reach = 0
    for entry in set(integers(table, "Q", big_endian=True)[:: header.l2_stride]):
        if entry & _COMPRESSED:
            offset = entry & ((1 << offset_bits) - 1)
            sectors = (entry & (_COMPRESSED - 1)) >> offset_bits
            reach = max(reach, (offset & ~511) + sectors * 512 + 1)
        elif not entry & _ALL_ZEROES or header.l2_stride == 2:
            offset = entry & _OFFSET_MASK
            reach = max(reach, offset + 1 if offset else 0)
    return reach


def _check_complete(header: _Header, stream: Stream, reach: int) -> None:
    stream.require_size(header.l1_table_offset + header.l1_size * 8, "the qcow2 L1 table")
    refcount_bytes = header.refcount_table_clusters * header.cluster_size
    stream.require_size(header.refcount_table_offset + refcount_bytes, "the qcow2 refcount table")
    if header.nb_snapshots:
        # An entry has at least 40 bytes.
        stream.require_size(header.snapshots_offset + header.nb_snapshots * 40, "the qcow2 snapshot table")
    stream.require_size(reach, "the data that the qcow2 tables name")


def _facts(header: _Header) -> dict[str, PropertyValue]:
    facts: dict[str, PropertyValue] = {
        "qcow2_version": header.version,
        "qcow2_cluster_size_bytes": header.cluster_size,
        "qcow2_compression_type": _COMPRESSION_TYPES[header.compression_type],
        "qcow2_extended_l2": bool(header.incompatible & _EXTENDED_L2),
        "qcow2_lazy_refcounts": bool(header.compatible & 1),
        "qcow2_refcount_bits": 1 << header.refcount_order,
        "qcow2_snapshots": header.nb_snapshots,
    }
    method = _ENCRYPTION_METHODS[header.crypt_method]
    return facts | ({ENCRYPTION: method} if method else {})


FORMAT = Format(
    DiskFormat.QCOW2,
    _parse,
    in_head=_in_head,
    facts=(
        FactSpec("qcow2_version", int, "qcow2 header, bytes 4-7", "version of the format: 2 or 3"),
        FactSpec("qcow2_cluster_size_bytes", int, "qcow2 header, bytes 20-23", "unit of allocation"),
        FactSpec("qcow2_compression_type", str, "qcow2 header, byte 104", "zlib or zstd"),
        FactSpec("qcow2_extended_l2", bool, "qcow2 header, bytes 72-79, bit 4", "whether clusters have subclusters"),
        FactSpec("qcow2_lazy_refcounts", bool, "qcow2 header, bytes 80-87, bit 0", "whether refcounts may be stale"),
        FactSpec("qcow2_refcount_bits", int, "qcow2 header, bytes 96-99", "width of a refcount"),
        FactSpec("qcow2_snapshots", int, "qcow2 header, bytes 60-63", "internal snapshots"),
        FactSpec(ENCRYPTION, str, "qcow2 header, bytes 32-35", "how the disk is encrypted: aes or luks"),
    ),
)
