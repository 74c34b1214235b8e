"""ISO images, kernels, ramdisks and machine images that are to be refused, each with the error that must say so."""

from __future__ import annotations

import gzip
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tintype.domain.errors import (
    FormatMismatchError,
    MalformedImageError,
    RefusedContentError,
    TruncatedError,
    UnsupportedImageError,
)
from tintype.domain.values import DiskFormat
from tintype.testing import handmade_iso
from tintype.testing.handmade import fixed_vhd
from tintype.testing.handmade_boot import (
    arm_zimage,
    bzimage,
    cpio_archive,
    cpio_entry,
    elf_kernel,
    ext2,
    gpt_disk,
    linux_image,
    mbr_disk,
    uefi_program,
    zboot_kernel,
)
from tintype.testing.handmade_iso import el_torito, el_torito_entry, el_torito_section, iso, iso_volume

_Rows = Iterator[tuple[str, type[RefusedContentError], Callable[[], bytes]]]
_LIMIT = 0xFFFF_FFFF


def boot_families() -> tuple[tuple[DiskFormat, _Rows], ...]:
    """The hostile samples, by the format they are declared as."""
    return (
        (DiskFormat.ISO, _iso_volumes()),
        (DiskFormat.ISO, _iso_boot()),
        (DiskFormat.AKI, _kernels()),
        (DiskFormat.AKI, _executables()),
        (DiskFormat.AKI, _no_kernels()),
        (DiskFormat.ARI, _ramdisks()),
        (DiskFormat.ARI, _no_ramdisks()),
        (DiskFormat.AMI, _machine_images()),
    )


def _iso_volumes() -> _Rows:
    fields: list[tuple[str, dict[str, Any]]] = [
        ("volume size differs by byte order", {"volume_size_big": 24}),
        ("block size differs by byte order", {"block_size_big": 512}),
        ("path table size differs by byte order", {"path_table_size_big": 11}),
        ("root directory differs by byte order", {"root_location_big": 20}),
        ("root directory's size differs by byte order", {"root_size_big": 1}),
        ("block size", {"block_size": 4096}),
        ("block size of zero", {"block_size": 0}),
        ("no volume", {"volume_size": 0}),
        ("path table outside of the volume", {"path_table": 25}),
        ("path table at the integer's limit", {"path_table": _LIMIT}),
        ("big-endian path table outside of the volume", {"path_table_big": _LIMIT}),
        ("path table's size at the integer's limit", {"path_table_size": _LIMIT}),
        ("root directory outside of the volume", {"root_location": 25}),
        ("root directory at the integer's limit", {"root_location": _LIMIT, "root_size": _LIMIT}),
        ("root directory over the descriptors", {"root_location": 16}),
        ("root directory without a size", {"root_size": 0}),
        ("root that is no directory", {"root_flags": 0}),
        ("no primary volume", {"kind": 3}),
    ]
    for name, values in fields:
        yield name, MalformedImageError, partial(iso, **values)
    yield "volume beyond the end", TruncatedError, lambda: iso(volume_size=26)
    yield "volume at the integer's limit", TruncatedError, lambda: iso(volume_size=_LIMIT)
    yield "ends in the volume", TruncatedError, lambda: iso()[:-1]
    yield "ends in the root directory", TruncatedError, lambda: iso()[: handmade_iso.ROOT * 2048 + 100]
    yield "ends in the descriptors", TruncatedError, lambda: iso()[: 17 * 2048]
    yield "descriptors without an end", MalformedImageError, lambda: _with_sector(handmade_iso.TERMINATOR, b"")
    yield "endless descriptors", MalformedImageError, lambda: iso()[: 16 * 2048] + iso_volume() * 200
    yield (
        "two volumes that differ",
        MalformedImageError,
        lambda: _with_sector(handmade_iso.BOOT_RECORD, iso_volume(volume_size=24)),
    )
    yield (
        "second directory tree outside of the volume",
        MalformedImageError,
        lambda: _with_sector(handmade_iso.BOOT_RECORD, iso_volume(kind=2, root_location=_LIMIT)),
    )
    yield "no ISO at all", FormatMismatchError, lambda: bytes(64 * 1024)


