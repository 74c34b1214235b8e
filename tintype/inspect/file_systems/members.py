"""Headers of what is no file system, but takes a partition's place: swap, LVM2's volumes, LUKS, a ZFS pool's disks."""

from __future__ import annotations

from tintype.inspect.file_systems.superblock import (
    FileSystem,
    Read,
    big,
    label_of,
    little,
    read_padded,
    size_of,
    uuid_of,
)

_SWAP_PAGE_SIZES = (4096, 8192, 16384, 32768, 65536)


def luks(head: bytes, _: Read) -> FileSystem | None:
    """LUKS 1 and 2 (LUKS1 On-Disk Format Specification 1.2.3; LUKS2 On-Disk Format Specification 1.1)."""
    version = big(head[6:8])
    if head[:6] != b"LUKS\xba\xbe" or version not in (1, 2):
        return None
    uuid = label_of(head[168:208], "ascii") or None
    return FileSystem("crypto_LUKS", label_of(head[24:72]) if version == 2 else "", uuid, features=(f"luks{version}",))


def lvm2(head: bytes, _: Read) -> FileSystem | None:
    """A physical volume of LVM2: the label is in one of the first four sectors (LVM2, lib/label/label.c)."""
    for sector in range(4):
        label = head[sector * 512 : sector * 512 + 512]
        at = little(label[20:24])
        if label[:8] != b"LABELONE" or label[24:32] != b"LVM2 001" or not 32 <= at <= 512 - 40:
            continue
        identifier = label[at : at + 32]
        size = size_of(little(label[at + 32 : at + 40]), 1)
        return FileSystem("LVM2_member", uuid=_lvm_uuid(identifier), size_bytes=size)
    return None


def _lvm_uuid(identifier: bytes) -> str | None:
    if not (identifier.isascii() and identifier.decode("ascii", "replace").isalnum()):
        return None
    text = identifier.decode("ascii")
    return "-".join((text[:6], *(text[at : at + 4] for at in range(6, 26, 4)), text[26:]))


def swap(head: bytes, _: Read) -> FileSystem | None:
    """Swap space, version 1: its signature ends the first page, whatever the size of pages (util-linux, mkswap)."""
    for page_size in _SWAP_PAGE_SIZES:
        if head[page_size - 10 : page_size] != b"SWAPSPACE2":
            continue
        integer = little if head[1024:1028] == b"\1\0\0\0" else big
        size = size_of(integer(head[1028:1032]) + 1, page_size)
        return FileSystem("swap", label_of(head[1052:1068]), uuid_of(head[1036:1052]), size)
    return None


# --- ZFS (Sun Microsystems, ZFS On-Disk Specification, chapter 1) -----------------------------------------------------

_ZFS_MAGICS = (b"\0\0\0\0\0\xba\xb1\x0c", b"\x0c\xb1\xba\0\0\0\0\0")
_ZFS_UBERBLOCKS = 128 * 1024
_ZFS_NAMES = 16 * 1024
# In XDR: the key's length, the key, its type (9 a string, 8 a number of 64 bits), and how many.
_ZFS_POOL_NAME = b"\0\0\0\4name\0\0\0\x09\0\0\0\1"
_ZFS_POOL_GUID = b"\0\0\0\x09pool_guid\0\0\0\0\0\0\x08\0\0\0\1"


def zfs(head: bytes, read: Read) -> FileSystem | None:
    """A member of a ZFS pool: it has an uberblock in its first label; the pool's name is taken for its label."""
    if _ZFS_POOL_GUID not in head[_ZFS_NAMES:]:
        return None
    uberblocks = read_padded(read, _ZFS_UBERBLOCKS, 128 * 1024)
    if not any(uberblocks[at : at + 8] in _ZFS_MAGICS for at in range(0, len(uberblocks), 1024)):
        return None
    at = head.index(_ZFS_POOL_GUID, _ZFS_NAMES) + len(_ZFS_POOL_GUID)
    guid = big(head[at : at + 8])
    label = ""
    if (at := head.find(_ZFS_POOL_NAME, _ZFS_NAMES)) >= 0:
        at += len(_ZFS_POOL_NAME)
        label = label_of(head[at + 4 : at + 4 + min(big(head[at : at + 4]), 255)])
    return FileSystem("zfs_member", label, str(guid))
