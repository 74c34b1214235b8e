"""Disks made by the programs that make disks: what is told of them and of their root, and that the jail holds."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tintype.disks import contents_jail
from tintype.disks.contents import content_fact
from tintype.disks.contents_jail import LIMITS, examine_contents
from tintype.disks.contents_task import READABLE
from tintype.disks.file_tree import KINDS
from tintype.domain.values import DiskFormat, Fact, PropertyValue
from tintype.inspect.file_systems import FILE_SYSTEM_TYPES, FileSystem, identify_file_system
from tintype.runtime.jail import Sandbox, detect_sandbox
from tintype.testing.images import run_qemu_img

pytestmark = pytest.mark.sandbox

MIB = 1 << 20
OS_RELEASE = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return detect_sandbox()


def run(*command: str | Path, stdin: bytes = b"") -> None:
    """Run a program that makes file systems; they are on administrators' paths."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    program = shutil.which(str(command[0]), path=path)
    assert program is not None, f"{command[0]} is not installed: tools/install-system-packages formats"
    subprocess.run([program, *map(str, command[1:])], input=stdin, check=True, capture_output=True, timeout=60)


def sparse(path: Path, size_bytes: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size_bytes)
    return path


def identify(path: Path) -> FileSystem | None:
    with path.open("rb") as file:
        return identify_file_system(lambda offset, length: os.pread(file.fileno(), length, offset))


# --- superblocks ------------------------------------------------------------------------------------------------------

LABEL = "a label"

