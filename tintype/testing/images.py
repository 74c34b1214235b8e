"""Small real disk images, made by qemu-img from one disk whose content is known."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tintype.domain.values import DiskFormat

QEMU_IMG = Path("/usr/bin/qemu-img")
_MIB = 1024 * 1024
_QEMU_TIMEOUT_S = 120

SUBFORMATS: Mapping[str, tuple[DiskFormat, tuple[str, ...]]] = MappingProxyType(
    {
        "raw": (DiskFormat.RAW, ("-O", "raw")),
        "qcow2-v2": (DiskFormat.QCOW2, ("-O", "qcow2", "-o", "compat=0.10")),
        "qcow2-v3": (DiskFormat.QCOW2, ("-O", "qcow2")),
        "qcow2-zlib": (DiskFormat.QCOW2, ("-O", "qcow2", "-c")),
        "qcow2-zstd": (DiskFormat.QCOW2, ("-O", "qcow2", "-c", "-o", "compression_type=zstd")),
        "qcow2-extended-l2": (DiskFormat.QCOW2, ("-O", "qcow2", "-o", "extended_l2=on,cluster_size=128k")),
        "qcow2-small-clusters": (DiskFormat.QCOW2, ("-O", "qcow2", "-o", "cluster_size=512")),
        "vmdk-sparse": (DiskFormat.VMDK, ("-O", "vmdk")),
        "vmdk-stream": (DiskFormat.VMDK, ("-O", "vmdk", "-o", "subformat=streamOptimized")),
        "vdi-dynamic": (DiskFormat.VDI, ("-O", "vdi")),
        "vdi-static": (DiskFormat.VDI, ("-O", "vdi", "-o", "static=on")),
        "vhd-dynamic": (DiskFormat.VHD, ("-O", "vpc", "-o", "force_size=on")),
        "vhd-fixed": (DiskFormat.VHD, ("-O", "vpc", "-o", "subformat=fixed,force_size=on")),
        "vhdx-dynamic": (DiskFormat.VHDX, ("-O", "vhdx")),
        "vhdx-fixed": (DiskFormat.VHDX, ("-O", "vhdx", "-o", "subformat=fixed")),
    }
)
"""Every kind of image that qemu-img can make in one file: its format, and qemu-img's options for it."""


def make_disk(path: Path, *, size_bytes: int = 8 * _MIB, seed: int = 0) -> Path:
    """Write a sparse raw disk with a partition table's signature, some random and some repetitive data."""
    source = random.Random(seed)  # noqa: S311 - the same disk each time
    with path.open("wb") as disk:
        disk.truncate(size_bytes)
        disk.seek(510)
        disk.write(b"\x55\xaa")
        for offset in (64 * 1024, size_bytes // 2, size_bytes - 256 * 1024):
            disk.seek(offset)
            disk.write(source.randbytes(128 * 1024) + b"tintype\n" * 8192)
    return path


def make_image(disk: Path, subformat: str, path: Path) -> Path:
    """Convert the raw ``disk`` to one of :data:`SUBFORMATS`."""
    options = SUBFORMATS[subformat][1]
    run_qemu_img("convert", "-f", "raw", *options, str(disk), str(path))
    return path


def set_vhd_creator(path: Path, creator: bytes, geometry: int | None = None) -> None:
    """Have another program made a VHD, and another geometry in it, if any is given: cylinders, heads, sectors."""
    image = bytearray(path.read_bytes())
    for footer in {0, len(image) - 512} if image.startswith(b"conectix") else {len(image) - 512}:
        image[footer + 28 : footer + 32] = creator
        if geometry is not None:
            image[footer + 56 : footer + 60] = geometry.to_bytes(4, "big")
        image[footer + 64 : footer + 68] = bytes(4)
        checksum = ~sum(image[footer : footer + 512]) & 0xFFFF_FFFF
        image[footer + 64 : footer + 68] = checksum.to_bytes(4, "big")
    path.write_bytes(image)


def run_qemu_img(*arguments: str) -> None:
    """Run qemu-img on files of our own making: it is not confined."""
    subprocess.run(
        [str(QEMU_IMG), *arguments],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=_QEMU_TIMEOUT_S,
    )
