"""ISO 9660: which facts are told of a volume, and what is no reason to refuse it."""

from __future__ import annotations

import pytest

from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect import Inspector
from tintype.testing.handmade_iso import (
    BOOT_IMAGE,
    ROOT,
    TERMINATOR,
    el_torito,
    el_torito_entry,
    el_torito_section,
    iso,
    iso_record,
    iso_volume,
    zisofs_field,
)


def facts_of(content: bytes) -> dict[str, PropertyValue]:
    inspector = Inspector(DiskFormat.ISO)
    inspector.feed(content)
    return {key: fact.value for key, fact in inspector.finish().facts.items()}


def uefi_only() -> bytes:
    return el_torito(el_torito_entry(), platform=0xEF)


def test_volume_is_described() -> None:
    assert facts_of(iso()) == {
        "iso_volume_id": "HANDMADE", "iso_volume_size_bytes": 25 * 2048, "iso_block_size_bytes": 2048,
        "iso_created_at": "2023-06-10T00:00:00+00:00", "iso_joliet": False, "iso_udf": False, "iso_rock_ridge": False,
        "iso_boots_bios": True, "iso_boots_uefi": False, "iso_boot_entries": 1, "iso_boot_0_platform": "bios",
        "iso_boot_0_bootable": True, "iso_boot_0_media": "no emulation", "iso_boot_0_load_sectors": 4,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("created", "told"),
    [
        (b"2024022912304599\x04", "2024-02-29T12:30:45+01:00"),
        (b"2024022912304599\xd0", "2024-02-29T12:30:45-12:00"),
        (b"2023022912304500\0", None),
        (b"0" * 16 + b"\0", None),
        (bytes(17), None),
        (b"2024022912304500\x7f", None),
        (b"+024022912304500\0", None),
    ],
)
def test_date_is_told_if_it_is_one(created: bytes, told: str | None) -> None:
    assert facts_of(iso(created=created)).get("iso_created_at") == told


def test_firmware_type_is_uefi_only_if_nothing_else_boots() -> None:
    assert facts_of(iso(catalog=uefi_only()))["hw_firmware_type"] == "uefi"
    both = el_torito(el_torito_entry(), el_torito_section(el_torito_entry()))
    assert "hw_firmware_type" not in facts_of(iso(catalog=both))
    # A BIOS could still boot the disk by the code in its first sector.
    with_boot_code = b"\xeb\x63" + iso(is_hybrid=True, catalog=uefi_only())[2:]
    assert "hw_firmware_type" not in facts_of(with_boot_code)
    assert facts_of(iso(is_hybrid=True, catalog=uefi_only()))["hw_firmware_type"] == "uefi"


def test_entry_that_is_not_to_be_booted_boots_nothing() -> None:
    off = el_torito_entry(indicator=0, sector=0xFFFF_FFFF)
    facts = facts_of(iso(catalog=el_torito(off, el_torito_section(el_torito_entry()))))
    assert (facts["iso_boots_bios"], facts["iso_boots_uefi"], facts["iso_boot_0_bootable"]) == (False, True, False)


def test_sections_and_extensions_of_the_catalog_are_read() -> None:
    extension = b"\x44".ljust(32, b"\0")
    catalog = el_torito(
        el_torito_entry(),
        el_torito_section(el_torito_entry(media=0x20), extension, platform=0x02, count=1, is_last=False),
        el_torito_section(el_torito_entry(load_sectors=1), el_torito_entry(load_sectors=2)),
        el_torito_section(el_torito_entry(sector=0xFFFF_FFFF)),  # behind the last section
    )
    facts = facts_of(iso(catalog=catalog))
    assert facts["iso_boot_entries"] == 4
    assert [facts[f"iso_boot_{number}_platform"] for number in range(4)] == ["bios", "mac", "uefi", "uefi"]


def test_no_more_entries_are_told_than_anyone_reads() -> None:
    catalog = el_torito(el_torito_entry(), el_torito_section(*[el_torito_entry(sector=BOOT_IMAGE)] * 60))
    facts = facts_of(iso(catalog=catalog))
    assert facts["iso_boot_entries"] == 61
    assert "iso_boot_15_platform" in facts and "iso_boot_16_platform" not in facts


def test_compressed_files_in_the_root_are_told_with_the_size_they_claim() -> None:
    files = [iso_record(b"A", zisofs_field(0xFFFF_FFFF), flags=0), iso_record(b"BB", zisofs_field(5), flags=0)]
    facts = facts_of(iso(root=iso_record(b"\0") + iso_record(b"\1") + b"".join(files)))
    assert (facts["iso_zisofs_files"], facts["iso_zisofs_size_bytes"]) == (2, 0x1_0000_0004)


@pytest.mark.parametrize("root", [b"\xff" * 2048, b"\x22" + bytes(2047), bytes(2048), b"\x22" * 2048])
def test_root_directory_that_makes_no_sense_tells_nothing(root: bytes) -> None:
    assert "iso_zisofs_files" not in facts_of(iso(root=root))


def test_udf_behind_the_descriptors_is_told() -> None:
    image = bytearray(iso(root_location=ROOT))
    image[(TERMINATOR + 1) * 2048 : (TERMINATOR + 1) * 2048 + 6] = b"\0BEA01"
    image[(TERMINATOR + 2) * 2048 : (TERMINATOR + 2) * 2048 + 6] = b"\0NSR03"
    assert facts_of(bytes(image))["iso_udf"] is True


def test_joliet_volume_is_told() -> None:
    supplementary = bytearray(iso_volume(kind=2))
    supplementary[88:91] = b"%/E"
    image = iso()[: 17 * 2048] + bytes(supplementary) + iso()[18 * 2048 :]
    facts = facts_of(image)
    assert (facts["iso_joliet"], facts["iso_boots_bios"]) == (True, False)


def test_volume_may_be_smaller_than_the_file() -> None:
    assert facts_of(iso() + bytes(1 << 20))["iso_volume_size_bytes"] == 25 * 2048


def test_text_of_the_author_can_be_shown() -> None:
    image = bytearray(iso())
    image[16 * 2048 + 40 : 16 * 2048 + 72] = b"\x1b[31mred\xff".ljust(32)
    told = facts_of(bytes(image))["iso_volume_id"]
    assert isinstance(told, str) and told.isprintable()
