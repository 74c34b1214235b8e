"""qcow2 images with compressed clusters and with subclusters, made of the plain one."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import zstandard

from tintype.testing.handmade import qcow2

CLUSTER = 4096  # of handmade.qcow2
COMPRESSED = 1 << 62
OFFSET_BITS = 62 - (12 - 8)
ZSTD: dict[str, Any] = {"incompatible": 8, "header_length": 112, "extensions": b"\x01" + bytes(7)}
"""Fields of an image whose clusters are compressed by zstd."""

EXTENDED: dict[str, Any] = {"incompatible": 16, "cluster_bits": 14}
"""Fields of an image with extended L2 entries."""


def compressed(stream: bytes, *, sectors: int = 8, **fields: Any) -> bytes:
    """An image whose only cluster is compressed, to ``stream``."""
    entry = COMPRESSED | (sectors - 1) << OFFSET_BITS | 5 * CLUSTER
    return qcow2(l2_entry=entry, **fields)[: 5 * CLUSTER] + stream


def deflated(data: bytes) -> bytes:
    """A cluster as zlib packs it."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -12)
    return compressor.compress(data) + compressor.flush()


def zstd(data: bytes, **options: Any) -> bytes:
    """A cluster as zstd packs it."""
    return zstandard.ZstdCompressor(**options).compress(data)


def extended(l2_entry: int, bitmap: int) -> bytes:
    """An image of 16 KiB clusters with subclusters of 512 bytes; its data are at 0x14000."""
    small = qcow2(**EXTENDED, refcount_table_offset=0x4000, l1_table_offset=0xC000)
    clusters = [small[:4096], struct.pack(">Q", 0x8000), struct.pack(">6H", *[1] * 6), struct.pack(">Q", 0x10000)]
    clusters += [struct.pack(">QQ", l2_entry, bitmap), b"".join(bytes([number + 1]) * 512 for number in range(32))]
    return b"".join(cluster.ljust(0x4000, b"\0") for cluster in clusters)
