"""The qcow2 reader and files that lie: it refuses them, or reads no more than they hold."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.disks.naive import naive_digest
from tintype.disks.disk import Disk
from tintype.disks.guest_digest import digest_of
from tintype.disks.opening import open_disk
from tintype.domain.errors import (
    MalformedImageError,
    RefusedContentError,
    TruncatedError,
    UnsafeBackingFileError,
    UnsafeDataFileError,
    UnsupportedImageError,
)
from tintype.domain.values import DiskFormat
from tintype.testing.handmade import qcow2
from tintype.testing.handmade_qcow2 import COMPRESSED, ZSTD, compressed, deflated, extended, zstd

MIB = 1024 * 1024
CLUSTER = 4096  # of handmade.qcow2
SIZE_LIMIT = 8 * MIB  # of disks that are read whole here


def opened(path: Path, image: bytes) -> Disk:
    path.write_bytes(image)
    return open_disk(path, DiskFormat.QCOW2)


def whole(disk: Disk) -> bytes:
    """Read it by its extents, which have to be without gaps."""
    assert disk.size <= SIZE_LIMIT
    data, position = bytearray(), 0
    for extent in disk.extents():
        assert extent.offset == position and extent.length > 0
        data += bytes(extent.length) if extent.is_zero else disk.read(extent.offset, extent.length)
        position = extent.end
    assert position == disk.size == len(data)
    return bytes(data)


def test_one_cluster_is_where_the_tables_say(tmp_path: Path) -> None:
    with opened(tmp_path / "disk", qcow2()) as disk:
        assert whole(disk) == b"\xda" * CLUSTER + bytes(MIB - CLUSTER)
        assert [extent.is_zero for extent in disk.extents()] == [False, True]
        assert disk.read(CLUSTER - 2, 4) == b"\xda\xda\0\0"
        assert disk.read(MIB - 1, 10) == b"\0"
        assert disk.read(MIB, 10) == b""


@pytest.mark.parametrize(
    ("stream", "fields"),
    [
        (deflated(b"tintype\n" * 512), {}),
        (deflated(b"tintype\n" * 512) + b"another cluster's", {}),
        (zstd(b"tintype\n" * 512), ZSTD),
        (zstd(b"tintype\n" * 512, write_content_size=False) + b"another cluster's", ZSTD),
    ],
    ids=["zlib", "zlib with more behind", "zstd", "zstd of unknown size"],
)
def test_compressed_cluster_is_decoded(stream: bytes, fields: dict[str, Any], tmp_path: Path) -> None:
    with opened(tmp_path / "disk", compressed(stream, **fields)) as disk:
        assert whole(disk) == b"tintype\n" * 512 + bytes(MIB - CLUSTER)
        assert disk.read(4, 8) == b"ype\ntint"


def test_subclusters_are_data_or_zeros_each(tmp_path: Path) -> None:
    allocated, zeros = 1 << 0 | 1 << 3 | 1 << 4 | 1 << 31, 1 << 1
    with opened(tmp_path / "disk", extended(0x14000, zeros << 32 | allocated)) as disk:
        parts = [bytes([number + 1]) * 512 if allocated >> number & 1 else bytes(512) for number in range(32)]
        assert whole(disk) == b"".join(parts) + bytes(MIB - 16384)
        for offset in (0, 511, 513, 1500, 2048, 15000):
            assert disk.read(offset, 1000) == (b"".join(parts) + bytes(1000))[offset : offset + 1000]


def test_last_cluster_may_be_cut_short(tmp_path: Path) -> None:
    with opened(tmp_path / "disk", qcow2()[: 5 * CLUSTER + 100]) as disk:
        assert disk.read(0, CLUSTER) == b"\xda" * 100 + bytes(CLUSTER - 100)


def test_disk_may_end_within_a_cluster(tmp_path: Path) -> None:
    with opened(tmp_path / "disk", qcow2(size=1536)) as disk:
        assert whole(disk) == b"\xda" * 1536


def test_empty_disk_can_be_read(tmp_path: Path) -> None:
    with opened(tmp_path / "disk", qcow2(size=0)) as disk:
        assert whole(disk) == b""
        assert digest_of(disk) == naive_digest(b"")


def test_huge_disk_of_zeros_is_one_extent(tmp_path: Path) -> None:
    """16 TiB of 2 MiB clusters have few tables; what matters is that nothing is done for each cluster."""
    # The L1 table is put where the file has a hole.
    places: dict[str, Any] = {"l1_table_offset": 1 << 21, "refcount_table_offset": 2 << 21}
    path = tmp_path / "disk"
    path.write_bytes(qcow2(size=16 << 40, cluster_bits=21, l1_size=32, **places))
    with path.open("r+b") as file:
        file.truncate(3 << 21)
    with open_disk(path, DiskFormat.QCOW2) as disk:
        assert [(extent.length, extent.is_zero) for extent in disk.extents()] == [(16 << 40, True)]
        assert disk.read(9 << 40, 3) == bytes(3)


@pytest.mark.parametrize(
    ("error", "image"),
    [
        (MalformedImageError, lambda: b"\xda" * 8192),
        (MalformedImageError, lambda: qcow2(version=4)),
        (UnsafeBackingFileError, lambda: qcow2(backing_file_offset=512, backing_file_size=8)),
        (UnsafeBackingFileError, lambda: qcow2(backing_file_offset=512)),
        (UnsafeDataFileError, lambda: qcow2(incompatible=4)),
        (UnsupportedImageError, lambda: qcow2(crypt_method=1)),
        (UnsupportedImageError, lambda: qcow2(crypt_method=2)),
        (MalformedImageError, lambda: qcow2(incompatible=2)),
        (MalformedImageError, lambda: qcow2(incompatible=1 << 40)),
        (MalformedImageError, lambda: qcow2(incompatible=8)),
        (MalformedImageError, lambda: qcow2(header_length=112, extensions=b"\x02" + bytes(7), incompatible=8)),
        (MalformedImageError, lambda: qcow2(cluster_bits=8)),
        (MalformedImageError, lambda: qcow2(cluster_bits=22)),
        (MalformedImageError, lambda: qcow2(cluster_bits=0xFFFFFFFF)),
        (MalformedImageError, lambda: qcow2(incompatible=16, cluster_bits=13)),
        (MalformedImageError, lambda: qcow2(l1_size=0)),
        (MalformedImageError, lambda: qcow2(l1_size=0xFFFFFFFF)),
        (MalformedImageError, lambda: qcow2(size=(1 << 64) - 1)),
        (MalformedImageError, lambda: qcow2(l1_table_offset=3 * CLUSTER + 8)),
        (MalformedImageError, lambda: qcow2(l1_table_offset=1 << 63)),
        (MalformedImageError, lambda: qcow2(l1_table_offset=CLUSTER)),  # over the refcount table
        (MalformedImageError, lambda: b"QFI\xfc" + qcow2()[4:]),
        (TruncatedError, lambda: qcow2(l1_table_offset=1 << 62)),
        (TruncatedError, lambda: qcow2()[:50]),
        (TruncatedError, lambda: qcow2()[:90]),
        (TruncatedError, lambda: qcow2()[: 3 * CLUSTER]),
    ],
)
def test_bad_header_is_refused_when_it_is_opened(
    error: type[RefusedContentError], image: Callable[[], bytes], tmp_path: Path
) -> None:
    with pytest.raises(RefusedContentError) as caught:
        opened(tmp_path / "disk", image())
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("error", "image"),
    [
        (TruncatedError, lambda: qcow2(l1_entry=1 << 40)),
        (TruncatedError, lambda: qcow2()[: 4 * CLUSTER + 512]),
        (TruncatedError, lambda: qcow2()[: 5 * CLUSTER]),
        (TruncatedError, lambda: qcow2(l2_entry=1 << 40)),
        (TruncatedError, lambda: qcow2(l2_entry=COMPRESSED | 1 << 40)),
        (MalformedImageError, lambda: qcow2(l1_entry=4 * CLUSTER + 512)),
        (MalformedImageError, lambda: qcow2(l2_entry=5 * CLUSTER + 512)),
        (MalformedImageError, lambda: qcow2(version=2, l2_entry=1)),
        (MalformedImageError, lambda: extended(0x14000, 1 << 32 | 1)),
        (MalformedImageError, lambda: extended(0, 1)),
        (MalformedImageError, lambda: compressed(b"\xff" * 512)),
        (MalformedImageError, lambda: compressed(deflated(b"x" * (CLUSTER - 1)))),
        (MalformedImageError, lambda: compressed(deflated(b"x" * (CLUSTER + 1)))),
        (MalformedImageError, lambda: compressed(deflated(bytes(MIB)))),
        (MalformedImageError, lambda: compressed(deflated(b"tintype\n" * 512)[:-4])),
        (MalformedImageError, lambda: compressed(zstd(b"x" * (CLUSTER - 1)), **ZSTD)),
        (MalformedImageError, lambda: compressed(zstd(b"x" * (CLUSTER + 1)), **ZSTD)),
        (MalformedImageError, lambda: compressed(zstd(b"x" * (CLUSTER + 1), write_content_size=False), **ZSTD)),
        (MalformedImageError, lambda: compressed(zstd(b"x" * CLUSTER)[:-2], **ZSTD)),
        (MalformedImageError, lambda: compressed(b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8, **ZSTD)),
        (MalformedImageError, lambda: compressed(b"not zstd", **ZSTD)),
    ],
)
def test_bad_cluster_is_refused_when_it_is_read(
    error: type[RefusedContentError], image: Callable[[], bytes], tmp_path: Path
) -> None:
    with opened(tmp_path / "disk", image()) as disk:
        with pytest.raises(RefusedContentError) as caught:
            whole(disk)
        assert type(caught.value) is error
        with pytest.raises(RefusedContentError):
            digest_of(disk)


def test_tables_that_name_the_same_over_and_over_are_refused(tmp_path: Path) -> None:
    """Else a file of some KiB would be a disk of TiB, all of it data."""
    l1_entries = 4096
    image = bytearray(qcow2(size=l1_entries * 2 * MIB, l1_size=l1_entries, l1_table_offset=8 * CLUSTER))
    image[4 * CLUSTER : 5 * CLUSTER] = struct.pack(">Q", 5 * CLUSTER) * 512
    image = image.ljust(8 * CLUSTER, b"\0") + struct.pack(">Q", 4 * CLUSTER) * l1_entries
    with opened(tmp_path / "disk", bytes(image)) as disk:
        extents = disk.extents()
        with pytest.raises(MalformedImageError, match="more data than the file can hold"):
            list(extents)
        assert disk.read(0, 10) == b"\xda" * 10


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A sound image of any kind, spoilt in its header, its tables, or its length."""
    image = bytearray(
        draw(
            st.sampled_from(
                [
                    qcow2(),
                    compressed(deflated(b"tintype\n" * 512)),
                    compressed(zstd(b"tintype\n" * 512), **ZSTD),
                    extended(0x14000, 1 << 32 | 0xFFF0),
                ]
            )
        )
    )
    for _ in range(draw(st.integers(1, 6))):
        base = draw(st.sampled_from([0, 3 * CLUSTER, 4 * CLUSTER, 5 * CLUSTER, 0xC000, 0x10000]))
        offset = base + draw(st.integers(0, 112))
        size = draw(st.sampled_from([1, 2, 4, 8]))
        limit = 1 << 8 * size
        value = draw(st.one_of(st.integers(0, limit - 1), st.sampled_from([0, 1, limit - 1, limit >> 1])))
        if offset + size <= len(image):
            image[offset : offset + size] = value.to_bytes(size, "big")
    return bytes(image[: draw(st.integers(0, len(image)))] if draw(st.booleans()) else image)


@settings(deadline=None, max_examples=400)
@given(image=mutated())
def test_spoilt_image_is_read_or_refused(image: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "spoilt"
    try:
        with opened(path, image) as disk:
            named = 0
            for extent in disk.extents():
                named += 0 if extent.is_zero else extent.length
                # Deflate makes at most 1032 bytes of one; nothing makes more data than the file can hold.
                assert named <= len(image) * 32768
                disk.read(extent.offset, min(extent.length, MIB))
            if disk.size <= SIZE_LIMIT:
                assert digest_of(disk) == naive_digest(whole(disk))
    except RefusedContentError:
        return
