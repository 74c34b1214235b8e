"""Superblocks: what is told of a file system, and that no bytes do harm. Real ones are in tests/integration."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tintype.domain.errors import TruncatedError
from tintype.inspect.file_systems import FILE_SYSTEM_TYPES, FileSystem, identify_file_system
from tintype.testing.disk_contents import (
    MAGICS,
    bcachefs_superblock,
    ext4_superblock,
    lvm2_label,
    ufs2_superblock,
    zfs_label,
)

HANDMADE = {
    "ext4": ext4_superblock(),
    "LVM2_member": lvm2_label(),
    "zfs_member": zfs_label(),
    "bcachefs": bcachefs_superblock(),
    "ufs": ufs2_superblock(),
}


class CountedBytes:
    """Bytes to read from, and what was asked of them."""

    def __init__(self, content: bytes | bytearray) -> None:
        self.content, self.reads = content, list[tuple[int, int]]()

    def __call__(self, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        assert offset >= 0 and length >= 0
        return bytes(self.content[offset : offset + length])


def identify(content: bytes | bytearray) -> FileSystem | None:
    return identify_file_system(CountedBytes(content))


def test_ext4_is_told_with_its_label_uuid_size_and_features() -> None:
    assert identify(ext4_superblock(blocks=3 << 32, incompatible=0x80 | 0x40)) == FileSystem(
        "ext4",
        "root",
        "00000000-0000-0000-0000-0000000000e4",
        (3 << 32) * 4096,
        ("has_journal", "extent", "64bit", "sparse_super"),
    )


@pytest.mark.parametrize(
    ("features", "kind"),
    [
        ({"compatible": 0, "incompatible": 0x2}, "ext2"),
        ({"incompatible": 0x2}, "ext3"),
        ({"incompatible": 0x2, "read_only": 0x8}, "ext4"),
        ({"compatible": 0, "incompatible": 0x40}, "ext4"),
        ({"incompatible": 0x8}, "jbd"),
        ({"incompatible": 0xFFFF_FFF7}, "ext4"),
    ],
)
def test_ext_is_told_apart_by_its_features(features: dict[str, Any], kind: str) -> None:
    found = identify(ext4_superblock(**features))
    assert found is not None and found.type == kind


def test_size_that_no_disk_has_is_not_told() -> None:
    found = identify(ext4_superblock(blocks=2**64 - 1, incompatible=0xC2, log_block_size=6))
    assert found is not None and found.size_bytes is None


@pytest.mark.parametrize("log_block_size", [7, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_absurd_block_size_is_no_ext4(log_block_size: int) -> None:
    assert identify(ext4_superblock(log_block_size=log_block_size)) is None


def test_label_that_is_no_text_is_told_all_the_same() -> None:
    found = identify(ext4_superblock(label=b"\xff\xfe\x1b[31m" + b"\x80" * 10))
    assert found is not None and len(found.label) <= 16 and found.label.startswith("\ufffd\ufffd")


def test_physical_volume_is_told_wherever_its_label_is() -> None:
    for sector in range(4):
        found = identify(lvm2_label(sector=sector))
        assert found == FileSystem("LVM2_member", uuid="000000-aaaa-aaaa-aaaa-aaaa-aaaa-aaaaaa", size_bytes=1 << 30)
    assert identify(lvm2_label(offset=0xFFFF_FFFF)) is None
    found = identify(lvm2_label(identifier=b"\xff" * 32))
    assert found is not None and found.uuid is None


def test_pool_of_zfs_is_told_by_its_name() -> None:
    assert identify(zfs_label()) == FileSystem("zfs_member", "tank", "12345")
    assert identify(zfs_label()[:131072]) is None


def test_bcachefs_and_ufs_are_told() -> None:
    assert identify(bcachefs_superblock()) == FileSystem("bcachefs", "bcache", "00000000-0000-0000-0000-0000000000bc")
    ufs = FileSystem("ufs", "rootfs", "0000123400005678", 16 << 20)
    assert identify(ufs2_superblock()) == ufs
    assert identify(bytes(8192) + ufs2_superblock()[65536:]) == ufs


@pytest.mark.parametrize("content", [b"", b"\0" * 512, b"\0" * 100_000, b"\xff" * 100_000, bytes(510) + b"\x55\xaa"])
def test_bytes_of_no_file_system_are_none(content: bytes) -> None:
    assert identify(content) is None


def test_a_luks_header_hides_what_lies_behind_it() -> None:
    content = bytearray(ext4_superblock())
    content[:8] = b"LUKS\xba\xbe\0\1"
    found = identify(content)
    assert found is not None and (found.type, found.features) == ("crypto_LUKS", ("luks1",))


def test_what_cannot_be_read_is_not_taken_for_nothing() -> None:
    def read(offset: int, length: int) -> bytes:
        raise TruncatedError("the file ends")

    with pytest.raises(TruncatedError):
        identify_file_system(read)


def check(content: bytes | bytearray) -> FileSystem | None:
    """Whatever the bytes, few reads of bounded size, and values of bounded size."""
    read = CountedBytes(content)
    found = identify_file_system(read)
    assert len(read.reads) <= 4
    assert sum(length for _, length in read.reads) <= 256 * 1024
    if found is not None:
        assert found.type in FILE_SYSTEM_TYPES
        assert len(found.label) <= 255 and len(found.uuid or "") <= 64
        assert found.size_bytes is None or 0 < found.size_bytes < 2**63
    return found


@pytest.mark.parametrize("kind", MAGICS)
@pytest.mark.parametrize("fill", [b"\0", b"\xff", b"\x7f", b"\x80", None], ids=repr)
def test_integers_at_their_limits_do_no_harm(kind: str, fill: bytes | None) -> None:
    size = 70_000
    content = bytearray(random.Random(7).randbytes(size) if fill is None else fill * size)
    for offset, magic in MAGICS[kind]:
        content[offset : offset + len(magic)] = magic
    check(content)


@given(
    kind=st.sampled_from(sorted(MAGICS)),
    patches=st.lists(st.tuples(st.integers(0, 69_999), st.binary(min_size=1, max_size=16)), max_size=12),
    header=st.binary(max_size=512),
)
def test_mutated_superblocks_do_no_harm(kind: str, patches: list[tuple[int, bytes]], header: bytes) -> None:
    content = bytearray(70_000)
    content[: len(header)] = header
    for offset, magic in [*MAGICS[kind], *patches]:
        content[offset : offset + len(magic)] = magic
    check(content)


@given(kind=st.sampled_from(sorted(HANDMADE)), data=st.data())
def test_mutated_handmade_superblocks_do_no_harm(kind: str, data: st.DataObject) -> None:
    content = bytearray(HANDMADE[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        offset = data.draw(st.integers(0, len(content) - 1))
        content[offset] = data.draw(st.integers(0, 255))
    check(content[: data.draw(st.integers(0, len(content)))])
