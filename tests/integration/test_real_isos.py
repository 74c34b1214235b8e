"""ISOs made by xorriso and genisoimage, and those that Debian boots from: what we read of them, and whether whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from tintype.domain.errors import FormatMismatchError, RefusedContentError, TruncatedError
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect import Inspector
from tintype.testing.boot_files import boot_file, run_program

BOOTABLE = {
    "usr/lib/ipxe/ipxe.iso": {
        "iso_boots_bios": True, "iso_boots_uefi": True, "iso_publisher": "HTTP://IPXE.ORG/",
        "iso_boot_0_media": "no emulation", "iso_boot_1_platform": "uefi", "iso_boot_record": "mbr",
    },
    "usr/lib/memtest86+/memtest86+x64.iso": {
        "iso_boots_bios": True, "iso_boots_uefi": True, "iso_volume_id": "MT86PLUS_64", "iso_joliet": True,
    },
    "usr/lib/grub-rescue/grub-rescue-cdrom.iso": {
        "iso_boots_bios": True, "iso_boots_uefi": False, "iso_boot_0_load_sectors": 4, "iso_boot_record": "mbr",
    },
}  # fmt: skip


def facts_of(path: Path, declared: DiskFormat | None = None, size: int | None = None) -> dict[str, PropertyValue]:
    inspector = Inspector(declared)
    content = path.read_bytes()[:size]
    for offset in range(0, len(content), 1 << 20):
        inspector.feed(content[offset : offset + (1 << 20)])
    found = inspector.finish()
    assert found.disk_format is (declared or DiskFormat.ISO)
    return {key: fact.value for key, fact in found.facts.items()}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "sub").mkdir(parents=True)
    (folder / "read me, please.txt").write_text("hello\n")
    (folder / "zeros").write_bytes(bytes(300_000))
    (folder / "sub" / "file").write_bytes(b"tintype" * 10_000)
    (folder / "bios.img").write_bytes(b"\xda" * 2048)
    (folder / "efi.img").write_bytes(b"\xda" * 65536)
    return folder


def mkisofs(folder: Path, *options: str) -> Path:
    path = folder.parent / "image.iso"
    run_program("xorriso", "-as", "mkisofs", "-quiet", "-o", str(path), *options, str(folder))
    return path


def genisoimage(folder: Path, *options: str) -> Path:
    path = folder.parent / "image.iso"
    run_program("genisoimage", "-quiet", "-o", str(path), *options, str(folder))
    return path


@pytest.mark.parametrize("name", BOOTABLE)
def test_bootable_iso_of_debian_tells_how_it_boots(name: str) -> None:
    facts = facts_of(boot_file(name))
    assert {key: facts[key] for key in BOOTABLE[name]} == BOOTABLE[name]
    assert "hw_firmware_type" not in facts


@pytest.mark.parametrize("name", BOOTABLE)
def test_hybrid_iso_of_debian_may_be_declared_raw(name: str) -> None:
    assert facts_of(boot_file(name), DiskFormat.RAW)["iso_boot_record"] == "mbr"


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("name", BOOTABLE)
def test_iso_that_is_cut_is_not_accepted(name: str, share: float) -> None:
    path = boot_file(name)
    volume_size = facts_of(path)["iso_volume_size_bytes"]
    assert isinstance(volume_size, int)
    with pytest.raises(TruncatedError):
        facts_of(path, DiskFormat.ISO, int(volume_size * share))


def test_plain_iso_has_one_volume_and_nothing_to_boot(tree: Path) -> None:
    facts = facts_of(genisoimage(tree, "-V", "LABEL", "-publisher", "Pub", "-p", "Prep", "-A", "App", "-sysid", "Sys"))
    texts = {key: facts[f"iso_{key}"] for key in ("volume_id", "publisher", "preparer", "application", "system_id")}
    assert texts == {
        "volume_id": "LABEL", "publisher": "Pub", "preparer": "Prep", "application": "App", "system_id": "Sys",
    }  # fmt: skip
    assert (facts["iso_joliet"], facts["iso_rock_ridge"], facts["iso_udf"]) == (False, False, False)
    assert (facts["iso_boots_bios"], facts["iso_boots_uefi"], facts["iso_boot_entries"]) == (False, False, 0)
    assert facts["iso_volume_size_bytes"] == (tree.parent / "image.iso").stat().st_size


@pytest.mark.parametrize(("option", "key"), [("-J", "iso_joliet"), ("-R", "iso_rock_ridge"), ("-udf", "iso_udf")])
def test_extension_of_an_iso_is_told(option: str, key: str, tree: Path) -> None:
    facts = facts_of(genisoimage(tree, option))
    assert [name for name in ("iso_joliet", "iso_rock_ridge", "iso_udf") if facts[name]] == [key]


def test_iso_for_both_firmwares_asks_for_neither(tree: Path) -> None:
    facts = facts_of(
        mkisofs(
            tree, *("-b", "bios.img", "-no-emul-boot", "-boot-load-size", "4"),
            *("-eltorito-alt-boot", "-e", "efi.img", "-no-emul-boot"),
        )
    )  # fmt: skip
    assert (facts["iso_boots_bios"], facts["iso_boots_uefi"]) == (True, True)
    assert (facts["iso_boot_0_platform"], facts["iso_boot_1_platform"]) == ("bios", "uefi")
    assert facts["iso_boot_1_load_sectors"] == 65536 // 512
    assert "hw_firmware_type" not in facts


@pytest.mark.parametrize(("size_kib", "media"), [(1200, "1.2 MB floppy"), (1440, "1.44 MB floppy")])
def test_floppy_that_is_emulated_is_told(size_kib: int, media: str, tree: Path) -> None:
    (tree / "floppy.img").write_bytes(b"\xda" * size_kib * 1024)
    facts = facts_of(genisoimage(tree, "-b", "floppy.img"))
    assert (facts["iso_boot_0_media"], facts["iso_boot_0_load_sectors"], facts["iso_boots_bios"]) == (media, 1, True)


@pytest.mark.parametrize("table", ["mbr", "gpt"])
def test_iso_for_uefi_alone_asks_for_it(table: str, tree: Path) -> None:
    hybrid = ("-append_partition", "2", "0xef", str(tree / "efi.img"))
    options = (*hybrid, "-appended_part_as_gpt") if table == "gpt" else hybrid
    facts = facts_of(mkisofs(tree, "-e", "efi.img", "-no-emul-boot", *options))
    assert (facts["iso_boots_bios"], facts["iso_boots_uefi"], facts["hw_firmware_type"]) == (False, True, "uefi")
    assert facts["iso_boot_record"] == table


def test_boot_catalog_far_into_the_file_is_read_in_passing(tree: Path) -> None:
    (tree / "bulk").write_bytes(bytes(4 << 20))
    # genisoimage puts the files in the order of their weight: the catalog comes last.
    (tree.parent / "sort").write_text(f"{tree}/bulk 100\n{tree}/boot.cat -100\n")
    options = ("-b", "bios.img", "-no-emul-boot", "-boot-load-size", "4", "-c", "boot.cat")
    path = genisoimage(tree, *options, "-sort", str(tree.parent / "sort"))
    catalog = int.from_bytes(path.read_bytes()[17 * 2048 + 71 : 17 * 2048 + 75], "little") * 2048
    assert catalog > 1 << 20
    assert facts_of(path)["iso_boots_bios"] is True


def test_files_that_grow_when_mounted_are_told(tree: Path) -> None:
    path = tree.parent / "image.iso"
    run_program(
        "xorriso", "-outdev", str(path), "-map", str(tree), "/", "-zisofs", "default",
        "-set_filter_r", "--zisofs", "/", "--",
    )  # fmt: skip
    facts = facts_of(path)
    assert facts["iso_zisofs_files"] == 2
    assert facts["iso_zisofs_size_bytes"] == 300_000 + 65536


@pytest.mark.parametrize("declared", [DiskFormat.RAW, DiskFormat.QCOW2, DiskFormat.AKI, DiskFormat.AMI])
def test_iso_that_is_no_hybrid_is_nothing_else(declared: DiskFormat, tree: Path) -> None:
    with pytest.raises(FormatMismatchError):
        facts_of(genisoimage(tree, "-R"), declared)


@pytest.mark.parametrize("position", [16 * 2048 + 84, 16 * 2048 + 160, 17 * 2048 + 72])
def test_one_changed_byte_in_a_table_is_noticed(position: int, tmp_path: Path) -> None:
    content = bytearray(boot_file("usr/lib/ipxe/ipxe.iso").read_bytes())
    content[position] ^= 0xFF
    (tmp_path / "spoiled.iso").write_bytes(content)
    with pytest.raises(RefusedContentError):
        facts_of(tmp_path / "spoiled.iso", DiskFormat.ISO)