def _iso_boot() -> _Rows:
    yield "boot catalog beyond the end", TruncatedError, lambda: iso(catalog_sector=25)
    yield "boot catalog at the integer's limit", TruncatedError, lambda: iso(catalog_sector=_LIMIT)
    yield "boot catalog in the descriptors", MalformedImageError, lambda: iso(catalog_sector=16)
    yield "boot catalog in the root directory", MalformedImageError, lambda: iso(catalog_sector=21)
    yield "boot catalog with a wrong sum", MalformedImageError, lambda: iso(catalog=b"\1" + el_torito()[:1] + bytes(62))
    yield (
        "boot indicator",
        MalformedImageError,
        lambda: iso(catalog=el_torito(el_torito_entry(indicator=0x99))),
    )
    yield (
        "boot section bomb",
        MalformedImageError,
        lambda: iso(catalog=el_torito(el_torito_entry(), el_torito_section(el_torito_entry(), count=0xFFFF))),
    )
    yield (
        "boot image beyond the end",
        TruncatedError,
        lambda: iso(catalog=el_torito(el_torito_entry(sector=_LIMIT, load_sectors=0xFFFF))),
    )
    yield (
        "UEFI boot image beyond the end",
        TruncatedError,
        lambda: iso(catalog=el_torito(el_torito_entry(), el_torito_section(el_torito_entry(load_sectors=64)))),
    )
    yield "two boot catalogs", MalformedImageError, _iso_with_two_catalogs


def _iso_with_two_catalogs() -> bytes:
    record = b"\0CD001\1" + b"EL TORITO SPECIFICATION".ljust(64, b"\0") + struct.pack("<I", 23)
    end = iso()[18 * 2048 : 19 * 2048]
    return _with_sector(18, record, _with_sector(19, end))


def _kernels() -> _Rows:
    yield "unknown boot protocol", MalformedImageError, lambda: bzimage(version=0x300)
    yield "boot protocol at the integer's limit", MalformedImageError, lambda: bzimage(version=0xFFFF)
    yield "no protected-mode code", MalformedImageError, lambda: bzimage(paragraphs=0)
    yield "payload outside of the code", MalformedImageError, lambda: bzimage(payload_offset=64)
    yield (
        "payload at the integer's limit",
        MalformedImageError,
        lambda: bzimage(payload_offset=_LIMIT, payload_length=_LIMIT),
    )
    yield "code at the integer's limit", TruncatedError, lambda: bzimage(paragraphs=_LIMIT)
    yield "setup code beyond the end", TruncatedError, lambda: bzimage(setup_sectors=255)
    yield "ends in its code", TruncatedError, lambda: bzimage()[:-16]
    yield "ends in its setup header", TruncatedError, lambda: bzimage()[:0x230]
    yield "ends at its magic", TruncatedError, lambda: bzimage()[:0x206]
    yield "memory at the integer's limit", MalformedImageError, lambda: linux_image(memory_size=(1 << 64) - 1)
    yield "RISC-V with absurd memory", MalformedImageError, lambda: linux_image(magic=b"RSC\5", memory_size=1 << 40)
    yield "zImage that ends before it begins", MalformedImageError, lambda: arm_zimage(start=4096, end=0)
    yield "zImage that is cut", TruncatedError, lambda: arm_zimage(end=_LIMIT)
    yield "zboot payload beyond the end", TruncatedError, lambda: zboot_kernel(offset=_LIMIT)
    yield "zboot payload at the integer's limit", TruncatedError, lambda: zboot_kernel(length=_LIMIT)


