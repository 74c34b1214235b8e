"""Ramdisks made by cpio and the usual compressors, and machine images made by mkfs: what we read of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tintype.domain.errors import FormatMismatchError, MalformedImageError, TruncatedError
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect import Inspection, Inspector
from tintype.testing.boot_files import cpio_of, run_program
from tintype.testing.images import make_disk

COMPRESSORS = {
    "gzip": ("gzip", "-c", "-9"),
    "xz": ("xz", "-c", "--check=crc32"),
    "lzma": ("xz", "-c", "--format=lzma"),
    "bz2": ("bzip2", "-c"),
    "zstd": ("zstd", "-q", "-c", "-19"),
    "lz4": ("lz4", "-q", "-l", "-c", "-"),
}
LOOKED_INTO = ("gzip", "xz", "lzma", "bz2", "zstd")


def inspect(content: bytes, declared: DiskFormat | None) -> Inspection:
    inspector = Inspector(declared)
    for offset in range(0, len(content), 1 << 16):
        inspector.feed(content[offset : offset + (1 << 16)])
    return inspector.finish()


def ramdisk_facts(content: bytes) -> dict[str, PropertyValue]:
    found = inspect(content, DiskFormat.ARI)
    assert (found.disk_format, found.virtual_size) == (DiskFormat.ARI, None)
    return {key: fact.value for key, fact in found.facts.items()}


@pytest.fixture
def ramdisk(tmp_path: Path) -> bytes:
    folder = tmp_path / "root"
    (folder / "usr" / "lib").mkdir(parents=True)
    (folder / "init").write_text("#!/bin/sh\nexec /bin/sh\n")
    (folder / "lib").symlink_to("usr/lib")
    for number in range(40):
        (folder / "usr" / "lib" / f"module-{number}.ko").write_bytes(bytes([number]) * (number * 317))
    return cpio_of(folder)


@pytest.fixture
def microcode(tmp_path: Path) -> bytes:
    folder = tmp_path / "early"
    path = folder / "kernel" / "x86" / "microcode" / "GenuineIntel.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xda" * 700_000)
    return cpio_of(folder)


def test_uncompressed_ramdisk_is_walked(ramdisk: bytes) -> None:
    assert ramdisk_facts(ramdisk) == {
        "ari_compression": "none", "ari_has_early_cpio": False, "ari_archives": 1, "ari_entries": 40 + 4,
        "ari_odd_names": 0, "ari_has_microcode": False,
    }  # fmt: skip


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_compressed_ramdisk_is_told_by_its_compression(compression: str, ramdisk: bytes) -> None:
    assert ramdisk_facts(run_program(*COMPRESSORS[compression], stdin=ramdisk)) == {
        "ari_compression": compression,
        "ari_content": "cpio" if compression in LOOKED_INTO else "unknown",
        "ari_has_early_cpio": False,
    }


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_microcode_in_front_of_a_compressed_ramdisk_is_told(compression: str, microcode: bytes, ramdisk: bytes) -> None:
    facts = ramdisk_facts(microcode + run_program(*COMPRESSORS[compression], stdin=ramdisk))
    assert (facts["ari_compression"], facts["ari_has_early_cpio"], facts["ari_has_microcode"]) == (
        compression, True, True,
    )  # fmt: skip
    assert (facts["ari_archives"], facts["ari_entries"]) == (1, 4)


def test_several_archives_are_walked(microcode: bytes, ramdisk: bytes) -> None:
    facts = ramdisk_facts(microcode + bytes(2048) + ramdisk)
    assert (facts["ari_archives"], facts["ari_entries"], facts["ari_compression"]) == (2, 48, "none")


def test_ramdisk_of_the_older_kind_is_a_compressed_file_system(tmp_path: Path) -> None:
    path = tmp_path / "initrd"
    run_program("mke2fs", "-q", "-F", "-t", "ext2", str(path), "512")
    facts = ramdisk_facts(run_program("gzip", "-c", stdin=path.read_bytes()))
    assert (facts["ari_compression"], facts["ari_content"]) == ("gzip", "ext2")


@pytest.mark.parametrize("share", [0.1, 0.6, 0.99])
def test_ramdisk_that_is_cut_is_not_accepted(share: float, ramdisk: bytes) -> None:
    # cpio fills its last block of 512 bytes with zeros, which nobody misses.
    content = ramdisk.rstrip(b"\0")
    with pytest.raises(TruncatedError):
        ramdisk_facts(content[: int(len(content) * share)])


def test_disk_behind_a_ramdisk_does_not_pass(ramdisk: bytes, tmp_path: Path) -> None:
    with pytest.raises(MalformedImageError):
        ramdisk_facts(ramdisk + make_disk(tmp_path / "disk").read_bytes())


@pytest.mark.parametrize("declared", [None, DiskFormat.RAW])
def test_ramdisk_is_a_raw_disk_unless_it_is_declared(declared: DiskFormat | None, ramdisk: bytes) -> None:
    assert inspect(ramdisk, declared).disk_format is DiskFormat.RAW


@pytest.mark.parametrize("declared", [DiskFormat.AKI, DiskFormat.AMI, DiskFormat.ISO])
@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
def test_ramdisk_is_nothing_else(declared: DiskFormat, compression: str | None, ramdisk: bytes) -> None:
    content = run_program(*COMPRESSORS[compression], stdin=ramdisk) if compression else ramdisk
    with pytest.raises(FormatMismatchError):
        inspect(content, declared)


MIB = 1 << 20
UUID = "11111111-2222-4333-8444-555555555555"
FILE_SYSTEMS = {
    "ext2": (8, ("mke2fs", "-q", "-F", "-t", "ext2", "-L", "rootfs", "-U", UUID)),
    "ext3": (8, ("mke2fs", "-q", "-F", "-t", "ext3", "-L", "rootfs", "-U", UUID)),
    "ext4": (8, ("mke2fs", "-q", "-F", "-t", "ext4", "-L", "rootfs", "-U", UUID)),
    "xfs": (304, ("mkfs.xfs", "-q", "-L", "rootfs", "-m", f"uuid={UUID}")),
    "btrfs": (112, ("mkfs.btrfs", "-q", "-L", "rootfs", "-U", UUID)),
}


def machine_image(folder: Path, name: str) -> Path:
    size_mib, command = FILE_SYSTEMS[name]
    path = folder / "machine"
    with path.open("wb") as file:
        file.truncate(size_mib * MIB)
    run_program(*command, str(path))
    return path


@pytest.mark.parametrize("name", FILE_SYSTEMS)
def test_machine_image_tells_its_file_system(name: str, tmp_path: Path) -> None:
    size_bytes = FILE_SYSTEMS[name][0] * MIB
    found = inspect(machine_image(tmp_path, name).read_bytes(), DiskFormat.AMI)
    assert (found.disk_format, found.virtual_size) == (DiskFormat.AMI, size_bytes)
    assert {key: fact.value for key, fact in found.facts.items()} == {
        "ami_file_system": name, "ami_file_system_label": "rootfs", "ami_file_system_uuid": UUID,
        "ami_file_system_size_bytes": size_bytes, "min_disk": 1,
    }  # fmt: skip


@pytest.mark.parametrize("name", FILE_SYSTEMS)
def test_machine_image_that_is_cut_is_not_accepted(name: str, tmp_path: Path) -> None:
    content = machine_image(tmp_path, name).read_bytes()
    with pytest.raises(TruncatedError):
        inspect(content[: len(content) // 2], DiskFormat.AMI)


def test_squashfs_is_a_machine_image(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"tintype" * 1000)
    run_program("mksquashfs", "tree", "machine", "-quiet", "-no-progress", cwd=tmp_path)
    facts = inspect((tmp_path / "machine").read_bytes(), DiskFormat.AMI).facts
    assert facts["ami_file_system"].value == "squashfs"


@pytest.mark.parametrize("table", ["mbr", "gpt"])
def test_partitioned_disk_is_a_machine_image(table: str, tmp_path: Path) -> None:
    path = tmp_path / "machine"
    path.write_bytes(bytes(4 * MIB))
    label = "dos" if table == "mbr" else "gpt"
    run_program("sfdisk", "--quiet", str(path), stdin=f"label: {label}\n2048,,L\n".encode())
    found = inspect(path.read_bytes(), DiskFormat.AMI)
    assert (found.facts["ami_partition_table"].value, found.virtual_size) == (table, 4 * MIB)
    with pytest.raises(TruncatedError):
        inspect(path.read_bytes()[: 3 * MIB], DiskFormat.AMI)
