"""Superblocks of the file systems that Unix guests have their root on: ext2/3/4, XFS, btrfs, F2FS, bcachefs, UFS2."""

from __future__ import annotations

from uuid import UUID

from tintype.inspect.file_systems.superblock import (
    FileSystem,
    Read,
    big,
    is_power_of_two,
    label_of,
    little,
    names_of,
    size_of,
    uuid_of,
)

# --- ext2, ext3, ext4 (Linux, Documentation/filesystems/ext4/super.rst) -----------------------------------------------

_EXT_COMPATIBLE = {0x4: "has_journal"}
_EXT_INCOMPATIBLE = {
    0x2: "filetype", 0x4: "needs_recovery", 0x10: "meta_bg", 0x40: "extent", 0x80: "64bit", 0x200: "flex_bg",
    0x2000: "metadata_csum_seed", 0x8000: "inline_data", 0x10000: "encrypt", 0x20000: "casefold",
}  # fmt: skip
_EXT_READ_ONLY = {
    0x1: "sparse_super", 0x2: "large_file", 0x8: "huge_file", 0x10: "uninit_bg", 0x20: "dir_nlink",
    0x40: "extra_isize", 0x100: "quota", 0x400: "metadata_csum", 0x2000: "project", 0x8000: "verity",
}  # fmt: skip
_EXT_JOURNAL_DEVICE = 0x8
_EXT_JOURNAL = 0x4
_EXT_64BIT = 0x80
_EXT3_INCOMPATIBLE = 0x2 | 0x4 | 0x10
_EXT3_READ_ONLY = 0x1 | 0x2 | 0x4


def ext(head: bytes, _: Read) -> FileSystem | None:
    """ext2, ext3 or ext4, told apart by their features, as the kernel does."""
    block = head[1024:2048]
    if block[0x38:0x3A] != b"\x53\xef" or little(block[0x18:0x1C]) > 6:
        return None
    compatible, incompatible, read_only = (little(block[at : at + 4]) for at in (0x5C, 0x60, 0x64))
    blocks = little(block[0x4:0x8])
    if incompatible & _EXT_64BIT:
        blocks |= little(block[0x150:0x154]) << 32
    features = names_of(compatible, _EXT_COMPATIBLE) + names_of(incompatible, _EXT_INCOMPATIBLE)
    return FileSystem(
        _ext_version(compatible, incompatible, read_only),
        label_of(block[0x78:0x88]),
        uuid_of(block[0x68:0x78]),
        size_of(blocks, 1024 << little(block[0x18:0x1C])),
        features + names_of(read_only, _EXT_READ_ONLY),
    )


def _ext_version(compatible: int, incompatible: int, read_only: int) -> str:
    if incompatible & _EXT_JOURNAL_DEVICE:
        return "jbd"
    if incompatible & ~_EXT3_INCOMPATIBLE or read_only & ~_EXT3_READ_ONLY:
        return "ext4"
    return "ext3" if compatible & _EXT_JOURNAL else "ext2"


# --- XFS (XFS Filesystem Structure, 3rd edition, superblocks) ---------------------------------------------------------

_XFS_READ_ONLY = {1: "finobt", 2: "rmapbt", 4: "reflink", 8: "inobtcount"}
_XFS_INCOMPATIBLE = {1: "ftype", 2: "sparse", 4: "meta_uuid", 8: "bigtime", 16: "needsrepair", 32: "nrext64"}


def xfs(head: bytes, _: Read) -> FileSystem | None:
    """XFS, version 4 or 5."""
    block_size, sector_size = big(head[4:8]), big(head[102:104])
    if head[:4] != b"XFSB" or not is_power_of_two(block_size, 512, 65536):
        return None
    if not is_power_of_two(sector_size, 512, 32768):
        return None
    features: tuple[str, ...] = ()
    if big(head[100:102]) & 0xF == 5:
        features = ("crc", *names_of(big(head[212:216]), _XFS_READ_ONLY))
        features += names_of(big(head[216:220]), _XFS_INCOMPATIBLE)
    size = size_of(big(head[8:16]), block_size)
    return FileSystem("xfs", label_of(head[108:120]), uuid_of(head[32:48]), size, features)


# --- btrfs (Linux, include/uapi/linux/btrfs_tree.h: btrfs_super_block) ------------------------------------------------

_BTRFS_INCOMPATIBLE = {
    0x1: "mixed_backref", 0x2: "default_subvol", 0x4: "mixed_groups", 0x8: "compress_lzo", 0x10: "compress_zstd",
    0x40: "extended_iref", 0x80: "raid56", 0x100: "skinny_metadata", 0x200: "no_holes", 0x1000: "zoned",
    0x2000: "extent_tree_v2",
}  # fmt: skip


def btrfs(head: bytes, _: Read) -> FileSystem | None:
    """btrfs; the size is that of all its devices together."""
    block = head[65536 : 65536 + 4096]
    if block[64:72] != b"_BHRfS_M" or little(block[48:56]) != 65536:
        return None
    return FileSystem(
        "btrfs",
        label_of(block[299:555]),
        uuid_of(block[32:48]),
        size_of(little(block[112:120]), 1),
        names_of(little(block[188:196]), _BTRFS_INCOMPATIBLE),
    )


# --- others -----------------------------------------------------------------------------------------------------------

_BCACHEFS_MAGIC = UUID("c68573f6-66ce-90a9-d96a-60cf803df7ef").bytes


def f2fs(head: bytes, _: Read) -> FileSystem | None:
    """F2FS (Linux, include/linux/f2fs_fs.h: f2fs_super_block)."""
    block = head[1024:4096]
    log_block_size = little(block[16:20])
    if block[:4] != b"\x10\x20\xf5\xf2" or not 9 <= log_block_size <= 16:
        return None
    size = size_of(little(block[36:44]), 1 << log_block_size)
    return FileSystem("f2fs", label_of(block[124:1148], "utf-16-le"), uuid_of(block[108:124]), size)


def bcachefs(head: bytes, _: Read) -> FileSystem | None:
    """bcachefs (Linux, fs/bcachefs/bcachefs_format.h: bch_sb); its size is told per device, and not here."""
    block = head[4096:8192]
    if block[24:40] != _BCACHEFS_MAGIC:
        return None
    return FileSystem("bcachefs", label_of(block[72:104]), uuid_of(block[56:72]))


_UFS2_POSITIONS = (65536, 8192)  # the first two of SBLOCKSEARCH; makefs writes to the second


def ufs2(head: bytes, _: Read) -> FileSystem | None:
    """UFS2 of the BSDs, little-endian (FreeBSD, sys/ufs/ffs/fs.h: fs)."""
    for position in _UFS2_POSITIONS:
        block = head[position : position + 1376]
        fragment_size = little(block[52:56])
        if block[1372:1376] != b"\x19\x01\x54\x19" or not is_power_of_two(fragment_size, 512, 65536):
            continue
        volume_id = f"{little(block[144:148]):08x}{little(block[148:152]):08x}" if any(block[144:152]) else None
        size = size_of(little(block[1080:1088]), fragment_size)
        return FileSystem("ufs", label_of(block[680:712]), volume_id, size)
    return None
