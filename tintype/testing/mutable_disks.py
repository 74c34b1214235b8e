"""Sound images of the formats that have block tables, and where their headers and tables are: what to change in them.

A checksum would keep almost every change from being looked at; it is made right again.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tintype.domain.values import DiskFormat
from tintype.inspect.tables.crc32c import crc32c
from tintype.testing.handmade import fixed_vhd, qcow2, vdi, vhd, vhdx, vmdk
from tintype.testing.handmade_qcow2 import CLUSTER, ZSTD, compressed, deflated, extended, zstd
from tintype.testing.hostile_disks import ploop, stream_vmdk

_KIB, _MIB = 1024, 1024 * 1024


def _leave(_: bytearray) -> None:
    pass


@dataclass(frozen=True, slots=True)
class MutableDisk:
    """An image, the ranges (begin, end) that are worth changing, and what makes its checksums right afterwards."""

    disk_format: DiskFormat
    image: bytes
    places: tuple[tuple[int, int], ...]
    repair: Callable[[bytearray], None] = _leave

    def metadata(self) -> bytes:
        """What the places hold, one after the other."""
        return b"".join(self.image[begin:end] for begin, end in self.places)

    def with_metadata(self, content: bytes) -> bytearray:
        """The image with ``content`` in its places, as far as it goes, and its checksums right."""
        image = bytearray(self.image)
        for begin, end in self.places:
            piece, content = content[: end - begin], content[end - begin :]
            image[begin : begin + len(piece)] = piece
        self.repair(image)
        return image


def _with_crc(image: bytearray, offset: int, length: int) -> None:
    image[offset + 4 : offset + 8] = bytes(4)
    image[offset + 4 : offset + 8] = struct.pack("<I", crc32c(bytes(image[offset : offset + length])))


def _with_sum(image: bytearray, offset: int, length: int, at: int) -> None:
    image[offset + at : offset + at + 4] = bytes(4)
    checksum = ~sum(image[offset : offset + length]) & 0xFFFF_FFFF
    image[offset + at : offset + at + 4] = struct.pack(">I", checksum)


def _repair_vhd(image: bytearray) -> None:
    if len(image) >= 1536:
        _with_sum(image, 0, 512, 64)
        _with_sum(image, 512, 1024, 36)


def _repair_fixed_vhd(image: bytearray) -> None:
    if len(image) > 512:
        _with_sum(image, len(image) - 512, 512, 64)


def _repair_vhdx(image: bytearray) -> None:
    if len(image) >= 256 * _KIB:
        _with_crc(image, 64 * _KIB, 4 * _KIB)
        _with_crc(image, 192 * _KIB, 64 * _KIB)


def _qcow2_disks() -> Mapping[str, MutableDisk]:
    """Plain, with compressed clusters, and with subclusters; without the checksums that the format does not have."""
    header, l1, l2 = (0, 112), (3 * CLUSTER, 3 * CLUSTER + 8), (4 * CLUSTER, 4 * CLUSTER + 64)
    packed = {
        "qcow2-zlib": compressed(deflated(b"tintype\n" * 512)),
        "qcow2-zstd": compressed(zstd(b"tintype\n" * 512), **ZSTD),
    }
    subclusters = extended(0x14000, 1 << 32 | 0xFFF0)
    return {
        "qcow2": MutableDisk(DiskFormat.QCOW2, qcow2(), (header, l1, l2)),
        **{
            name: MutableDisk(DiskFormat.QCOW2, image, (header, l1, l2, (5 * CLUSTER, len(image))))
            for name, image in packed.items()
        },
        "qcow2-extended-l2": MutableDisk(DiskFormat.QCOW2, subclusters, (header, (0xC000, 0xC008), (0x10000, 0x10040))),
    }


def mutable_disks() -> Mapping[str, MutableDisk]:
    """All of them, by name."""
    sector = 512
    return {
        **_qcow2_disks(),
        "vdi": MutableDisk(DiskFormat.VDI, vdi(), ((64, 472), (512, 520))),
        "vhd": MutableDisk(DiskFormat.VHD, vhd(), ((8, 100), (512, 560), (1536, 1544), (2048, 2560)), _repair_vhd),
        "vhd-fixed": MutableDisk(DiskFormat.VHD, fixed_vhd(), ((_MIB, _MIB + 100),), _repair_fixed_vhd),
        "vhdx": MutableDisk(
            DiskFormat.VHDX,
            vhdx(),
            (
                (64 * _KIB, 64 * _KIB + 100),
                (192 * _KIB, 192 * _KIB + 100),
                (_MIB, _MIB + 200),
                (_MIB + 64 * _KIB, _MIB + 64 * _KIB + 28),
                (2 * _MIB, 2 * _MIB + 32),
            ),
            _repair_vhdx,
        ),
        "ploop": MutableDisk(DiskFormat.PLOOP, ploop(), ((0, 76),)),
        "vmdk": MutableDisk(
            DiskFormat.VMDK, vmdk(), ((4, 80), (21 * sector, 21 * sector + 8), (22 * sector, 22 * sector + 64))
        ),
        "vmdk-stream": MutableDisk(
            DiskFormat.VMDK,
            stream_vmdk(),
            (
                (4, 80),
                (128 * sector, 128 * sector + 90),
                (130 * sector, 130 * sector + 64),
                (134 * sector, 134 * sector + 8),
                (135 * sector, 138 * sector),
            ),
        ),
    }
