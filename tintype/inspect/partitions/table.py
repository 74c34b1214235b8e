"""Partition tables: MBR with its logical partitions, GPT with its backup, and both together.

It says what a table says, of any disk: a table that is broken is told as ``damaged`` and refuses nothing, since a disk
may hold whatever its owner wants. What the partitions hold is the matter of :mod:`tintype.inspect.file_systems`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from tintype.inspect.file_systems.superblock import Read, label_of, little, read_padded
from tintype.inspect.partitions.types import BIOS_BOOT, EFI_SYSTEM, EXTENDED, GPT_TYPES, MBR_TYPES, PROTECTIVE

MAX_PARTITIONS = 128
"""How many partitions of one table are told."""

MAX_ARRAY_SIZE = 1024 * 1024
"""Bytes of the largest array of GPT entries that is read; programs write 16 KiB."""

_MAX_ACTIVE = 8
_SECTOR_SIZE = 512
_SECTOR_SIZES = (512, 4096)
_SIGNATURE = b"\x55\xaa"
_GPT_SIGNATURE = b"EFI PART"


class Scheme(StrEnum):
    """How a disk is partitioned."""

    GPT = "gpt"
    MBR = "mbr"
    NONE = "none"
    DAMAGED = "damaged"
    """The MBR says that there is a GPT, and neither it nor its backup is sound; or there is one without an MBR."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One entry of a table; ``start`` and ``size_bytes`` in bytes, and nobody has checked that the disk has them.

    ``type`` is one of the names in :mod:`tintype.inspect.partitions.types`, or else the GUID, or the byte in hex.
    ``source`` says where all this was read.
    """

    number: int
    type: str
    start: int
    size_bytes: int
    source: str
    name: str = ""
    uuid: str | None = None

    @property
    def end(self) -> int:
        """The offset behind it, in bytes."""
        return self.start + self.size_bytes


@dataclass(frozen=True, slots=True)
class PartitionTable:
    """A disk's table, and its partitions in the order of their numbers.

    ``boot_code`` is what a BIOS would run, ``active_starts`` where that would go on, in bytes.
    """

    scheme: Scheme
    partitions: tuple[Partition, ...] = ()
    sector_size: int = _SECTOR_SIZE
    uuid: str | None = None
    is_hybrid: bool = False
    boot_code: bytes = b""
    active_starts: tuple[int, ...] = ()

    @property
    def boots_uefi(self) -> bool:
        """Whether there is a partition for UEFI to boot from."""
        return any(partition.type == EFI_SYSTEM for partition in self.partitions)

    def boots_bios(self, read: Read) -> bool:
        """Whether a BIOS finds code in the first sector that has something to go on with.

        GRUB's finds the rest by itself, in a GPT in a partition of its own; other programs' code starts the boot
        sector of the active partition. Partitioning programs write code too, which then finds nothing.
        """
        if not any(self.boot_code):
            return False
        if any(partition.type == BIOS_BOOT for partition in self.partitions):
            return True
        if self.scheme is Scheme.MBR and b"GRUB" in self.boot_code:
            return True
        return any(read_padded(read, start, _SECTOR_SIZE)[510:] == _SIGNATURE for start in self.active_starts)


def read_partition_table(read: Read, disk_size: int) -> PartitionTable:
    """The table of a disk of ``disk_size`` bytes.

    Raises:
        RefusedContentError: whatever ``read`` raises; nothing else does.
    """
    first = read_padded(read, 0, _SECTOR_SIZE)
    entries = list(_mbr_entries(first))
    if not entries:
        has_gpt = any(read_padded(read, size, 8) == _GPT_SIGNATURE for size in _SECTOR_SIZES)
        return PartitionTable(Scheme.DAMAGED if has_gpt else Scheme.NONE)
    boot_code, active = first[:440], list(_active_starts(first))
    if not any(entry.kind == PROTECTIVE for entry in entries):
        by_number = sorted(_mbr_partitions(read, entries), key=lambda partition: partition.number)
        identifier = little(first[440:444])
        uuid = f"{identifier:08x}" if identifier else None
        return PartitionTable(
            Scheme.MBR, tuple(by_number[:MAX_PARTITIONS]), uuid=uuid, boot_code=boot_code, active_starts=tuple(active)
        )
    header = _find_gpt(read, disk_size)
    if header is None:
        return PartitionTable(Scheme.DAMAGED)
    is_hybrid = any(entry.kind != PROTECTIVE for entry in entries)
    active += _legacy_bootable_starts(header)
    partitions = tuple(_gpt_partitions(header))
    return PartitionTable(
        Scheme.GPT, partitions, header.sector_size, header.uuid, is_hybrid, boot_code, tuple(active[:_MAX_ACTIVE])
    )


# --- MBR --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Entry:
    number: int
    kind: int
    start: int
    sectors: int


def _mbr_entries(sector: bytes) -> Iterator[_Entry]:
    """The entries that are used; none if this is no partition table, but a boot sector of something else."""
    if sector[510:512] != _SIGNATURE or any(sector[446 + 16 * i] & 0x7F for i in range(4)):
        return
    for i in range(4):
        kind, start, sectors = struct.unpack_from("<B3xII", sector, 450 + 16 * i)
        if kind and sectors:
            yield _Entry(i + 1, kind, start, sectors)


def _active_starts(sector: bytes) -> Iterator[int]:
    """Of entries of type 0 too: a bootable ISO image marks itself so, from its first sector on."""
    for at in range(446, 510, 16):
        status, start, sectors = struct.unpack_from("<B7xII", sector, at)
        if status == 0x80 and sectors:
            yield start * _SECTOR_SIZE


def _mbr_partitions(read: Read, entries: list[_Entry]) -> Iterator[Partition]:
    is_extended_known = False
    for entry in entries:
        if entry.kind not in EXTENDED:
            yield _mbr_partition(entry, entry.number, entry.start, f"MBR entry {entry.number}")
        elif not is_extended_known:
            is_extended_known = True  # of several extended partitions, systems follow the first
            yield from _logical_partitions(read, entry.start)


def _logical_partitions(read: Read, base: int) -> Iterator[Partition]:
    """Follow the chain of records: a partition's start counts from its record, the next record's from the first."""
    record, seen, number = base, set[int](), 5
    # A record may be empty, or have two partitions: both counts are bounded.
    while record not in seen and len(seen) < MAX_PARTITIONS and number <= MAX_PARTITIONS:
        seen.add(record)
        following = None
        for entry in _mbr_entries(read_padded(read, record * _SECTOR_SIZE, _SECTOR_SIZE)):
            if entry.kind in EXTENDED:
                following = base + entry.start
            elif entry.number <= 2:
                yield _mbr_partition(entry, number, record + entry.start, f"extended boot record {number - 4}")
                number += 1
        if following is None:
            return
        record = following


def _mbr_partition(entry: _Entry, number: int, start: int, source: str) -> Partition:
    kind = MBR_TYPES.get(entry.kind, f"0x{entry.kind:02x}")
    size = entry.sectors * _SECTOR_SIZE
    return Partition(number, kind, start * _SECTOR_SIZE, size, source)


# --- GPT (UEFI Specification 5.3) -------------------------------------------------------------------------------------

_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_LEGACY_BOOTABLE = 1 << 2


@dataclass(frozen=True, slots=True)
class _Gpt:
    """A table whose checksums are right; ``entry_size`` in bytes."""

    source: str
    sector_size: int
    uuid: str
    entries: bytes
    entry_size: int


def _find_gpt(read: Read, disk_size: int) -> _Gpt | None:
    """The primary table, or else the backup in the disk's last sector; for either size of sectors."""
    for sector_size in _SECTOR_SIZES:
        if (found := _read_gpt(read, sector_size, 1, "GPT")) is not None:
            return found
    for sector_size in _SECTOR_SIZES:
        last = disk_size // sector_size - 1
        if last > 1 and (found := _read_gpt(read, sector_size, last, "backup GPT")) is not None:
            return found
    return None