MAKERS = {
    "ext2": (4 * MIB, ["mke2fs", "-q", "-F", "-t", "ext2", "-L", LABEL]),
    "ext3": (8 * MIB, ["mke2fs", "-q", "-F", "-t", "ext3", "-L", LABEL]),
    "ext4": (8 * MIB, ["mke2fs", "-q", "-F", "-t", "ext4", "-L", LABEL]),
    "xfs": (320 * MIB, ["mkfs.xfs", "-q", "-f", "-L", LABEL.replace(" ", "_")]),
    "btrfs": (128 * MIB, ["mkfs.btrfs", "-q", "-f", "-L", LABEL]),
    "f2fs": (64 * MIB, ["mkfs.f2fs", "-q", "-f", "-l", LABEL]),
    "exfat": (8 * MIB, ["mkfs.exfat", "-L", LABEL]),
    "ntfs": (8 * MIB, ["mkntfs", "-q", "-F", "-L", LABEL]),
    "swap": (4 * MIB, ["mkswap", "-q", "-L", LABEL]),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_superblock_of_the_program_that_makes_it_is_told(tmp_path: Path, kind: str) -> None:
    size, command = MAKERS[kind]
    path = sparse(tmp_path / "disk.raw", size)
    run(*command, path)
    found = identify(path)
    assert found is not None
    assert (found.type, found.label.replace("_", " ")) == (kind, LABEL)
    assert found.size_bytes is not None and size - MIB < found.size_bytes <= size
    assert found.uuid == blkid(path, "UUID")
    assert found.type == blkid(path, "TYPE")


@pytest.mark.parametrize(("bits", "size"), [(12, 2 * MIB), (16, 32 * MIB), (32, 64 * MIB)])
def test_fat_is_told_with_its_label_and_serial_number(tmp_path: Path, bits: int, size: int) -> None:
    path = sparse(tmp_path / "disk.raw", size)
    run("mkfs.vfat", "-F", str(bits), "-n", "A LABEL", "-i", "0badcafe", path)
    assert identify(path) == FileSystem("vfat", "A LABEL", "0BAD-CAFE", size, (f"fat{bits}",))


@pytest.mark.parametrize("version", [1, 2])
def test_luks_is_told_with_its_uuid(tmp_path: Path, version: int) -> None:
    path = sparse(tmp_path / "disk.raw", 32 * MIB)
    kind = ["--type", f"luks{version}", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]
    run("cryptsetup", "luksFormat", "-q", *kind, path, "-", stdin=b"secret")
    found = identify(path)
    assert found is not None
    assert (found.type, found.features, found.uuid) == ("crypto_LUKS", (f"luks{version}",), blkid(path, "UUID"))


def test_squashfs_and_iso_9660_are_told(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("content")
    run("mksquashfs", tree, tmp_path / "squashfs", "-quiet", "-no-progress", "-comp", "xz")
    run("genisoimage", "-quiet", "-V", "A_LABEL", "-o", tmp_path / "iso", tree)
    squashfs, iso = identify(tmp_path / "squashfs"), identify(tmp_path / "iso")
    assert squashfs is not None and (squashfs.type, squashfs.features) == ("squashfs", ("xz",))
    assert iso is not None and (iso.type, iso.label) == ("iso9660", "A_LABEL")
    assert iso.uuid == blkid(tmp_path / "iso", "UUID")
    assert iso.size_bytes is not None and iso.size_bytes <= (tmp_path / "iso").stat().st_size


def test_ufs_of_the_bsds_is_told(tmp_path: Path) -> None:
    tree, path = tmp_path / "tree", tmp_path / "ufs"
    tree.mkdir()
    run("makefs", "-t", "ffs", "-o", "version=2", "-s", "16m", path, tree)
    assert identify(path) == FileSystem("ufs", "", blkid(path, "UUID"), 16 * MIB)


def blkid(path: Path, tag: str) -> str:
    program = shutil.which("blkid", path="/usr/sbin:/sbin:/usr/bin")
    assert program is not None
    result = subprocess.run(
        [program, "-p", "-o", "value", "-s", tag, path], check=True, capture_output=True, text=True, timeout=60
    )
    return result.stdout.strip()


# --- whole disks ------------------------------------------------------------------------------------------------------


def root_tree(folder: Path, *, os_release: str | None = OS_RELEASE) -> Path:
    """A root as Debian has it: directories merged into /usr, and os-release a link."""
    tree = folder / "root"
    for name in ("etc", "usr/lib", "usr/bin"):
        (tree / name).mkdir(parents=True)
    (tree / "bin").symlink_to("usr/bin")
    (tree / "etc/os-release").symlink_to("../usr/lib/os-release")
    if os_release is not None:
        (tree / "usr/lib/os-release").write_text(os_release)
    (tree / "usr/bin/dash").write_bytes(b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + b"\xb7\0" + bytes(5000))
    (tree / "usr/bin/sh").symlink_to("dash")
    return tree


def ext_image(
    path: Path, tree: Path, kind: str = "ext4", *, size: int = 16 * MIB, options: tuple[str, ...] = ()
) -> Path:
    run("mke2fs", "-q", "-F", "-t", kind, *options, "-L", "root", "-d", tree, sparse(path, size))
    return path


def place(disk: Path, part: Path, offset: int) -> None:
    with disk.open("r+b") as file:
        file.seek(offset)
        file.write(part.read_bytes())


@pytest.fixture(scope="module")
def gpt_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An EFI system partition, and Debian's root."""
    folder = tmp_path_factory.mktemp("gpt")
    disk = sparse(folder / "disk.raw", 64 * MIB)
    run(
        "sgdisk", "-n", "1:0:+8M", "-t", "1:ef00", "-c", "1:ESP", "-n", "2:0:+16M", "-t", "2:8300", "-c", "2:root", disk
    )
    esp = sparse(folder / "esp", 8 * MIB)
    run("mkfs.vfat", "-n", "EFI", esp)
    place(disk, esp, MIB)
    place(disk, ext_image(folder / "ext4", root_tree(folder)), 9 * MIB)
    return disk


async def examine(
    path: Path, sandbox: Sandbox, disk_format: DiskFormat = DiskFormat.RAW
) -> tuple[Mapping[str, Fact], dict[str, PropertyValue]]:
    facts = await examine_contents(path, disk_format, sandbox=sandbox)
    for key, fact in facts.items():
        assert content_fact(key, fact.value, fact.source) == fact
    return facts, {key: fact.value for key, fact in facts.items()}


async def test_gpt_disk_is_told_down_to_its_distribution(gpt_disk: Path, sandbox: Sandbox) -> None:
    facts, values = await examine(gpt_disk, sandbox)
    expected = {
        "partition_table": "gpt",
        "partition_1_type": "efi_system",
        "partition_1_name": "ESP",
        "partition_1_start": MIB,
        "partition_1_size_bytes": 8 * MIB,
        "partition_1_file_system": "vfat",
        "partition_1_label": "EFI",
        "partition_2_file_system": "ext4",
        "partition_2_label": "root",
        "hw_firmware_type": "uefi",
        "boots_uefi": True,
        "boots_bios": False,
        "os_type": "linux",
        "os_distro": "debian",
        "os_version": "12",
        "os_pretty_name": "Debian GNU/Linux 12 (bookworm)",
        "architecture": "aarch64",
    }
    assert {key: values.get(key) for key in expected} == expected
    assert "os_detection" not in values
    assert facts["os_distro"].source == "/etc/os-release in partition 2"
    assert facts["architecture"].source == "/bin/sh in partition 2"
    assert facts["partition_2_type"].source == "GPT entry 2"
    assert facts["partition_2_label"].source == "ext4 superblock of partition 2"


@pytest.mark.qemu
@pytest.mark.parametrize("options", [(), ("-c",), ("-o", "extended_l2=on")], ids=str)
async def test_qcow2_has_the_contents_of_the_same_disk(
    tmp_path: Path, gpt_disk: Path, sandbox: Sandbox, options: tuple[str, ...]
) -> None:
    image = tmp_path / "disk.qcow2"
    run_qemu_img("convert", "-f", "raw", "-O", "qcow2", *options, str(gpt_disk), str(image))
    assert await examine(image, sandbox, DiskFormat.QCOW2) == await examine(gpt_disk, sandbox)


async def test_backup_table_tells_the_same_partitions(tmp_path: Path, gpt_disk: Path, sandbox: Sandbox) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(gpt_disk.read_bytes())
    place(disk, sparse(tmp_path / "zeros", 512), 512)
    facts, values = await examine(disk, sandbox)
    assert (values["os_distro"], facts["partition_2_type"].source) == ("debian", "backup GPT entry 2")


async def test_mbr_with_logical_partitions_is_told(tmp_path: Path, sandbox: Sandbox) -> None:
    disk = sparse(tmp_path / "disk.raw", 64 * MIB)
    layout = (
        b"label: dos\n1: size=8M, type=83, bootable\n2: size=50M, type=5\n5: size=16M, type=83\n6: size=8M, type=82\n"
    )
    run("sfdisk", "-q", disk, stdin=layout)
    _, values = await examine(disk, sandbox)
    assert [key for key in values if key.endswith("_type")] == [
        "partition_1_type",
        "partition_5_type",
        "partition_6_type",
    ]
    start = values["partition_5_start"]
    assert isinstance(start, int)
    place(disk, ext_image(tmp_path / "ext4", root_tree(tmp_path)), start)
    _, values = await examine(disk, sandbox)
    assert (values["partition_table"], values["partition_5_file_system"]) == ("mbr", "ext4")
    assert values["os_distro"] == "debian"


async def test_root_without_partitions_is_read(tmp_path: Path, sandbox: Sandbox) -> None:
    path = ext_image(tmp_path / "ext4", root_tree(tmp_path))
    facts, _ = await examine(path, sandbox)
    assert facts["os_distro"] == Fact("debian", "/etc/os-release in the disk")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("ext2", ()),
        ("ext3", ()),
        ("ext4", ("-b", "4096")),
        ("ext4", ("-O", "^extent,^64bit")),
        ("ext4", ("-O", "inline_data")),
        ("ext4", ("-O", "metadata_csum_seed,^has_journal")),
    ],
    ids=str,
)
async def test_root_in_each_variant_of_ext_is_read(
    tmp_path: Path, sandbox: Sandbox, kind: str, options: tuple[str, ...]
) -> None:
    path = ext_image(tmp_path / "disk.raw", root_tree(tmp_path), kind, options=options)
    _, values = await examine(path, sandbox)
    assert (values["file_system"], values.get("os_distro"), values.get("architecture")) == (kind, "debian", "aarch64")


