"""Kernels of Debian's packages, as they are and compressed by the usual programs: what we read, and whether whole."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tintype.domain.errors import FormatMismatchError, TruncatedError, UnsupportedImageError
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect import Inspector
from tintype.testing.boot_files import boot_file, run_program

LINUX = "boot/vmlinuz-*"
WHOLE_KERNELS = (LINUX, "boot/ipxe.lkrn", "boot/memtest86+x64.bin", "boot/memtest86+x64.efi", "boot/ipxe.efi")


def zstd(content: bytes) -> bytes:
    return run_program("zstd", "-q", "-c", "-3", "--long=27", stdin=content)


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lambda content: lzma.compress(content, preset=0),
    "lzma": lambda content: lzma.compress(content, lzma.FORMAT_ALONE, preset=0),
    "zstd": zstd,
}


def facts_of(content: bytes, declared: DiskFormat | None = DiskFormat.AKI) -> dict[str, PropertyValue]:
    inspector = Inspector(declared)
    for offset in range(0, len(content), 1 << 20):
        inspector.feed(content[offset : offset + (1 << 20)])
    found = inspector.finish()
    assert found.disk_format is (declared or DiskFormat.RAW)
    return {key: fact.value for key, fact in found.facts.items()}


DECOMPRESSORS = {"lz4": ("lz4", "-d", "-c"), "xz": ("xz", "-d", "-c"), "zstd": ("zstd", "-d", "-c", "--long=27")}


def test_debian_kernel_tells_its_version_and_how_it_boots() -> None:
    path = boot_file(LINUX)
    facts = facts_of(path.read_bytes())
    assert facts["kernel_version"] == path.name.removeprefix("vmlinuz-")
    assert str(facts["aki_banner"]).startswith(f"{facts['kernel_version']} (debian-kernel@lists.debian.org) #1 SMP")
    assert (facts["aki_kind"], facts["architecture"], facts["aki_boot_protocol"]) == ("bzImage", "x86_64", "2.15")
    assert (facts["aki_relocatable"], facts["aki_efi_stub"], facts["aki_efi_handover"]) == (True, True, True)


def test_kernel_out_of_the_boot_image_is_read_as_elf() -> None:
    """What extract-vmlinux does, by the header's own words for where the payload is."""
    content = boot_file(LINUX).read_bytes()
    decompressor = DECOMPRESSORS[str(facts_of(content)["aki_compression"])]
    offset, length = struct.unpack_from("<2I", content, 0x248)
    start = (content[0x1F1] + 1) * 512 + offset
    # The build puts the size of what was compressed behind it, in 4 bytes.
    facts = facts_of(run_program(*decompressor, stdin=content[start : start + length - 4]))
    assert (facts["aki_kind"], facts["architecture"]) == ("vmlinux", "x86_64")
    assert facts["kernel_version"] == boot_file(LINUX).name.removeprefix("vmlinuz-")


@pytest.mark.parametrize(
    ("name", "kind", "version"),
    [
        ("boot/ipxe.lkrn", "bzImage", "1.0.0"),
        ("boot/memtest86+x64.bin", "bzImage", "Memtest86+ v"),
        ("boot/memtest86+x64.efi", "bzImage", "Memtest86+ v"),
        ("boot/ipxe.efi", "efi", ""),
    ],
)
def test_what_boots_as_a_kernel_is_taken_for_one(name: str, kind: str, version: str) -> None:
    facts = facts_of(boot_file(name).read_bytes())
    assert facts["aki_kind"] == kind
    assert str(facts.get("kernel_version", "")).startswith(version)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.97])
@pytest.mark.parametrize("name", WHOLE_KERNELS)
def test_kernel_that_is_cut_is_not_accepted(name: str, share: float) -> None:
    content = boot_file(name).read_bytes()
    with pytest.raises(TruncatedError):
        facts_of(content[: int(len(content) * share)])


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_compressed_kernel_is_looked_into(compression: str) -> None:
    content = boot_file(LINUX).read_bytes()
    facts = facts_of(COMPRESSIONS[compression](content))
    assert (facts["aki_kind"], facts["aki_compression"]) == ("bzImage", compression)
    assert facts["kernel_version"] == facts_of(content)["kernel_version"]


def test_kernel_compressed_by_what_cannot_be_read_is_refused_with_that_reason(tmp_path: Path) -> None:
    path = shutil.copy(boot_file(LINUX), tmp_path / "vmlinuz")
    run_program("lz4", "-q", "-l", str(path), str(tmp_path / "vmlinuz.lz4"))
    with pytest.raises(UnsupportedImageError, match="lz4"):
        facts_of((tmp_path / "vmlinuz.lz4").read_bytes())
    with pytest.raises(UnsupportedImageError, match="bz2"):  # its first block is longer than the head that is kept
        facts_of(bz2.compress(boot_file(LINUX).read_bytes()))


@pytest.mark.parametrize("path", ["/bin/sh", "/etc/passwd"])
def test_other_files_are_no_kernels(path: str) -> None:
    with pytest.raises(FormatMismatchError):
        facts_of(Path(path).read_bytes())
    with pytest.raises(FormatMismatchError):
        facts_of(gzip.compress(Path(path).read_bytes()))


@pytest.mark.parametrize("declared", [None, DiskFormat.RAW])
def test_kernel_is_a_raw_disk_unless_it_is_declared(declared: DiskFormat | None) -> None:
    assert facts_of(boot_file(LINUX).read_bytes(), declared)["boot_record"] == "mbr"


@pytest.mark.parametrize("declared", [DiskFormat.ARI, DiskFormat.AMI, DiskFormat.ISO, DiskFormat.QCOW2])
def test_kernel_is_nothing_else(declared: DiskFormat) -> None:
    with pytest.raises(FormatMismatchError):
        facts_of(boot_file(LINUX).read_bytes(), declared)
