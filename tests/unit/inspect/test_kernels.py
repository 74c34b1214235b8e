"""Kernels of every kind and machine, by their headers."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable

import pytest

from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect import Inspector
from tintype.inspect.kernels.banner import BannerSearch
from tintype.testing.handmade_boot import arm_zimage, bzimage, elf_kernel, linux_image, uefi_program, zboot_kernel

KINDS: dict[str, tuple[Callable[[], bytes], str, str | None]] = {
    "x86_64": (bzimage, "bzImage", "x86_64"),
    "i686": (lambda: bzimage(xload_flags=0), "bzImage", "i686"),
    "before 64 bits were told": (lambda: bzimage(version=0x20B), "bzImage", None),
    "loaded low": (lambda: bzimage(load_flags=0), "zImage", "x86_64"),
    "aarch64": (linux_image, "Image", "aarch64"),
    "big-endian aarch64": (lambda: linux_image(flags=1), "Image", None),
    "riscv64": (lambda: linux_image(magic=b"RSC\x05"), "Image", "riscv64"),
    "armv7l": (arm_zimage, "zImage", "armv7l"),
    "s390x": (lambda: bytes(0x10008) + b"S390EP" + bytes(4096), "bzImage", "s390x"),
    "zboot": (zboot_kernel, "zboot", "aarch64"),
    "uki": (uefi_program, "uki", "x86_64"),
    "efi": (lambda: uefi_program((".text", b"code"), machine=0xAA64), "efi", "aarch64"),
    "vmlinux": (elf_kernel, "vmlinux", "x86_64"),
    "vmlinux of 32 bits": (lambda: elf_kernel(is_64_bit=False, machine=3), "vmlinux", "i686"),
    "vmlinux, big-endian": (lambda: elf_kernel(big_endian=True, machine=21), "vmlinux", "ppc64"),
    "vmlinux, little-endian": (lambda: elf_kernel(machine=21), "vmlinux", "ppc64le"),
    "vmlinux, unknown machine": (lambda: elf_kernel(machine=0xFFFF), "vmlinux", None),
    "vmlinux, relocatable": (lambda: elf_kernel(kind=3), "vmlinux", "x86_64"),
}
VERSIONED = sorted(KINDS.keys() - {"armv7l", "s390x", "zboot", "efi"})


def facts_of(content: bytes, chunk_size: int = 1 << 20) -> dict[str, PropertyValue]:
    inspector = Inspector(DiskFormat.AKI)
    for offset in range(0, len(content), chunk_size):
        inspector.feed(content[offset : offset + chunk_size])
    found = inspector.finish()
    assert (found.disk_format, found.virtual_size) == (DiskFormat.AKI, None)
    return {key: fact.value for key, fact in found.facts.items()}


@pytest.mark.parametrize("name", KINDS)
def test_kernel_is_known_by_its_header_compressed_or_not(name: str) -> None:
    build, kind, architecture = KINDS[name]
    facts = facts_of(build())
    assert (facts["aki_kind"], facts.get("architecture")) == (kind, architecture)
    compressed = facts_of(gzip.compress(build()))
    assert (compressed["aki_kind"], compressed["aki_compression"]) == (kind, "gzip")


@pytest.mark.parametrize("chunk_size", [1 << 20, 4096, 1021])
@pytest.mark.parametrize("name", VERSIONED)
def test_version_is_found_however_the_bytes_are_cut(name: str, chunk_size: int) -> None:
    assert facts_of(KINDS[name][0](), chunk_size)["kernel_version"] == "6.1.0-handmade"


def test_version_far_into_a_kernel_is_found_in_passing() -> None:
    kernel = linux_image()[:4096] + bytes(3 << 20) + linux_image()[4096:]
    assert facts_of(kernel)["aki_banner"] == "6.1.0-handmade (test@example.org) #1 SMP"


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_banner_is_found_in_pieces_of_any_size(size: int) -> None:
    content = b"Linux version %s\n\0" + b"Linux Linux version 5.10.0-rc1 (x) #1\n" + b"Linux version 9\n"
    search = BannerSearch()
    for offset in range(0, len(content), size):
        search.take(memoryview(content)[offset : offset + size])
    assert search.text == "5.10.0-rc1 (x) #1"


def test_banner_without_end_is_cut() -> None:
    search = BannerSearch()
    for _ in range(10):
        search.take(memoryview(b"Linux version 1" + b"1" * 100))
    assert search.text.startswith("1111") and len(search.text) == 255


@pytest.mark.parametrize("pointer", [0, 0x1FF + 0x200, 0xFFFF])
def test_version_outside_of_the_setup_code_is_not_read(pointer: int) -> None:
    assert "kernel_version" not in facts_of(bzimage(version_pointer=pointer))


def test_version_of_another_kernel_is_its_whole_text() -> None:
    assert facts_of(bzimage(banner=b"Memtest86+ v6.10"))["kernel_version"] == "Memtest86+ v6.10"


def test_loading_facts_are_told_as_far_as_the_protocol_has_them() -> None:
    facts = facts_of(bzimage())
    assert (facts["aki_boot_protocol"], facts["aki_relocatable"], facts["aki_efi_handover"]) == ("2.15", True, True)
    assert (facts["aki_memory_size_bytes"], facts["aki_compression"], facts["aki_efi_stub"]) == (1 << 20, "gzip", False)
    old = facts_of(bzimage(version=0x202))
    assert old == {
        "aki_kind": "bzImage", "aki_boot_protocol": "2.02", "aki_efi_stub": False,
        "aki_banner": "6.1.0-handmade (test@example.org) #1 SMP", "kernel_version": "6.1.0-handmade",
    }  # fmt: skip


@pytest.mark.parametrize("build", [bzimage, linux_image, elf_kernel, uefi_program])
def test_memory_is_bounded_whatever_the_size_of_a_kernel(build: Callable[[], bytes]) -> None:
    inspector, bulk = Inspector(DiskFormat.AKI), bytes(1 << 20)
    content = build()
    tracemalloc.start()
    try:
        inspector.feed(content)
        for _ in range(128):
            inspector.feed(bulk)
        inspector.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
