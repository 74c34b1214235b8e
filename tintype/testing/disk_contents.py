"""Partition tables and superblocks, written field by field, so that a test can spoil any one of them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from uuid import UUID

GRUB = b"\xeb\x63\x90".ljust(384, b"\0") + b"GRUB \0Geom\0"
"""The beginning of a first sector with GRUB in it."""

EFI_SYSTEM = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
BIOS_BOOT = UUID("21686148-6449-6e6f-744e-656564454649")
LINUX = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
LINUX_ROOT_AARCH64 = UUID("b921b045-1df0-41c3-af44-4c6f280d3fae")


@dataclass(frozen=True, slots=True)
class GptEntry:
    """One partition of a GPT; ``first`` and ``last`` in sectors."""

    type: UUID
    first: int
    last: int
    name: str = ""
    attributes: int = 0

    def pack(self, size: int) -> bytes:
        """The entry's bytes."""
        name = self.name.encode("utf-16-le")[:72]
        fields = self.type.bytes_le, UUID(int=self.first + 1).bytes_le, self.first, self.last, self.attributes, name
        return struct.pack("<16s16sQQQ72s", *fields).ljust(size, b"\0")


def mbr(entries: Sequence[tuple[int, int, int, int]], *, boot_code: bytes = b"", identifier: int = 0) -> bytes:
    """A first sector: each entry is (status, type, first sector, count of sectors)."""
    packed = b"".join(struct.pack("<B3sB3sII", status, b"", kind, b"", at, n) for status, kind, at, n in entries)
    return boot_code.ljust(440, b"\0") + struct.pack("<IH", identifier, 0) + packed.ljust(64, b"\0") + b"\x55\xaa"


PROTECTIVE_MBR = mbr([(0, 0xEE, 1, 0xFFFF_FFFF)])


