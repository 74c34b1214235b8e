"""Which file system some bytes begin with, by its superblock alone: type, label, UUID, size.

It reads no file, and believes nothing but what tells one file system from another. Whatever the bytes, it makes a few
reads of bounded size; of several superblocks that were left by several programs the most telling one counts.
"""

from __future__ import annotations

from collections.abc import Callable

from tintype.inspect.file_systems.linux import bcachefs, btrfs, ext, f2fs, ufs2, xfs
from tintype.inspect.file_systems.members import luks, lvm2, swap, zfs
from tintype.inspect.file_systems.portable import exfat, iso9660, ntfs, squashfs, vfat
from tintype.inspect.file_systems.superblock import HEAD_SIZE, FileSystem, Read, read_padded

__all__ = ["FILE_SYSTEM_TYPES", "FileSystem", "Read", "identify_file_system"]

FILE_SYSTEM_TYPES = (
    "LVM2_member", "bcachefs", "btrfs", "crypto_LUKS", "exfat", "ext2", "ext3", "ext4", "f2fs", "iso9660", "jbd",
    "ntfs", "squashfs", "swap", "ufs", "vfat", "xfs", "zfs_member",
)  # fmt: skip
"""Every type that may be found."""

_READERS: tuple[Callable[[bytes, Read], FileSystem | None], ...] = (
    # What holds others comes first: what it holds may begin where its own header leaves room.
    luks, lvm2, zfs,
    xfs, btrfs, ext, ntfs, exfat, f2fs, bcachefs, squashfs, swap, ufs2, iso9660,
    # FAT has no magic number, and boot sectors of other things look like it.
    vfat,
)  # fmt: skip


def identify_file_system(read: Read) -> FileSystem | None:
    """The file system that begins at offset 0 of ``read``; ``None`` if it is none that is known.

    Raises:
        RefusedContentError: whatever ``read`` raises; nothing else does.
    """
    head = read_padded(read, 0, HEAD_SIZE)
    for reader in _READERS:
        found = reader(head, read)
        if found is not None:
            return found
    return None