def _read_gpt(read: Read, sector_size: int, position: int, source: str) -> _Gpt | None:
    sector = read_padded(read, position * sector_size, sector_size)
    signature, _, size, crc, _, own_position, *_, uuid, array, count, entry_size, array_crc = _HEADER.unpack_from(
        sector
    )
    if signature != b"EFI PART" or not _HEADER.size <= size <= sector_size or own_position != position:
        return None
    if zlib.crc32(sector[:16] + bytes(4) + sector[20:size]) != crc:
        return None
    if entry_size < _ENTRY.size or entry_size % 8 or not 0 < count * entry_size <= MAX_ARRAY_SIZE:
        return None
    entries = read_padded(read, array * sector_size, count * entry_size)
    if zlib.crc32(entries) != array_crc:
        return None
    return _Gpt(source, sector_size, str(UUID(bytes_le=uuid)), entries, entry_size)


def _gpt_partitions(table: _Gpt) -> Iterator[Partition]:
    found = 0
    for number, at in enumerate(range(0, len(table.entries), table.entry_size), 1):
        kind, uuid, first, last, _, name = _ENTRY.unpack_from(table.entries, at)
        if not any(kind) or last < first or found == MAX_PARTITIONS:
            continue
        found += 1
        guid = str(UUID(bytes_le=kind))
        yield Partition(
            number,
            GPT_TYPES.get(guid, guid),
            first * table.sector_size,
            (last - first + 1) * table.sector_size,
            f"{table.source} entry {number}",
            label_of(name, "utf-16-le"),
            str(UUID(bytes_le=uuid)),
        )


def _legacy_bootable_starts(table: _Gpt) -> Iterator[int]:
    for at in range(0, len(table.entries), table.entry_size):
        kind, _, first, _, attributes, _ = _ENTRY.unpack_from(table.entries, at)
        if any(kind) and attributes & _LEGACY_BOOTABLE:
            yield first * table.sector_size
