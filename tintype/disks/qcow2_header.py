"""What a reader needs of a qcow2 header (QEMU, docs/interop/qcow2.txt), and a refusal of all that it must not follow.

The inspector has judged the file before (:mod:`tintype.inspect.formats.qcow2`). This is the second line: nothing here
trusts that it did.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tintype.disks.byte_file import ByteFile
from tintype.domain.errors import (
    MalformedImageError,
    UnsafeBackingFileError,
    UnsafeDataFileError,
    UnsupportedImageError,
)

_MAGIC = b"QFI\xfb"
_V2 = struct.Struct(">4sIQIIQIIQQIIQ")
_V3 = struct.Struct(">QQQII")
_COMPRESSION_TYPE = 104

# Incompatible features, header bytes 72-79.
_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION, _EXTENDED_L2 = (1 << bit for bit in range(5))
_READABLE = _DIRTY | _COMPRESSION | _EXTENDED_L2

_MAX_L1_BYTES = 32 * 1024 * 1024
"""QEMU refuses a larger one as well (QCOW_MAX_L1_SIZE)."""


@dataclass(frozen=True, slots=True)
class Qcow2Header:
    """The disk's size and the way to its data; sizes and offsets in bytes."""

    version: int
    size: int
    cluster_bits: int
    l1_entries: int
    l1_offset: int
    has_subclusters: bool
    is_zstd: bool

    @property
    def cluster_size(self) -> int:
        """The unit of allocation."""
        return 1 << self.cluster_bits

    @property
    def l2_entries(self) -> int:
        """How many clusters one second-level table maps; it fills a cluster."""
        return self.cluster_size // (16 if self.has_subclusters else 8)

    @property
    def table_covers(self) -> int:
        """How many bytes of the disk one second-level table maps."""
        return self.cluster_size * self.l2_entries


def read_header(file: ByteFile) -> Qcow2Header:
    """Read and check the header.

    Raises:
        TruncatedError: the file ends in the header.
        UnsafeBackingFileError, UnsafeDataFileError: another file would be needed.
        UnsupportedImageError: the disk is encrypted.
        MalformedImageError: the header contradicts itself, or asks for what is not known.
    """
    magic, version, backing_offset, backing_size, cluster_bits, size, encryption, l1_entries, l1_offset, *_ = (
        _V2.unpack(file.read_exactly(0, _V2.size, "the qcow2 header"))
    )
    if magic != _MAGIC or version not in (2, 3):
        raise MalformedImageError("the file is no qcow2 image of version 2 or 3")
    if backing_offset or backing_size:
        raise UnsafeBackingFileError("the qcow2 header names a backing file")
    features, is_zstd = _features(file) if version == 3 else (0, False)
    if encryption:
        raise UnsupportedImageError("the disk in the qcow2 image is encrypted")
    header = Qcow2Header(
        version, size, cluster_bits, l1_entries, l1_offset, bool(features & _EXTENDED_L2), is_zstd
    )  # fmt: skip
    _check_tables(header)
    return header


def _features(file: ByteFile) -> tuple[int, bool]:
    """The incompatible features, and whether clusters are compressed by zstd."""
    features, _, _, _, header_length = _V3.unpack(file.read_exactly(_V2.size, _V3.size, "the qcow2 header"))
    if features & _DATA_FILE:
        raise UnsafeDataFileError("the qcow2 image keeps its data in an external file")
    if features & ~_READABLE:
        raise MalformedImageError(f"the qcow2 image is corrupt, or asks for unknown features: {features:#x}")
    compression = 0
    if header_length > _COMPRESSION_TYPE:
        compression = file.read_exactly(_COMPRESSION_TYPE, 1, "the qcow2 header")[0]
    if compression > 1 or bool(compression) != bool(features & _COMPRESSION):
        raise MalformedImageError(f"the qcow2 compression type {compression} is not known, or not announced")
    return features, bool(compression)


def _check_tables(header: Qcow2Header) -> None:
    # A subcluster is 1/32 of a cluster, and at least a sector.
    if not (14 if header.has_subclusters else 9) <= header.cluster_bits <= 21:
        raise MalformedImageError(f"the qcow2 cluster size is 2^{header.cluster_bits} bytes")
    needed = -(-header.size // header.table_covers)
    if not needed <= header.l1_entries <= _MAX_L1_BYTES // 8:
        raise MalformedImageError(f"{header.l1_entries} L1 entries do not fit a disk of {header.size} bytes")
    if header.l1_offset % header.cluster_size:
        raise MalformedImageError("the qcow2 L1 table lies between two clusters")
