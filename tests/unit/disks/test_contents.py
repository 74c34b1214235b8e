"""What is told of a disk by its tables: the right facts, declared, with their sources, and never too many."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tintype.disks import contents_jail
from tintype.disks.contents import CONTENT_FACTS, content_fact, survey
from tintype.disks.contents_jail import examine_contents
from tintype.disks.opening import open_disk
from tintype.domain.errors import TruncatedError
from tintype.domain.values import DiskFormat, Fact, PropertyValue
from tintype.inspect.fact_bounds import MAX_FACTS
from tintype.testing.disk_contents import (
    BIOS_BOOT,
    EFI_SYSTEM,
    GRUB,
    LINUX,
    LINUX_ROOT_AARCH64,
    PROTECTIVE_MBR,
    GptEntry,
    ext4_superblock,
    gpt,
    mbr,
)

MIB = 1 << 20
ROOT = GptEntry(LINUX, 2048, 4095, "root")
ESP = GptEntry(EFI_SYSTEM, 1024, 2047)


def facts_of(tmp_path: Path, content: bytes | bytearray) -> Mapping[str, Fact]:
    path = tmp_path / "disk.raw"
    path.write_bytes(content)
    with open_disk(path, DiskFormat.RAW) as disk:
        return survey(disk).facts


def values_of(facts: Mapping[str, Fact]) -> dict[str, PropertyValue]:
    return {key: fact.value for key, fact in facts.items()}


def with_root(disk: bytearray, *, at: int = MIB) -> bytearray:
    superblock = ext4_superblock()
    disk[at : at + len(superblock)] = superblock
    return disk


def test_partition_and_its_file_system_are_told(tmp_path: Path) -> None:
    assert facts_of(tmp_path, with_root(gpt([None, ROOT]))) == {
        "partition_table": Fact("gpt", "sectors 0 and 1"),
        "partition_table_uuid": Fact("00000000-0000-0000-0000-000000000007", "GPT header"),
        "partition_table_sector_size_bytes": Fact(512, "GPT header"),
        "partition_2_type": Fact("linux_filesystem", "GPT entry 2"),
        "partition_2_start": Fact(MIB, "GPT entry 2"),
        "partition_2_size_bytes": Fact(MIB, "GPT entry 2"),
        "partition_2_name": Fact("root", "GPT entry 2"),
        "partition_2_file_system": Fact("ext4", "ext4 superblock of partition 2"),
        "partition_2_file_system_size_bytes": Fact(4 * MIB, "ext4 superblock of partition 2"),
        "partition_2_label": Fact("root", "ext4 superblock of partition 2"),
        "partition_2_uuid": Fact("00000000-0000-0000-0000-0000000000e4", "ext4 superblock of partition 2"),
        "boots_uefi": Fact(False, "the partition table"),
        "boots_bios": Fact(False, "sector 0 and the partition table"),
    }


def test_file_system_without_partitions_is_told(tmp_path: Path) -> None:
    values = values_of(facts_of(tmp_path, ext4_superblock().ljust(MIB, b"\0")))
    assert values == {
        "partition_table": "none",
        "file_system": "ext4",
        "file_system_label": "root",
        "file_system_uuid": "00000000-0000-0000-0000-0000000000e4",
        "file_system_size_bytes": 4 * MIB,
    }


@pytest.mark.parametrize("content", [b"", b"\0", b"\0" * 513, b"\xff" * 5000])
def test_disk_with_nothing_on_it_has_one_fact(tmp_path: Path, content: bytes) -> None:
    assert values_of(facts_of(tmp_path, content)) == {"partition_table": "none"}


def test_damaged_table_is_told_and_nothing_is_refused(tmp_path: Path) -> None:
    values = values_of(facts_of(tmp_path, gpt([ROOT], spoil={"crc": 1})))
    assert values == {"partition_table": "damaged"}


def test_leftover_of_a_gpt_before_a_file_system_is_no_damage(tmp_path: Path) -> None:
    disk = gpt([ROOT], first_sector=bytes(512))
    assert values_of(facts_of(tmp_path, disk)) == {"partition_table": "damaged"}
    disk[1024:2048] = ext4_superblock()[1024:]
    values = values_of(facts_of(tmp_path, disk))
    assert (values["partition_table"], values["file_system"]) == ("none", "ext4")


def test_leftover_superblock_beside_a_table_is_not_told(tmp_path: Path) -> None:
    disk = bytearray(ext4_superblock().ljust(4 * MIB, b"\0"))
    disk[:512] = mbr([(0, 0x83, 2048, 2048)])
    values = values_of(facts_of(tmp_path, disk))
    assert values["partition_table"] == "mbr"
    assert "file_system" not in values


def test_hybrid_is_told(tmp_path: Path) -> None:
    disk = gpt([ROOT], first_sector=mbr([(0, 0xEE, 1, 2047), (0, 0x83, 2048, 2048)]))
    assert values_of(facts_of(tmp_path, disk))["partition_table_hybrid"] is True


def test_root_partition_of_a_machine_tells_its_architecture(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, gpt([GptEntry(LINUX_ROOT_AARCH64, 2048, 4095)]))
    assert facts["architecture"] == Fact("aarch64", "the type in GPT entry 1")


@pytest.mark.parametrize(
    ("entries", "first_sector", "firmware"),
    [
        ([ESP, ROOT], PROTECTIVE_MBR, "uefi"),
        ([GptEntry(BIOS_BOOT, 34, 1023), ROOT], GRUB.ljust(440, b"\0") + PROTECTIVE_MBR[440:], "bios"),
        ([GptEntry(BIOS_BOOT, 34, 1023), ESP, ROOT], GRUB.ljust(440, b"\0") + PROTECTIVE_MBR[440:], None),
        ([ROOT], PROTECTIVE_MBR, None),
    ],
)
def test_firmware_is_told_where_only_one_boots(
    tmp_path: Path, entries: list[GptEntry], first_sector: bytes, firmware: str | None
) -> None:
    facts = facts_of(tmp_path, gpt(entries, first_sector=first_sector))
    assert values_of(facts).get("hw_firmware_type") == firmware


def test_no_more_than_sixteen_partitions_are_told(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, with_root(gpt([ROOT] * 128)))
    assert {key.split("_")[1] for key in facts if key.endswith("_start")} == {str(number) for number in range(1, 17)}
    assert len(facts) <= MAX_FACTS


def test_partition_beyond_the_end_of_the_disk_is_told_without_its_content(tmp_path: Path) -> None:
    far = GptEntry(LINUX, 2**60, 2**63)
    values = values_of(facts_of(tmp_path, gpt([far])))
    assert values["partition_1_start"] == 2**63 - 1
    assert "partition_1_file_system" not in values


def test_partition_is_not_read_beyond_its_end(tmp_path: Path) -> None:
    # The superblock is at 1024: a partition of one sector does not hold it.
    values = values_of(facts_of(tmp_path, with_root(gpt([GptEntry(LINUX, 2048, 2048)]))))
    assert "partition_1_file_system" not in values


def test_undeclared_facts_and_other_types_are_errors() -> None:
    assert content_fact("partition_12_start", 1, "x") == Fact(1, "x")
    with pytest.raises(KeyError):
        content_fact("partition_1_colour", "red", "x")
    with pytest.raises(TypeError):
        content_fact("boots_uefi", 1, "x")


def test_each_fact_is_declared_once() -> None:
    keys = [spec.key for spec in CONTENT_FACTS]
    assert len(keys) == len(set(keys))
    assert all(spec.source and spec.meaning for spec in CONTENT_FACTS)


def test_volumes_lie_within_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(with_root(gpt([GptEntry(LINUX, 2048, 2**40)])))
    with open_disk(path, DiskFormat.RAW) as disk:
        (volume,) = survey(disk).volumes
    assert (volume.number, volume.start, volume.size_bytes) == (1, MIB, 3 * MIB)


@given(patches=st.lists(st.tuples(st.integers(0, 4095), st.binary(min_size=1, max_size=16)), max_size=10))
def test_mutated_disks_have_declared_and_bounded_facts(
    tmp_path_factory: pytest.TempPathFactory, patches: list[tuple[int, bytes]]
) -> None:
    content = with_root(gpt([ESP, ROOT]))
    for offset, data in patches:
        content[offset : offset + len(data)] = data
    facts = facts_of(tmp_path_factory.mktemp("disk"), content)
    for key, fact in facts.items():
        assert content_fact(key, fact.value, fact.source) == fact


# --- the way in -------------------------------------------------------------------------------------------------------


async def test_without_a_sandbox_the_tables_are_told_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(with_root(gpt([ROOT])))
    values = values_of(await examine_contents(path, DiskFormat.RAW, sandbox=None))
    assert values["partition_1_file_system"] == "ext4"
    assert values["os_detection"] == "failed: there is no sandbox"


async def test_disk_without_a_readable_file_system_needs_no_sandbox(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(gpt([ROOT]))
    assert "os_detection" not in await examine_contents(path, DiskFormat.RAW, sandbox=None)


async def test_format_that_holds_no_disk_has_no_contents(tmp_path: Path) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(bytes(4096))
    assert await examine_contents(path, DiskFormat.AKI, sandbox=None) == {}


async def test_ami_is_read_as_the_file_system_that_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ami"
    path.write_bytes(ext4_superblock())
    assert (await examine_contents(path, DiskFormat.AMI, sandbox=None))["file_system"].value == "ext4"


async def test_window_that_the_file_does_not_have_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(4096))
    with pytest.raises(TruncatedError):
        await examine_contents(path, DiskFormat.RAW, sandbox=None, offset=4096, length=1)


async def test_disk_in_a_window_of_a_file_is_read_there(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(bytes(1000) + ext4_superblock())
    facts = await asyncio.wait_for(examine_contents(path, DiskFormat.RAW, sandbox=None, offset=1000), 30)
    assert facts["file_system"].value == "ext4"


@pytest.mark.parametrize("prefix", ["/", "/usr", "/usr/local"])
def test_jail_never_shows_the_root_nor_twice_what_it_shows_anyway(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    monkeypatch.setattr(sys, "base_prefix", prefix)
    visible = contents_jail._visible(
        [Path("/srv/project"), Path("/srv/libraries"), Path("/usr/lib/python3/dist-packages")]
    )
    assert visible == [Path("/srv/project/tintype"), Path("/srv/libraries")]