def _executables() -> _Rows:
    yield "ELF segment bomb", MalformedImageError, lambda: elf_kernel(segments=0xFFFF)
    yield "ELF without segments", MalformedImageError, lambda: elf_kernel(segments=0)
    yield "ELF segments described nowhere", MalformedImageError, lambda: elf_kernel(table=(1 << 64) - 1)
    yield "ELF of an unknown class", MalformedImageError, lambda: b"\x7fELF\x09\x01\x01" + elf_kernel()[7:]
    yield "ELF segment beyond the end", TruncatedError, lambda: elf_kernel(offset=1 << 40)
    yield "ELF segment at the integer's limit", TruncatedError, lambda: elf_kernel(size=(1 << 64) - 1)
    yield "ELF of 32 bits that is cut", TruncatedError, lambda: elf_kernel(is_64_bit=False)[:-1]
    yield "big-endian ELF that is cut", TruncatedError, lambda: elf_kernel(big_endian=True)[:-1]
    yield "ELF section table beyond the end", TruncatedError, lambda: elf_kernel(sections=8192, section_count=1)
    yield "ELF that ends in its header", TruncatedError, lambda: elf_kernel()[:60]
    yield "ELF object file", FormatMismatchError, lambda: elf_kernel(kind=1)
    yield "ELF core dump", FormatMismatchError, lambda: elf_kernel(kind=4)
    yield "ELF that needs a dynamic linker", FormatMismatchError, lambda: elf_kernel(segment_kind=3)
    yield "Windows program", FormatMismatchError, lambda: uefi_program(subsystem=3)
    yield "PE without sections", MalformedImageError, lambda: uefi_program(count=0)
    yield "PE section bomb", MalformedImageError, lambda: uefi_program(count=0xFFFF)
    yield "PE section beyond the end", TruncatedError, lambda: uefi_program(first_section=0xFFFF_0000)
    yield "PE section at the integer's limit", TruncatedError, lambda: uefi_program(section_size=_LIMIT)
    yield "PE that ends in its sections' table", TruncatedError, lambda: uefi_program()[:340]
    yield (
        "unified kernel image with two kernels",
        MalformedImageError,
        lambda: uefi_program((".linux", b"a"), (".linux", b"b")),
    )


def _no_kernels() -> _Rows:
    yield "noise", FormatMismatchError, lambda: b"\xda" * 8192
    yield "one byte", FormatMismatchError, lambda: b"M"
    yield "boot sector of a disk", FormatMismatchError, mbr_disk
    yield "fixed vhd", FormatMismatchError, fixed_vhd
    yield "kernel with the footer of a vhd", FormatMismatchError, lambda: bzimage() + fixed_vhd()
    yield "ramdisk", FormatMismatchError, cpio_archive
    yield "zip archive", FormatMismatchError, lambda: b"PK\3\4" + bytes(4096)
    yield "compressed ramdisk", FormatMismatchError, lambda: gzip.compress(cpio_archive())
    yield "compressed twice", FormatMismatchError, lambda: gzip.compress(gzip.compress(bzimage()))
    yield "compressed zeros", FormatMismatchError, lambda: gzip.compress(bytes(64 << 20), 9)
    yield "damaged gzip", MalformedImageError, lambda: b"\x1f\x8b\x08\0" + b"\xff" * 4096
    yield "damaged xz", MalformedImageError, lambda: lzma.compress(bzimage())[:12] + b"\xff" * 4096
    yield "damaged zstd", MalformedImageError, lambda: b"\x28\xb5\x2f\xfd" + b"\xff" * 4096
    yield (
        "xz with the largest dictionary",
        MalformedImageError,
        lambda: lzma.compress(bzimage(), filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}])[:12] + _XZ_BLOCK,
    )
    yield "lz4", UnsupportedImageError, lambda: b"\x02\x21\x4c\x18" + bytes(4096)
    yield "lzop", UnsupportedImageError, lambda: b"\x89LZO\x00\r\n\x1a\n" + bytes(4096)


_XZ_BLOCK_HEADER = b"\x02\x00\x21\x01\x28\x00\x00\x00"
"""One LZMA2 filter whose dictionary has 4 GiB less one byte (.xz 1.1.0, 3.1 and 5.3.1)."""
_XZ_BLOCK = _XZ_BLOCK_HEADER + struct.pack("<I", zlib.crc32(_XZ_BLOCK_HEADER)) + b"\x01\x00\x00a" * 1024


