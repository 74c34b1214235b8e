"""Superblocks of file systems that are made to be read, once or everywhere: FAT, exFAT, NTFS, ISO 9660, squashfs."""

from __future__ import annotations

from collections.abc import Iterator

from tintype.inspect.file_systems.superblock import (
    FileSystem,
    Read,
    is_power_of_two,
    label_of,
    little,
    read_padded,
    size_of,
)

_ROOT_DIRECTORY_BYTES = 16 * 1024
"""How much of a root directory is searched for the entry with the volume's label; programs write it first."""

# --- FAT (Microsoft, FAT: General Overview of On-Disk Format, 1.03) ---------------------------------------------------

_FAT_VOLUME_ID = 0x08
_FAT_LONG_NAME = 0x0F
_FAT_NO_NAME = "NO NAME"
_FREE_ENTRY = 0xE5


def vfat(head: bytes, read: Read) -> FileSystem | None:
    """FAT12, FAT16 or FAT32, told apart by the count of clusters and by nothing else, as the specification says."""
    sector_size, cluster_sectors = little(head[11:13]), head[13]
    reserved, fats, root_entries = little(head[14:16]), head[16], little(head[17:19])
    sectors = little(head[19:21]) or little(head[32:36])
    fat_sectors = little(head[22:24]) or little(head[36:40])
    if not _is_fat_boot_sector(head, sector_size, cluster_sectors) or not (reserved and fat_sectors and sectors):
        return None
    root_sector = reserved + fats * fat_sectors
    data_sector = root_sector - -root_entries * 32 // sector_size
    if not 1 <= fats <= 4 or data_sector >= sectors:
        return None
    variant = _fat_variant((sectors - data_sector) // cluster_sectors)
    if (variant == "fat32") != (little(head[22:24]) == 0):
        return None
    extended = head[64:90] if variant == "fat32" else head[36:62]
    if variant == "fat32":
        root_sector = data_sector + max(0, little(head[44:48]) - 2) * cluster_sectors
    serial, label = _fat_extension(extended)
    label = _fat_directory_label(read_padded(read, root_sector * sector_size, _ROOT_DIRECTORY_BYTES)) or label
    return FileSystem("vfat", label, serial, size_of(sectors, sector_size), (variant,))


def _is_fat_boot_sector(head: bytes, sector_size: int, cluster_sectors: int) -> bool:
    has_jump = head[0] == 0xE9 or (head[0] == 0xEB and head[2] == 0x90)
    has_media = head[21] == 0xF0 or head[21] >= 0xF8
    has_sizes = is_power_of_two(sector_size, 512, 4096) and is_power_of_two(cluster_sectors, 1, 128)
    return has_jump and has_media and has_sizes and head[510:512] == b"\x55\xaa"


def _fat_variant(clusters: int) -> str:
    if clusters < 4085:
        return "fat12"
    return "fat16" if clusters < 65525 else "fat32"


def _fat_extension(extended: bytes) -> tuple[str | None, str]:
    """The serial number and the label out of the extended boot signature: 0x28 has no label, 0x29 both."""
    serial = little(extended[3:7]) if extended[2] in (0x28, 0x29) else 0
    label = label_of(extended[7:18], "cp437") if extended[2] == 0x29 else ""
    return f"{serial >> 16:04X}-{serial & 0xFFFF:04X}" if serial else None, "" if label == _FAT_NO_NAME else label


def _fat_directory_label(directory: bytes) -> str:
    """The label that operating systems show and change: an entry of the root directory."""
    for entry in _directory_entries(directory):
        attributes = entry[11]
        if entry[0] != _FREE_ENTRY and attributes & _FAT_LONG_NAME != _FAT_LONG_NAME and attributes & _FAT_VOLUME_ID:
            return label_of(entry[:11], "cp437")
    return ""


def _directory_entries(directory: bytes) -> Iterator[bytes]:
    for at in range(0, len(directory), 32):
        if directory[at] == 0:
            return
        yield directory[at : at + 32]


# --- exFAT (Microsoft, exFAT File System Specification, 3 and 7) ------------------------------------------------------

_EXFAT_LABEL = 0x83


def exfat(head: bytes, read: Read) -> FileSystem | None:
    """exFAT; the label is an entry of the root directory."""
    sector_shift, cluster_shift = head[108], head[109]
    if head[3:11] != b"EXFAT   " or any(head[11:64]) or head[510:512] != b"\x55\xaa":
        return None
    if not 9 <= sector_shift <= 12 or cluster_shift > 25 - sector_shift:
        return None
    root_cluster = max(0, little(head[96:100]) - 2)
    root = ((root_cluster << cluster_shift) + little(head[88:92])) << sector_shift
    label = ""
    for entry in _directory_entries(read_padded(read, root, _ROOT_DIRECTORY_BYTES)):
        if entry[0] == _EXFAT_LABEL:
            label = label_of(entry[2 : 2 + 2 * min(entry[1], 11)], "utf-16-le")
    serial = little(head[100:104])
    size = size_of(little(head[72:80]), 1 << sector_shift)
    return FileSystem("exfat", label, f"{serial >> 16:04X}-{serial & 0xFFFF:04X}", size)


# --- NTFS (Linux-NTFS project, NTFS documentation: $Boot, FILE record, $VOLUME_NAME) ----------------------------------

_NTFS_VOLUME_RECORD = 3
_NTFS_VOLUME_NAME = 0x60
_NTFS_MAX_RECORD = 4096


def ntfs(head: bytes, read: Read) -> FileSystem | None:
    """NTFS; the label is in the third record of the master file table."""
    sector_size = little(head[11:13])
    cluster_sectors = head[13] if head[13] <= 128 else 1 << min(256 - head[13], 31)
    if head[3:11] != b"NTFS    " or head[510:512] != b"\x55\xaa" or not is_power_of_two(sector_size, 256, 4096):
        return None
    cluster_size = sector_size * cluster_sectors
    if not is_power_of_two(cluster_size, 256, 2 * 1024 * 1024):
        return None
    # Clusters, or if negative, the logarithm of bytes.
    record_size = head[64] * cluster_size if head[64] < 128 else 1 << min(256 - head[64], 31)
    label = ""
    if is_power_of_two(record_size, 256, _NTFS_MAX_RECORD):
        table = little(head[48:56]) * cluster_size
        label = _ntfs_label(read_padded(read, table + _NTFS_VOLUME_RECORD * record_size, record_size))
    serial = little(head[72:80])
    return FileSystem("ntfs", label, f"{serial:016X}" if serial else None, size_of(little(head[40:48]), sector_size))


def _ntfs_label(record: bytes) -> str:
    if record[:4] != b"FILE":
        return ""
    record = _without_fixups(record)
    at = little(record[20:22])
    for _ in range(64):
        kind, length = little(record[at : at + 4]), little(record[at + 4 : at + 8])
        if kind == _NTFS_VOLUME_NAME and not record[at + 8]:
            begin = at + little(record[at + 20 : at + 22])
            return label_of(record[begin : begin + min(little(record[at + 16 : at + 20]), 256)], "utf-16-le")
        if length < 24 or at + length + 24 > len(record):
            break
        at += length
    return ""


def _without_fixups(record: bytes) -> bytes:
    """The record as it was before the last two bytes of each 512 were replaced by a sequence number."""
    restored = bytearray(record)
    at = little(record[4:6])
    for sector in range(min(little(record[6:8]) - 1, len(record) // 512)):
        original = record[at + 2 + 2 * sector : at + 4 + 2 * sector]
        if len(original) == 2:
            restored[sector * 512 + 510 : sector * 512 + 512] = original
    return bytes(restored)


# --- images of file trees ---------------------------------------------------------------------------------------------

_SQUASHFS_COMPRESSION = {1: "gzip", 2: "lzma", 3: "lzo", 4: "xz", 5: "lz4", 6: "zstd"}


def iso9660(head: bytes, _: Read) -> FileSystem | None:
    """ISO 9660 (ECMA-119, 8.4: primary volume descriptor); as ``blkid`` does, a date stands for the UUID."""
    volume = head[32768 : 32768 + 2048]
    if volume[:6] != b"\x01CD001":
        return None
    changed = next((date for date in (volume[830:846], volume[813:829]) if date.isdigit() and date.strip(b"0")), None)
    uuid = None
    if changed is not None:
        text = changed.decode("ascii")
        uuid = "-".join((text[:4], *(text[at : at + 2] for at in range(4, 16, 2))))
    block_size = little(volume[128:130])
    size = size_of(little(volume[80:84]), block_size) if is_power_of_two(block_size, 512, 2048) else None
    return FileSystem("iso9660", label_of(volume[40:72]), uuid, size)


def squashfs(head: bytes, _: Read) -> FileSystem | None:
    """squashfs 4 (Linux, fs/squashfs/squashfs_fs.h: squashfs_super_block); its compression is the one feature."""
    if head[:4] != b"hsqs" or little(head[28:30]) != 4:
        return None
    compression = _SQUASHFS_COMPRESSION.get(little(head[20:22]))
    features = () if compression is None else (compression,)
    return FileSystem("squashfs", size_bytes=size_of(little(head[40:48]), 1), features=features)