def gpt_header(position: int, array: int, entries: bytes, entry_size: int, spoil: Mapping[str, int]) -> bytes:
    """A header with the right checksums; ``spoil`` puts other values in the place of its fields."""
    values = {"size": 92, "position": position, "array": array, "entry_size": entry_size}
    values |= {"count": len(entries) // entry_size, "array_crc": zlib.crc32(entries)} | dict(spoil)
    disk = UUID(int=7).bytes_le
    head = struct.pack("<8sIIII", b"EFI PART", 0x10000, values["size"], 0, 0)
    head += struct.pack("<QQQQ16sQ", values["position"], 0, 34, 0, disk, values["array"])
    head += struct.pack("<III", values["count"], values["entry_size"], values["array_crc"])
    crc = values.get("crc", zlib.crc32(head[: values["size"]].ljust(min(values["size"], 4096), b"\0")))
    return head[:16] + struct.pack("<I", crc) + head[20:]


def gpt(
    partitions: Sequence[GptEntry | None],
    *,
    disk_size: int = 4 << 20,
    sector_size: int = 512,
    count: int = 128,
    entry_size: int = 128,
    first_sector: bytes = PROTECTIVE_MBR,
    has_primary: bool = True,
    has_backup: bool = True,
    spoil: Mapping[str, int] = MappingProxyType({}),
) -> bytearray:
    """A whole disk with a GPT and its backup; ``spoil`` is done to both headers. ``None`` is an unused entry."""
    blank = bytes(entry_size)
    entries = b"".join(blank if entry is None else entry.pack(entry_size) for entry in partitions)
    entries = entries.ljust(count * entry_size, b"\0")
    disk = bytearray(disk_size)
    disk[: len(first_sector)] = first_sector
    last = disk_size // sector_size - 1
    backup_array = last - -(-len(entries) // sector_size)
    for position, array, is_there in ((1, 2, has_primary), (last, backup_array, has_backup)):
        if is_there:
            header = gpt_header(position, array, entries, entry_size, spoil)
            disk[position * sector_size : position * sector_size + len(header)] = header
            disk[array * sector_size : array * sector_size + len(entries)] = entries
    return disk


def ext4_superblock(*, label: bytes = b"root", blocks: int = 1024, log_block_size: int = 2, **fields: int) -> bytes:
    """The first 2 KiB of an ext4 file system: ``compatible``, ``incompatible`` and ``read_only`` are feature bits."""
    values = {"magic": 0xEF53, "compatible": 0x4, "incompatible": 0x2 | 0x40, "read_only": 0x1} | fields
    block = bytearray(1024)
    struct.pack_into("<I", block, 0x4, blocks & 0xFFFF_FFFF)
    struct.pack_into("<I", block, 0x18, log_block_size)
    struct.pack_into("<H", block, 0x38, values["magic"])
    struct.pack_into("<III", block, 0x5C, values["compatible"], values["incompatible"], values["read_only"])
    block[0x68:0x78] = UUID(int=0xE4).bytes
    block[0x78:0x88] = label[:16].ljust(16, b"\0")
    struct.pack_into("<I", block, 0x150, blocks >> 32)
    return bytes(1024) + bytes(block)


def lvm2_label(
    *, sector: int = 1, offset: int = 32, identifier: bytes = b"0" * 6 + b"a" * 26, size: int = 1 << 30
) -> bytes:
    """The first four sectors of a physical volume."""
    label = b"LABELONE" + struct.pack("<QII", sector, 0, offset) + b"LVM2 001"
    label += identifier.ljust(32, b"\0") + struct.pack("<Q", size)
    return (bytes(512 * sector) + label).ljust(2048, b"\0")


def zfs_label(*, name: bytes = b"tank", guid: int = 12345) -> bytes:
    """The first 256 KiB of a pool's disk: the names in XDR, and one uberblock."""
    padded = name.ljust(-(-len(name) // 4) * 4, b"\0")
    names = struct.pack(">I4sIII", 4, b"name", 9, 1, len(name)) + padded
    names += struct.pack(">I12sIIQ", 9, b"pool_guid", 8, 1, guid)
    label = bytearray(256 * 1024)
    label[16384 : 16384 + len(names)] = names
    label[131072 + 4096 : 131072 + 4104] = (0x00BAB10C).to_bytes(8, "little")
    return bytes(label)


def bcachefs_superblock(*, label: bytes = b"bcache") -> bytes:
    """The first 8 KiB of a bcachefs file system."""
    block = bytearray(8192)
    block[4096 + 24 : 4096 + 40] = UUID("c68573f6-66ce-90a9-d96a-60cf803df7ef").bytes
    block[4096 + 56 : 4096 + 72] = UUID(int=0xBC).bytes
    block[4096 + 72 : 4096 + 104] = label[:32].ljust(32, b"\0")
    return bytes(block)


def ufs2_superblock(*, name: bytes = b"rootfs", fragments: int = 4096, fragment_size: int = 4096) -> bytes:
    """The first 68 KiB of a UFS2 file system."""
    block = bytearray(68 * 1024)
    struct.pack_into("<I", block, 65536 + 52, fragment_size)
    struct.pack_into("<II", block, 65536 + 144, 0x1234, 0x5678)
    block[65536 + 680 : 65536 + 712] = name[:32].ljust(32, b"\0")
    struct.pack_into("<Q", block, 65536 + 1080, fragments)
    struct.pack_into("<I", block, 65536 + 1372, 0x19540119)
    return bytes(block)


MAGICS: Mapping[str, Sequence[tuple[int, bytes]]] = {
    "xfs": [(0, b"XFSB\0\0\x10\0"), (102, b"\x02\0")],
    "btrfs": [(65536 + 48, (65536).to_bytes(8, "little")), (65536 + 64, b"_BHRfS_M")],
    "f2fs": [(1024, b"\x10\x20\xf5\xf2"), (1040, b"\x0c")],
    "ntfs": [(3, b"NTFS    \0\x02\x08"), (510, b"\x55\xaa"), (64, b"\xf6")],
    "exfat": [(3, b"EXFAT   "), (108, b"\x09\x03"), (510, b"\x55\xaa")],
    "vfat": [(0, b"\xeb\x3c\x90mkfs.fat\0\x02\x04\x01\0\x02\0\x02\0\x50\xf8\x14\0"), (510, b"\x55\xaa")],
    "squashfs": [(0, b"hsqs"), (28, b"\4\0")],
    "swap": [(4086, b"SWAPSPACE2"), (1024, b"\1\0\0\0")],
    "iso9660": [(32768, b"\x01CD001")],
    "crypto_LUKS": [(0, b"LUKS\xba\xbe\0\2")],
}
"""What a superblock cannot be told without; every other byte may be anything."""


def superblock_magics() -> Iterator[bytes]:
    """For each of them the shortest bytes that have them, and zeros otherwise."""
    for magics in MAGICS.values():
        content = bytearray(max(offset + len(magic) for offset, magic in magics))
        for offset, magic in magics:
            content[offset : offset + len(magic)] = magic
        yield bytes(content)
