"""What is on a guest's disk, by its partition table and its superblocks: facts, each with where it was read.

It reads a few sectors of any disk, in this process, and opens no file system: that is the matter of
:mod:`tintype.disks.contents_jail`. A disk may hold anything, so nothing that is found here is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tintype.disks.disk import Disk
from tintype.domain.values import Fact, PropertyValue
from tintype.inspect.fact_bounds import MAX_FACTS, bounded
from tintype.inspect.file_systems import FileSystem, Read, identify_file_system
from tintype.inspect.partitions.table import Partition, PartitionTable, Scheme, read_partition_table
from tintype.inspect.partitions.types import architecture_of
from tintype.inspect.registry import FactSpec

MAX_PARTITIONS = 16
"""How many partitions are told; each is up to eight facts."""

CONTENT_FACTS = (
    FactSpec("partition_table", str, "sectors 0 and 1", "gpt, mbr, none, or damaged"),
    FactSpec("partition_table_uuid", str, "the partition table", "identifies the disk"),
    FactSpec("partition_table_hybrid", bool, "sector 0", "a GPT's partitions are in an MBR too"),
    FactSpec("partition_table_sector_size_bytes", int, "GPT header", "the size of sectors that the table counts in"),
    FactSpec("partition_N_type", str, "the partition table", "what the partition is for; a GUID or number if unknown"),
    FactSpec("partition_N_start", int, "the partition table", "where it begins, in bytes"),
    FactSpec("partition_N_size_bytes", int, "the partition table", "how large it is"),
    FactSpec("partition_N_name", str, "GPT entry N", "its name"),
    FactSpec("partition_N_file_system", str, "its superblock", "the file system in it, in the words of blkid"),
    FactSpec("partition_N_label", str, "its superblock", "the file system's label"),
    FactSpec("partition_N_uuid", str, "its superblock", "the file system's UUID, or serial number"),
    FactSpec("partition_N_file_system_size_bytes", int, "its superblock", "the file system's own size"),
    FactSpec("file_system", str, "its superblock", "the file system on a disk without partitions"),
    FactSpec("file_system_label", str, "its superblock", "its label"),
    FactSpec("file_system_uuid", str, "its superblock", "its UUID, or serial number"),
    FactSpec("file_system_size_bytes", int, "its superblock", "its own size"),
    FactSpec("boots_uefi", bool, "the partition table", "there is an EFI system partition"),
    FactSpec("boots_bios", bool, "sector 0 and the partition table", "there is boot code, and what it goes on with"),
    FactSpec("hw_firmware_type", str, "boots_uefi and boots_bios", "uefi or bios, where only one of them boots"),
    FactSpec("os_type", str, "the root file system", "linux or windows"),
    FactSpec("os_distro", str, "os-release in the root file system", "the distribution, as compute services name it"),
    FactSpec("os_version", str, "os-release in the root file system", "its version"),
    FactSpec("os_pretty_name", str, "os-release in the root file system", "how it calls itself"),
    FactSpec("architecture", str, "a program in the root file system, or its partition's type", "x86_64, aarch64, …"),
    FactSpec("os_detection", str, "the root file system", "why nothing is known of the operating system"),
)
"""Every fact about what is on a disk."""

_NUMBER = re.compile(r"^partition_\d+_")
_SPECS = {spec.key: spec for spec in CONTENT_FACTS}
_BOOT_SECTOR_TYPES = frozenset({"vfat", "ntfs", "exfat"})
"""File systems whose first sector ends as an MBR does."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A file system that was found, and where: ``number`` is its partition's, 0 for a disk without partitions."""

    number: int
    start: int
    size_bytes: int
    file_system: FileSystem

    @property
    def place(self) -> str:
        """Where it is, for a fact's source."""
        return f"partition {self.number}" if self.number else "the disk"


@dataclass(frozen=True, slots=True)
class Survey:
    """The facts of a disk, and the file systems that were found on it."""

    facts: Mapping[str, Fact]
    volumes: tuple[Volume, ...]


def content_fact(key: str, value: PropertyValue, source: str) -> Fact:
    """The value with its source, of a declared fact.

    Raises:
        KeyError: there is no such fact.
        TypeError: it is of another type.
    """
    spec = _SPECS[_NUMBER.sub("partition_N_", key)]
    if type(value) is not spec.type:
        raise TypeError(f"fact {key!r} is {value!r}, and should be of type {spec.type.__name__}")
    return Fact(value, source)


