"""Guest disks of absurd sizes: each format at what it can just express, in a file of a few MiB at most."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from tintype.domain.values import DiskFormat
from tintype.testing.handmade import ploop, qcow2, vdi, vhd, vhdx, vmdk, vmdk_descriptor

Build = Callable[[], bytes]

_MIB, _TIB = 1 << 20, 1 << 40
_U32 = 0xFFFF_FFFF


def huge_disks() -> Iterator[tuple[DiskFormat, Build]]:
    """Disks of more than 1 TiB, each of which its format could hold."""
    yield DiskFormat.VMDK, partial(vmdk, capacity=1 << 32)
    yield DiskFormat.VDI, partial(vdi, disk_size=2 * _TIB, blocks=1 << 21, data_offset=16 * _MIB)
    yield DiskFormat.VHD, partial(vhd, current_size=_TIB + 512)
    yield DiskFormat.VHDX, partial(vhdx, disk_size=2 * _TIB)
    yield DiskFormat.PLOOP, partial(ploop, sectors=1 << 32, bat_entries=1 << 20, tracks=1 << 12, data_offset=1 << 14)


def empty_giants() -> Iterator[tuple[DiskFormat, Build]]:
    """Well-formed files of a few MiB at most, each with an empty disk of 1.25 TiB."""
    size = 5 << 38
    sectors, blocks = size >> 9, size >> 20
    yield DiskFormat.QCOW2, partial(qcow2, cluster_bits=16, size=size, l1_size=2560, l1=(0,))
    descriptor = vmdk_descriptor(extents=f'RW {sectors} SPARSE "disk.vmdk"')
    yield DiskFormat.VMDK, partial(vmdk, descriptor, capacity=sectors, grain_size=1 << 16, directory=(0,))
    yield DiskFormat.VDI, partial(
        vdi, disk_size=size, blocks=blocks, allocated=0, entries=(_U32,), map_size=blocks * 4,
        data_offset=512 + blocks * 4,
    )  # fmt: skip
    yield (
        DiskFormat.VHD,
        partial(
            vhd,
            current_size=size,
            block_size=1 << 28,
            max_entries=size >> 28,
            entries=(_U32,),
            table_size=(size >> 28) * 4,
        ),
    )
    yield DiskFormat.VHDX, partial(vhdx, disk_size=size, block_size=256 * _MIB, entries=(0,))
    yield DiskFormat.PLOOP, partial(
        ploop, sectors=sectors, tracks=1 << 16, bat_entries=sectors >> 16, entries=(0,), data_offset=1 << 16,
        data_at=(sectors >> 16) * 4 + 64,
    )  # fmt: skip
