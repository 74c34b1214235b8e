"""Small ISOs, kernels, ramdisks and machine images that nothing is wrong with: what tests and fuzzing begin from."""

from __future__ import annotations

import bz2
import gzip
import lzma

import zstandard

from tintype.domain.values import DiskFormat
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
from tintype.testing.handmade_iso import el_torito, el_torito_entry, el_torito_section, iso, iso_record, zisofs_field


def sound_boot_images() -> tuple[tuple[DiskFormat, bytes], ...]:
    """Each with the format it is to be declared as."""
    kernels = (bzimage, linux_image, elf_kernel, uefi_program, zboot_kernel, arm_zimage)
    compressors = (gzip.compress, lzma.compress, zstandard.compress)
    long_name = cpio_entry(b"a" * 300, b"x" * 999)
    return (
        (DiskFormat.ISO, iso(is_hybrid=True, root=iso_record(b"\0") + iso_record(b"A", zisofs_field(77), flags=0))),
        (DiskFormat.ISO, iso(catalog=el_torito(el_torito_entry(), el_torito_section(el_torito_entry())))),
        *((DiskFormat.AKI, build()) for build in kernels),
        (DiskFormat.AKI, elf_kernel(is_64_bit=False, big_endian=True)),
        *((DiskFormat.AKI, compress(bzimage())) for compress in compressors),
        (DiskFormat.ARI, cpio_archive(long_name, cpio_entry(b"init")) + bytes(512) + cpio_archive()),
        (DiskFormat.ARI, cpio_archive() + gzip.compress(cpio_archive())),
        (DiskFormat.ARI, bz2.compress(cpio_archive())),
        *((DiskFormat.AMI, build()) for build in (ext2, mbr_disk, gpt_disk)),
    )