def survey(disk: Disk) -> Survey:
    """The facts of a disk's partition table and superblocks, and where the file systems are.

    Raises:
        RefusedContentError: the image's own tables are not sound, so that the disk cannot be read.
    """
    whole_disk = _window(disk, 0, disk.size)
    table = read_partition_table(whole_disk, disk.size)
    file_system = identify_file_system(whole_disk)
    if file_system is not None and _is_bare(file_system, table):
        table = PartitionTable(Scheme.NONE)
    facts: dict[str, Fact] = {}
    volumes: list[Volume] = []
    # An ISO image may be made a partitioned disk as well; any other superblock beside a table is a leftover.
    if file_system is not None and (table.scheme is Scheme.NONE or file_system.type == "iso9660"):
        volumes.append(Volume(0, 0, disk.size, file_system))
        facts |= _file_system_facts("file_system", volumes[0])
    for partition in table.partitions[:MAX_PARTITIONS]:
        volume = _volume_in(disk, partition)
        volumes += [] if volume is None else [volume]
        facts |= _partition_facts(partition, volume)
    facts |= _table_facts(table)
    if table.partitions:
        facts |= _boot_facts(table, whole_disk)
    assert len(facts) <= MAX_FACTS
    return Survey(bounded(facts), tuple(volumes))


def _is_bare(file_system: FileSystem, table: PartitionTable) -> bool:
    """Whether the file system takes the whole disk, and what looks like a table is a part of its boot sector."""
    if table.scheme is Scheme.GPT:
        return False  # a table with checksums is believed
    return not table.partitions or file_system.type in _BOOT_SECTOR_TYPES


def _window(disk: Disk, start: int, size: int) -> Read:
    """Reads within a part of the disk, and within the disk, whatever is asked for."""
    end = min(start + size, disk.size)

    def read(offset: int, length: int) -> bytes:
        first = start + offset
        length = min(length, end - first)
        return disk.read(first, length) if length > 0 else b""

    return read


def _volume_in(disk: Disk, partition: Partition) -> Volume | None:
    size = min(partition.end, disk.size) - partition.start
    if size <= 0:
        return None
    file_system = identify_file_system(_window(disk, partition.start, size))
    return None if file_system is None else Volume(partition.number, partition.start, size, file_system)


def _table_facts(table: PartitionTable) -> Iterator[tuple[str, Fact]]:
    source = "GPT header" if table.scheme is Scheme.GPT else "MBR"
    yield "partition_table", content_fact("partition_table", table.scheme.value, "sectors 0 and 1")
    if table.uuid is not None:
        yield "partition_table_uuid", content_fact("partition_table_uuid", table.uuid, source)
    if table.is_hybrid:
        yield "partition_table_hybrid", content_fact("partition_table_hybrid", True, "MBR")
    if table.scheme is Scheme.GPT:
        key = "partition_table_sector_size_bytes"
        yield key, content_fact(key, table.sector_size, source)


def _partition_facts(partition: Partition, volume: Volume | None) -> Iterator[tuple[str, Fact]]:
    key, source = f"partition_{partition.number}", partition.source
    values: dict[str, PropertyValue] = {
        f"{key}_type": partition.type,
        f"{key}_start": partition.start,
        f"{key}_size_bytes": partition.size_bytes,
    }
    if partition.name:
        values[f"{key}_name"] = partition.name
    for name, value in values.items():
        yield name, content_fact(name, value, source)
    architecture = architecture_of(partition.type)
    if architecture is not None:
        yield "architecture", content_fact("architecture", architecture, f"the type in {source}")
    if volume is not None:
        yield from _file_system_facts(f"{key}_file_system", volume, key)


def _file_system_facts(key: str, volume: Volume, prefix: str = "file_system") -> Iterator[tuple[str, Fact]]:
    file_system = volume.file_system
    source = f"{file_system.type} superblock of {volume.place}"
    values: dict[str, PropertyValue] = {key: file_system.type}
    if file_system.label:
        values[f"{prefix}_label"] = file_system.label
    if file_system.uuid is not None:
        values[f"{prefix}_uuid"] = file_system.uuid
    if file_system.size_bytes is not None:
        values[f"{key}_size_bytes"] = file_system.size_bytes
    for name, value in values.items():
        yield name, content_fact(name, value, source)


def _boot_facts(table: PartitionTable, read: Read) -> Iterator[tuple[str, Fact]]:
    boots_uefi, boots_bios = table.boots_uefi, table.boots_bios(read)
    yield "boots_uefi", content_fact("boots_uefi", boots_uefi, "the partition table")
    yield "boots_bios", content_fact("boots_bios", boots_bios, "sector 0 and the partition table")
    if boots_uefi != boots_bios:
        firmware, source = ("uefi", "the EFI system partition") if boots_uefi else ("bios", "the code in sector 0")
        yield "hw_firmware_type", content_fact("hw_firmware_type", firmware, source)
