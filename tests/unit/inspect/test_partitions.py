"""Partition tables, hand-made: what is told of sound ones, and that damaged ones do no harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tintype.inspect.partitions.table import MAX_PARTITIONS, PartitionTable, Scheme, read_partition_table
from tintype.testing.disk_contents import (
    BIOS_BOOT,
    EFI_SYSTEM,
    GRUB,
    LINUX,
    PROTECTIVE_MBR,
    GptEntry,
    gpt,
    mbr,
)

ROOT = GptEntry(LINUX, 2048, 4095, "root")
ESP = GptEntry(EFI_SYSTEM, 1024, 2047)
SECTOR = 512


class CountedDisk:
    """A disk to read from, and how often that was done."""

    def __init__(self, content: bytes | bytearray) -> None:
        self.content, self.reads, self.bytes_read = content, 0, 0

    def __call__(self, offset: int, length: int) -> bytes:
        assert offset >= 0
        self.reads += 1
        self.bytes_read += length
        return bytes(self.content[offset : offset + length])


def table_of(content: bytes | bytearray) -> PartitionTable:
    return read_partition_table(CountedDisk(content), len(content))


def firmware_of(content: bytes | bytearray) -> tuple[bool, bool]:
    """Whether it boots by UEFI, and by BIOS."""
    table = table_of(content)
    return table.boots_uefi, table.boots_bios(CountedDisk(content))


# --- MBR --------------------------------------------------------------------------------------------------------------


def test_primary_partitions_are_told_with_their_entry() -> None:
    table = table_of(mbr([(0x80, 0x83, 2048, 100), (0, 0, 0, 0), (0, 0x42, 4096, 8)], identifier=0xCAFE))
    assert table.scheme is Scheme.MBR
    assert table.uuid == "0000cafe"
    first, third = table.partitions
    assert (first.number, first.type, first.start, first.size_bytes) == (1, "linux_filesystem", 1 << 20, 51200)
    assert first.source == "MBR entry 1"
    assert (third.number, third.type) == (3, "0x42")
    assert table.active_starts == (1 << 20,)


def test_logical_partitions_are_numbered_from_five() -> None:
    disk = bytearray(1 << 20)
    disk[:SECTOR] = mbr([(0, 0x83, 8, 8), (0, 0x0F, 100, 1000)])
    disk[100 * SECTOR : 101 * SECTOR] = mbr([(0, 0x83, 4, 10), (0, 0x05, 50, 60)])
    disk[150 * SECTOR : 151 * SECTOR] = mbr([(0, 0x82, 4, 20)])
    partitions = table_of(disk).partitions
    assert [(p.number, p.type, p.start // SECTOR) for p in partitions] == [
        (1, "linux_filesystem", 8),
        (5, "linux_filesystem", 104),
        (6, "linux_swap", 154),
    ]
    assert partitions[2].source == "extended boot record 2"


def test_loop_of_extended_boot_records_ends() -> None:
    disk = bytearray(1 << 20)
    disk[:SECTOR] = mbr([(0, 0x05, 100, 1000)])
    disk[100 * SECTOR : 101 * SECTOR] = mbr([(0, 0x83, 4, 10), (0, 0x05, 50, 60)])
    disk[150 * SECTOR : 151 * SECTOR] = mbr([(0, 0x83, 4, 10), (0, 0x05, 0, 60)])
    assert [p.number for p in table_of(disk).partitions] == [5, 6]


def test_endless_chain_of_extended_boot_records_is_cut() -> None:
    disk = bytearray(4 << 20)
    disk[:SECTOR] = mbr([(0, 0x05, 1, 8000)])
    for sector in range(1, 8000):
        disk[sector * SECTOR : (sector + 1) * SECTOR] = mbr([(0, 0x83, 1, 1), (0, 0x05, sector, 1)])
    read = CountedDisk(disk)
    table = read_partition_table(read, len(disk))
    assert len(table.partitions) <= MAX_PARTITIONS
    assert read.reads <= MAX_PARTITIONS + 2


def test_chain_of_empty_extended_boot_records_is_cut() -> None:
    disk = bytearray(4 << 20)
    disk[:SECTOR] = mbr([(0, 0x05, 1, 8000)])
    for sector in range(1, 8000):
        disk[sector * SECTOR : (sector + 1) * SECTOR] = mbr([(0, 0, 0, 0), (0, 0x05, sector, 1)])
    read = CountedDisk(disk)
    assert read_partition_table(read, len(disk)).partitions == ()
    assert read.reads <= MAX_PARTITIONS + 2


def test_four_extended_partitions_are_followed_once() -> None:
    disk = bytearray(1 << 20)
    disk[:SECTOR] = mbr([(0, 0x05, 100, 1000)] * 4)
    disk[100 * SECTOR : 101 * SECTOR] = mbr([(0, 0x83, 4, 10)])
    assert [p.number for p in table_of(disk).partitions] == [5]


@pytest.mark.parametrize(
    "sector",
    [
        b"",
        bytes(512),
        bytes(510) + b"\x55\xaa",
        mbr([(0x7F, 0x83, 1, 1)]),
        mbr([(0, 0x83, 1, 0)]),
        mbr([(0, 0x83, 1, 1)])[:510] + b"\0\0",
    ],
)
def test_what_is_no_table_is_none(sector: bytes) -> None:
    assert table_of(sector.ljust(4096, b"\0")) == PartitionTable(Scheme.NONE)


# --- GPT --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_gpt_is_told_with_its_entries(sector_size: int) -> None:
    table = table_of(gpt([ESP, None, GptEntry(LINUX, 40, 41, "härd")], sector_size=sector_size))
    assert (table.scheme, table.sector_size, table.is_hybrid) == (Scheme.GPT, sector_size, False)
    assert table.uuid == "00000000-0000-0000-0000-000000000007"
    esp, root = table.partitions
    assert (esp.number, esp.type, esp.start) == (1, "efi_system", 1024 * sector_size)
    assert (root.number, root.name, root.size_bytes, root.source) == (3, "härd", 2 * sector_size, "GPT entry 3")


@pytest.mark.parametrize(("count", "entry_size"), [(4, 128), (128, 256), (512, 128), (8192, 128), (1, 136)])
def test_arrays_of_other_shapes_are_read(count: int, entry_size: int) -> None:
    assert len(table_of(gpt([ROOT], count=count, entry_size=entry_size)).partitions) == 1


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_backup_serves_where_the_primary_is_lost(sector_size: int) -> None:
    table = table_of(gpt([ROOT], has_primary=False, sector_size=sector_size))
    assert table.scheme is Scheme.GPT
    assert [p.source for p in table.partitions] == ["backup GPT entry 1"]


def test_backup_serves_where_a_bit_of_the_array_has_changed() -> None:
    disk = gpt([ROOT])
    disk[1024 + 40] ^= 1
    assert [p.source for p in table_of(disk).partitions] == ["backup GPT entry 1"]


@pytest.mark.parametrize(
    "spoiled",
    [
        {"crc": 1},
        {"array_crc": 1},
        {"position": 5},
        {"size": 91},
        {"size": 513},
        {"size": 0xFFFF_FFFF},
        {"count": 0},
        {"count": 0xFFFF_FFFF},
        {"entry_size": 0},
        {"entry_size": 127},
        {"entry_size": 129},
        {"entry_size": 0xFFFF_FFFF},
        {"array": 0xFFFF_FFFF_FFFF_FFFF},
        {"count": 8193},
    ],
    ids=str,
)
def test_spoiled_gpt_is_told_as_damaged(spoiled: dict[str, int]) -> None:
    disk = gpt([ROOT], spoil=spoiled)
    read = CountedDisk(disk)
    assert read_partition_table(read, len(disk)).scheme is Scheme.DAMAGED
    assert read.bytes_read <= 3 << 20


def test_gpt_behind_no_mbr_is_damaged() -> None:
    assert table_of(gpt([ROOT], first_sector=bytes(512))).scheme is Scheme.DAMAGED


def test_gpt_that_the_mbr_does_not_name_is_not_believed() -> None:
    table = table_of(gpt([ROOT], first_sector=mbr([(0, 0x83, 2048, 100)])))
    assert (table.scheme, [p.source for p in table.partitions]) == (Scheme.MBR, ["MBR entry 1"])


def test_hybrid_is_told_and_its_partitions_are_those_of_the_gpt() -> None:
    table = table_of(gpt([ROOT], first_sector=mbr([(0, 0xEE, 1, 2047), (0x80, 0x83, 2048, 2048)])))
    assert table.is_hybrid
    assert [p.source for p in table.partitions] == ["GPT entry 1"]


def test_entry_that_ends_before_it_begins_is_passed_over() -> None:
    assert table_of(gpt([GptEntry(LINUX, 10, 9), ROOT])).partitions[0].number == 2


def test_no_more_partitions_are_told_than_the_bound() -> None:
    assert len(table_of(gpt([ROOT] * 1000, count=1000)).partitions) == MAX_PARTITIONS


# --- what boots -------------------------------------------------------------------------------------------------------


def test_disk_with_an_esp_and_no_boot_code_boots_by_uefi_only() -> None:
    assert firmware_of(gpt([ESP, ROOT])) == (True, False)


def test_grub_with_a_partition_of_its_own_boots_by_bios() -> None:
    first_sector = GRUB.ljust(440, b"\0") + PROTECTIVE_MBR[440:]
    own = GptEntry(BIOS_BOOT, 34, 1023)
    assert firmware_of(gpt([own, ROOT], first_sector=first_sector)) == (False, True)
    assert firmware_of(gpt([own, ESP, ROOT], first_sector=first_sector)) == (True, True)


def test_partition_for_grub_without_grub_does_not_boot() -> None:
    assert firmware_of(gpt([GptEntry(BIOS_BOOT, 34, 1023), ESP])) == (True, False)


def test_boot_code_of_a_windows_gpt_has_nothing_to_go_on_with() -> None:
    first_sector = b"\x33\xc0\x8e\xd0".ljust(440, b"\0") + PROTECTIVE_MBR[440:]
    assert firmware_of(gpt([ESP, ROOT], first_sector=first_sector)) == (True, False)


def test_legacy_bootable_partition_with_a_boot_sector_boots_by_bios() -> None:
    first_sector = b"\x33\xc0".ljust(440, b"\0") + PROTECTIVE_MBR[440:]
    disk = gpt([GptEntry(LINUX, 2048, 4095, attributes=4)], first_sector=first_sector)
    assert firmware_of(disk) == (False, False)
    disk[2048 * SECTOR + 510 : 2049 * SECTOR] = b"\x55\xaa"
    assert firmware_of(disk) == (False, True)


def test_grub_in_an_mbr_needs_no_active_partition() -> None:
    assert firmware_of(mbr([(0, 0x83, 2048, 100)], boot_code=GRUB)) == (False, True)


def test_generic_code_in_an_mbr_needs_an_active_partition_with_a_boot_sector() -> None:
    disk = bytearray(4096)
    disk[:SECTOR] = mbr([(0x80, 0x07, 4, 4)], boot_code=b"\xfa\x33\xc0")
    assert firmware_of(disk) == (False, False)
    disk[4 * SECTOR + 510 : 5 * SECTOR] = b"\x55\xaa"
    assert firmware_of(disk) == (False, True)


def test_active_partition_without_boot_code_does_not_boot() -> None:
    disk = bytearray(mbr([(0x80, 0x83, 1, 4)]) + mbr([]))
    assert firmware_of(disk) == (False, False)


def test_bootable_iso_image_boots_from_itself() -> None:
    code = b"\x33\xed\x90"
    assert firmware_of(mbr([(0x80, 0, 0, 2048), (0, 0xEF, 16, 64)], boot_code=code)) == (True, True)
    first_sector = mbr([(0, 0xEE, 1, 8191), (0x80, 0, 0, 1)], boot_code=code)
    assert firmware_of(gpt([ESP], first_sector=first_sector)) == (True, True)


def test_protective_partition_that_is_active_leads_nowhere() -> None:
    assert firmware_of(gpt([ESP], first_sector=mbr([(0x80, 0xEE, 1, 8191)], boot_code=b"\x33"))) == (True, False)


# --- any bytes --------------------------------------------------------------------------------------------------------


def check(content: bytes | bytearray) -> None:
    read = CountedDisk(content)
    table = read_partition_table(read, len(content))
    assert len(table.partitions) <= MAX_PARTITIONS
    assert read.reads <= MAX_PARTITIONS + 12
    assert read.bytes_read <= 5 << 20
    for partition in table.partitions:
        assert partition.start >= 0 and partition.size_bytes > 0 and len(partition.name) <= 36
    table.boots_bios(read)
    assert read.reads <= MAX_PARTITIONS + 20


@given(
    patches=st.lists(st.tuples(st.integers(0, 2047), st.binary(min_size=1, max_size=8)), max_size=10),
    has_backup=st.booleans(),
)
def test_mutated_gpt_does_no_harm(patches: list[tuple[int, bytes]], has_backup: bool) -> None:
    disk = gpt([ESP, ROOT], disk_size=1 << 20, has_backup=has_backup)
    for offset, data in patches:
        disk[offset : offset + len(data)] = data
    check(disk)


@given(st.binary(max_size=64), st.binary(max_size=1024))
def test_any_entries_of_an_mbr_do_no_harm(entries: bytes, more: bytes) -> None:
    check(bytes(446) + entries.ljust(64, b"\0") + b"\x55\xaa" + more)