async def test_system_is_found_on_a_later_partition_than_the_first_file_system(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    disk = sparse(tmp_path / "disk.raw", 64 * MIB)
    run("sgdisk", "-n", "1:0:+16M", "-n", "2:0:+16M", disk)
    boot = tmp_path / "boot"
    boot.mkdir()
    place(disk, ext_image(tmp_path / "boot.ext4", boot), MIB)
    place(disk, ext_image(tmp_path / "root.ext4", root_tree(tmp_path)), 17 * MIB)
    facts, _ = await examine(disk, sandbox)
    assert facts["os_distro"] == Fact("debian", "/etc/os-release in partition 2")


async def test_damaged_file_system_does_not_hide_the_next_one(tmp_path: Path, sandbox: Sandbox) -> None:
    disk = sparse(tmp_path / "disk.raw", 64 * MIB)
    run("sgdisk", "-n", "1:0:+16M", "-n", "2:0:+16M", disk)
    root = ext_image(tmp_path / "root.ext4", root_tree(tmp_path))
    place(disk, root, 17 * MIB)
    (tmp_path / "head").write_bytes(root.read_bytes()[:2048])  # a superblock, and nothing that it speaks of
    place(disk, tmp_path / "head", MIB)
    facts, values = await examine(disk, sandbox)
    assert values["partition_1_file_system"] == "ext4"
    assert facts["os_distro"] == Fact("debian", "/etc/os-release in partition 2")


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
async def test_root_that_the_library_does_not_read_keeps_its_superblock(
    tmp_path: Path, sandbox: Sandbox, kind: str
) -> None:
    size, command = MAKERS[kind]
    path = sparse(tmp_path / "disk.raw", size)
    run(*command, path)
    _, values = await examine(path, sandbox)
    assert values["file_system"] == kind
    assert not [key for key in values if key.startswith("os_")]


def ntfs_image(path: Path, tree: Path) -> Path:
    """NTFS with the files of a tree: an installation medium's archive is applied to it."""
    run("mkntfs", "-q", "-F", sparse(path, 16 * MIB))
    run("wimcapture", tree, path.with_suffix(".wim"))
    run("wimapply", path.with_suffix(".wim"), path)
    return path


async def test_windows_is_told_by_its_kernel(tmp_path: Path, sandbox: Sandbox) -> None:
    system = tmp_path / "tree/Windows/System32"
    system.mkdir(parents=True)
    header = b"MZ".ljust(0x3C, b"\0") + (64).to_bytes(4, "little") + b"PE\0\0" + (0x8664).to_bytes(2, "little")
    (system / "ntoskrnl.exe").write_bytes(header + bytes(100_000))
    facts, values = await examine(ntfs_image(tmp_path / "disk.raw", tmp_path / "tree"), sandbox)
    assert (values["os_type"], values["os_distro"], values["architecture"]) == ("windows", "windows", "x86_64")
    assert facts["os_type"].source == "/Windows/System32/ntoskrnl.exe in the disk"


async def test_ntfs_without_a_kernel_is_no_windows(tmp_path: Path, sandbox: Sandbox) -> None:
    (tmp_path / "tree/Windows").mkdir(parents=True)
    _, values = await examine(ntfs_image(tmp_path / "disk.raw", tmp_path / "tree"), sandbox)
    assert values["file_system"] == "ntfs"
    assert not [key for key in values if key.startswith("os_")]


# --- hostile roots ----------------------------------------------------------------------------------------------------


async def test_loop_of_links_ends(tmp_path: Path, sandbox: Sandbox) -> None:
    tree = root_tree(tmp_path, os_release=None)
    (tree / "usr/lib/os-release").symlink_to("../../etc/os-release")
    _, values = await examine(ext_image(tmp_path / "disk.raw", tree), sandbox)
    assert not [key for key in values if key.startswith("os_")]


async def test_link_that_names_the_host_stays_within_the_disk(tmp_path: Path, sandbox: Sandbox) -> None:
    tree = root_tree(tmp_path, os_release=None)
    (tree / "etc/os-release").unlink()
    (tree / "etc/os-release").symlink_to("/usr/../../../../../usr/share/found")
    (tree / "usr/share").mkdir()
    (tree / "usr/share/found").write_text("ID=inside\n")
    _, values = await examine(ext_image(tmp_path / "disk.raw", tree), sandbox)
    assert values["os_distro"] == "inside"


async def test_long_link_is_followed(tmp_path: Path, sandbox: Sandbox) -> None:
    tree = root_tree(tmp_path)
    (tree / "etc/os-release").unlink()
    (tree / "etc/os-release").symlink_to("../" + "./" * 60 + "usr/lib/os-release")  # too long for the inode itself
    facts, _ = await examine(ext_image(tmp_path / "disk.raw", tree), sandbox)
    assert facts["os_distro"] == Fact("debian", "/etc/os-release in the disk")


async def test_os_release_of_ten_gibibytes_is_not_read(tmp_path: Path, sandbox: Sandbox) -> None:
    tree = root_tree(tmp_path)
    with (tree / "usr/lib/os-release").open("r+b") as file:
        file.truncate(10 << 30)
    _, values = await examine(ext_image(tmp_path / "disk.raw", tree), sandbox)
    assert not [key for key in values if key.startswith("os_")]


async def test_directory_in_the_place_of_os_release_is_not_read(tmp_path: Path, sandbox: Sandbox) -> None:
    tree = root_tree(tmp_path, os_release=None)
    (tree / "usr/lib/os-release").mkdir()
    _, values = await examine(ext_image(tmp_path / "disk.raw", tree), sandbox)
    assert not [key for key in values if key.startswith("os_")]


async def test_deleted_os_release_is_not_read(tmp_path: Path, sandbox: Sandbox) -> None:
    path = ext_image(tmp_path / "disk.raw", root_tree(tmp_path))
    run("debugfs", "-w", "-R", "rm /usr/lib/os-release", path)
    _, values = await examine(path, sandbox)
    assert not [key for key in values if key.startswith("os_")]


async def test_text_of_an_image_is_printable_and_bounded(tmp_path: Path, sandbox: Sandbox) -> None:
    tree = root_tree(tmp_path, os_release='ID=x\nPRETTY_NAME="\x1b]0;' + "\u20ac" * 9000 + '"\n')
    _, values = await examine(ext_image(tmp_path / "disk.raw", tree), sandbox)
    name = values["os_pretty_name"]
    assert isinstance(name, str) and name.isprintable() and len(name) == 255


@pytest.mark.parametrize("seed", range(8))
async def test_corrupted_root_leaves_the_other_facts(tmp_path: Path, sandbox: Sandbox, seed: int) -> None:
    path = ext_image(tmp_path / "disk.raw", root_tree(tmp_path), size=4 * MIB)
    content = bytearray(path.read_bytes())
    # Everything behind the superblock that is not zero, in one way or another of eight.
    for offset in range(2048 + seed, len(content), 8):
        if content[offset]:
            content[offset] ^= 0xFF >> seed
    path.write_bytes(content)
    _, values = await examine(path, sandbox)
    assert values["file_system"] == "ext4"


# --- the child --------------------------------------------------------------------------------------------------------


async def test_child_that_takes_too_long_leaves_the_other_facts(gpt_disk: Path, sandbox: Sandbox) -> None:
    limits = replace(LIMITS, wall_clock_s=0)
    facts = await examine_contents(gpt_disk, DiskFormat.RAW, sandbox=sandbox, limits=limits)
    assert facts["os_detection"].value == "failed: the reader of file systems took too long"
    assert facts["partition_2_file_system"].value == "ext4"


async def test_child_without_memory_leaves_the_other_facts(gpt_disk: Path, sandbox: Sandbox) -> None:
    limits = replace(LIMITS, address_space_bytes=24 * MIB)
    facts = await examine_contents(gpt_disk, DiskFormat.RAW, sandbox=sandbox, limits=limits)
    assert str(facts["os_detection"].value).startswith("failed: the reader of file systems ended with ")
    assert facts["hw_firmware_type"].value == "uefi"


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import os; os.kill(os.getpid(), 11)", f"ended with signal {signal.SIGSEGV.value}"),
        ("import os; os.abort()", f"ended with signal {signal.SIGABRT.value}"),
        ("while True: pass", f"ended with signal {signal.SIGKILL.value}"),
        ("raise SystemExit('sorry')", "ended with exit code 1: sorry"),
        ("print('nonsense')", "did not make sense"),
        ("print('[1, 2, 3]')", "did not make sense"),
        ('print(\'["hw_firmware_type", "bios", "me"]\')', "did not make sense"),
        ('print(\'["os_type", 5, "me"]\')', "did not make sense"),
        ("print('[' * 4000)", "did not make sense"),
        ('print(\'["os_type", {}, "me"]\')', "did not make sense"),
    ],
)
async def test_child_that_fails_leaves_the_other_facts(
    gpt_disk: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, program: str, why: str
) -> None:
    monkeypatch.setattr(contents_jail, "_PROGRAM", program)
    limits = replace(LIMITS, cpu_s=1)
    facts = await examine_contents(gpt_disk, DiskFormat.RAW, sandbox=sandbox, limits=limits)
    assert facts["os_detection"].value == f"failed: the reader of file systems {why}"
    assert facts["partition_2_file_system"].value == "ext4"
    assert facts["hw_firmware_type"].value == "uefi"