def _ramdisks() -> _Rows:
    fields: list[tuple[str, dict[str, int]]] = [
        ("no name", {"name_size": 0}),
        ("empty name", {"name_size": 1}),
        ("name longer than any path", {"name_size": 4097}),
        ("name at the integer's limit", {"name_size": _LIMIT}),
        ("size that leads into nowhere", {"file_size": 2}),
    ]
    for name, values in fields:
        yield name, MalformedImageError, partial(_archive_with, **values)
    yield "file at the integer's limit", TruncatedError, lambda: _archive_with(file_size=_LIMIT)
    yield "no trailer", TruncatedError, lambda: cpio_entry(b"init", b"x")
    yield "ends in a header", TruncatedError, lambda: cpio_archive()[:100]
    yield "ends in a name", TruncatedError, lambda: cpio_archive()[:112]
    yield "ends in a file", TruncatedError, lambda: cpio_archive()[:120]
    yield "trailer with content", MalformedImageError, lambda: cpio_entry(b"TRAILER!!!", file_size=_LIMIT)
    yield "header that is not hexadecimal", MalformedImageError, lambda: b"070701" + b"0x00_001" * 13 + bytes(100)
    yield "binary header", MalformedImageError, lambda: b"070701" + bytes(104)
    yield "noise behind the archive", MalformedImageError, lambda: cpio_archive() + b"\xda" * 512
    yield "disk behind the archive", MalformedImageError, lambda: cpio_archive() + mbr_disk()
    yield "zeros without end", MalformedImageError, lambda: cpio_archive() + bytes(2 << 20)
    yield "entries without end", MalformedImageError, lambda: cpio_entry(b"x") * 100_001
    yield "archives without end", MalformedImageError, lambda: cpio_archive(cpio_entry(b"x")) * 1001
    yield "empty archives without end", MalformedImageError, lambda: cpio_entry(b"TRAILER!!!") * 1001
    yield "damaged gzip behind microcode", MalformedImageError, lambda: cpio_archive() + b"\x1f\x8b\x08" + b"\xff" * 99


def _archive_with(**fields: int) -> bytes:
    return cpio_archive(cpio_entry(b"init", b"content", **fields), cpio_entry(b"more", b"x" * 64))


def _no_ramdisks() -> _Rows:
    yield "noise", FormatMismatchError, lambda: b"\xda" * 8192
    yield "one byte", FormatMismatchError, lambda: b"0"
    yield "zeros", FormatMismatchError, lambda: bytes(8192)
    yield "old cpio", FormatMismatchError, lambda: b"070707" + b"0" * 200
    yield "kernel", FormatMismatchError, bzimage
    yield "bare file system", FormatMismatchError, ext2
    yield "compressed kernel", FormatMismatchError, lambda: gzip.compress(bzimage())
    yield "7z archive", FormatMismatchError, lambda: b"7z\xbc\xaf\x27\x1c" + bytes(4096)
    yield (
        "archive with the footer of a vhd",
        FormatMismatchError,
        lambda: cpio_archive() + gzip.compress(cpio_archive()) + fixed_vhd(),
    )


def _machine_images() -> _Rows:
    yield "noise", FormatMismatchError, lambda: b"\xda" * (128 << 10)
    yield "zeros", FormatMismatchError, lambda: bytes(4096)
    yield "kernel", FormatMismatchError, bzimage
    yield "ramdisk", FormatMismatchError, cpio_archive
    yield "ISO", FormatMismatchError, iso
    yield "fixed vhd of a file system", FormatMismatchError, lambda: ext2() + fixed_vhd()
    yield "swap", FormatMismatchError, lambda: (bytes(1024) + struct.pack("<II", 1, 15)).ljust(4086, b"\0") + _SWAP
    yield "boot sector without partitions", FormatMismatchError, lambda: mbr_disk(kind=0)
    yield "boot sector with a strange partition", FormatMismatchError, lambda: mbr_disk(status=0x7F)
    yield "file system beyond the end", TruncatedError, lambda: ext2(blocks=65)
    yield "file system at the integer's limit", TruncatedError, lambda: ext2(blocks=_LIMIT, log_block_size=6)
    yield "file system that is cut", TruncatedError, lambda: ext2()[:-1]
    yield "partition beyond the end", TruncatedError, lambda: mbr_disk(count=128)
    yield "partition at the integer's limit", TruncatedError, lambda: mbr_disk(start=_LIMIT, count=_LIMIT)
    yield "GPT beyond the end", TruncatedError, lambda: gpt_disk(last_sector=128)
    yield "GPT at the integer's limit", TruncatedError, lambda: gpt_disk(last_sector=(1 << 64) - 1)


_SWAP = b"SWAPSPACE2" + bytes(4096 * 15)


def _with_sector(number: int, content: bytes, image: bytes | None = None) -> bytes:
    spoiled = iso() if image is None else image
    return spoiled[: number * 2048] + content.ljust(2048, b"\0") + spoiled[(number + 1) * 2048 :]
