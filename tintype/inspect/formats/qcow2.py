"""QCOW2, versions 2 and 3 (QEMU, docs/interop/qcow2.txt): what is refused, and what is told.

The header is the matter of :mod:`tintype.inspect.tables.qcow2_header`, the tables of
:mod:`tintype.inspect.tables.qcow2`.
"""

from __future__ import annotations

from tintype.domain.errors import (
    DecompressionBombError,
    MalformedImageError,
    TruncatedError,
    UnsafeBackingFileError,
    UnsafeDataFileError,
    UnsupportedImageError,
)
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect.inspection import ENCRYPTION, Findings
from tintype.inspect.registry import FactSpec, Format, Rule
from tintype.inspect.stream import Parsing, Stream
from tintype.inspect.tables.qcow2 import TableReader, Tables
from tintype.inspect.tables.qcow2_header import (
    COMPRESSION_TYPES,
    DIRTY,
    ENCRYPTION_METHODS,
    LAZY_REFCOUNTS,
    MAGIC,
    Qcow2Header,
    check_tables,
    read_header,
    read_luks_offset,
)
from tintype.inspect.tables.rules import DISK_RULES


def _in_head(head: bytes) -> bool:
    return head.startswith(MAGIC)


def _parse(stream: Stream) -> Parsing:
    header = read_header(stream.head_exactly)
    stream.require_admissible(header.size)
    check_tables(header)
    tables = TableReader(header, read_luks_offset(header, stream.head), stream)
    yield from tables.read()
    yield from stream.end()
    tables.check_whole()
    return Findings(header.size, _facts(header, tables.found))


def _facts(header: Qcow2Header, found: Tables) -> dict[str, PropertyValue]:
    facts: dict[str, PropertyValue] = {
        "qcow2_version": header.version,
        "qcow2_cluster_size_bytes": header.cluster_size,
        "qcow2_compression_type": COMPRESSION_TYPES[header.compression_type],
        "qcow2_extended_l2": header.has_subclusters,
        "qcow2_dirty": bool(header.incompatible & DIRTY),
        "qcow2_lazy_refcounts": bool(header.compatible & LAZY_REFCOUNTS),
        "qcow2_refcount_bits": 1 << header.refcount_order,
        "qcow2_snapshots": header.nb_snapshots,
    }
    optional: dict[str, PropertyValue | None] = {
        ENCRYPTION: ENCRYPTION_METHODS[header.crypt_method],
        "luks_version": found.luks_version,
        "qcow2_vm_state_size_bytes": found.vm_state_size,
    }
    return facts | {key: value for key, value in optional.items() if value is not None}


FORMAT = Format(
    DiskFormat.QCOW2,
    _parse,
    in_head=_in_head,
    facts=(
        FactSpec("qcow2_version", int, "qcow2 header, bytes 4-7", "version of the format: 2 or 3"),
        FactSpec("qcow2_cluster_size_bytes", int, "qcow2 header, bytes 20-23", "unit of allocation"),
        FactSpec("qcow2_compression_type", str, "qcow2 header, byte 104", "zlib or zstd"),
        FactSpec("qcow2_extended_l2", bool, "qcow2 header, bytes 72-79, bit 4", "whether clusters have subclusters"),
        FactSpec("qcow2_dirty", bool, "qcow2 header, bytes 72-79, bit 0", "whether the refcounts must be rebuilt"),
        FactSpec("qcow2_lazy_refcounts", bool, "qcow2 header, bytes 80-87, bit 0", "whether refcounts may be stale"),
        FactSpec("qcow2_refcount_bits", int, "qcow2 header, bytes 96-99", "width of a refcount"),
        FactSpec("qcow2_snapshots", int, "qcow2 header, bytes 60-63", "internal snapshots"),
        FactSpec("qcow2_vm_state_size_bytes", int, "qcow2 snapshot table", "memory of the largest machine saved in it"),
        FactSpec(ENCRYPTION, str, "qcow2 header, bytes 32-35", "how the disk is encrypted: aes or luks"),
        FactSpec("luks_version", int, "LUKS header, bytes 6-7", "version of the LUKS header that qcow2 holds"),
    ),
    rules=(
        Rule(UnsafeBackingFileError, "a backing file, which the host would open", cve="CVE-2024-32498"),
        Rule(UnsafeDataFileError, "an external data file, by feature bit or by extension", cve="CVE-2024-32498"),
        Rule(UnsafeDataFileError, "a crafted header whose data file `qemu-img info` opens", cve="CVE-2024-4467"),
        Rule(MalformedImageError, "unknown versions, incompatible features, encryption or compression"),
        Rule(MalformedImageError, "absurd L1, refcount or snapshot tables; tables that overlap or lie askew"),
        Rule(UnsupportedImageError, "qcow version 1"),
        Rule(DecompressionBombError, "L1 or L2 entries that share a table, a cluster, or compressed data"),
        Rule(TruncatedError, "tables or data that end beyond the file"),
        *DISK_RULES,
    ),
)