async def test_child_that_says_too_much_takes_no_memory(
    gpt_disk: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents_jail, "_PROGRAM", 'for i in range(10**5): print(\'["os_type", "linux", "%d"]\' % i)')
    facts = await examine_contents(gpt_disk, DiskFormat.RAW, sandbox=sandbox)
    assert facts["os_type"] == Fact("linux", "63")


async def test_missing_library_is_told(gpt_disk: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents_jail, "_LIBRARY", "a_library_that_nobody_has")
    facts = await examine_contents(gpt_disk, DiskFormat.RAW, sandbox=sandbox)
    assert facts["os_detection"].value == "failed: the library a_library_that_nobody_has is not installed"


async def test_child_sees_the_image_and_no_other_file(
    tmp_path: Path, gpt_disk: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    neighbour = tmp_path / "neighbour"
    neighbour.write_text("secret")
    program = f"import os, json; print(json.dumps(['os_type', str(os.path.exists('{neighbour}')), os.getcwd()]))"
    monkeypatch.setattr(contents_jail, "_PROGRAM", program)
    facts = await examine_contents(gpt_disk, DiskFormat.RAW, sandbox=sandbox)
    assert facts["os_type"] == Fact("False", "/")


async def test_relative_path_is_read(gpt_disk: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(gpt_disk.parent)
    facts = await asyncio.wait_for(examine_contents(Path(gpt_disk.name), DiskFormat.RAW, sandbox=sandbox), 60)
    assert facts["os_distro"].value == "debian"


async def test_disk_inside_another_file_is_read_there(tmp_path: Path, gpt_disk: Path, sandbox: Sandbox) -> None:
    archive = sparse(tmp_path / "archive", gpt_disk.stat().st_size + 3 * 512)
    place(archive, gpt_disk, 512)
    facts = await examine_contents(archive, DiskFormat.RAW, sandbox=sandbox, offset=512, length=gpt_disk.stat().st_size)
    assert facts == await examine_contents(gpt_disk, DiskFormat.RAW, sandbox=sandbox)


async def test_without_bubblewrap_the_limits_hold_the_child(gpt_disk: Path, sandbox: Sandbox) -> None:
    bare = Sandbox(sandbox.prlimit, None, None)  # as the operator has allowed
    facts = await examine_contents(gpt_disk, DiskFormat.RAW, sandbox=bare)
    assert facts["os_distro"].value == "debian"


def test_file_systems_that_are_asked_for_are_those_that_the_library_reads() -> None:
    assert set(KINDS) == READABLE
    assert set(FILE_SYSTEM_TYPES) >= READABLE
