"""Hostile disks: small files that expand without end, tables over tables, numbers at their limits, unfinished states.

Each is a well-formed image of :mod:`tintype.testing.handmade` but for what its name says.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tintype.domain.errors import (
    DecompressionBombError,
    FormatMismatchError,
    MalformedImageError,
    RefusedContentError,
    TruncatedError,
    UnsupportedImageError,
)
from tintype.domain.values import DiskFormat
from tintype.testing.handmade import (
    ploop,
    qcow2,
    qcow2_extension,
    stream_vmdk,
    vdi,
    vhd,
    vhdx,
    vmdk,
    vmdk_descriptor,
)

Build = Callable[[], bytes]
Rows = Iterator[tuple[str, type[RefusedContentError], Build]]

_MIB = 1 << 20
_COMPRESSED = 1 << 62
_WIDE = 1 << 16
_LUKS = 0x0537BE77
_U32, _U64 = 0xFFFF_FFFF, (1 << 64) - 1


def disk_families() -> Iterator[tuple[DiskFormat, Rows]]:
    """All of them, by the format to declare."""
    yield DiskFormat.QCOW2, _qcow2_bombs()
    yield DiskFormat.QCOW2, _qcow2_layouts()
    yield DiskFormat.QCOW2, _qcow2_snapshots()
    yield DiskFormat.VMDK, _vmdk_bombs()
    yield DiskFormat.VMDK, _vmdk_streams()
    yield DiskFormat.VDI, _vdi()
    yield DiskFormat.VHD, _vhd()
    yield DiskFormat.VHDX, _vhdx()
    yield DiskFormat.PLOOP, _ploop()
    yield DiskFormat.RAW, _raw()
    for declared in (DiskFormat.VMDK, DiskFormat.VDI, DiskFormat.VHD, DiskFormat.VHDX, DiskFormat.PLOOP):
        yield declared, iter([("raw bytes", FormatMismatchError, lambda: b"\xda" * 4096)])


def _qcow2_bombs() -> Rows:
    error = DecompressionBombError
    data, wide_data = 5 * 4096, 5 * _WIDE
    wide: dict[str, Any] = {"cluster_bits": 16, "l1_entry": 4 * _WIDE, "size": 1 << 29}
    yield "clusters in one place", error, lambda: qcow2(l2=[data] * 256)
    yield "compressed clusters in one place", error, lambda: qcow2(l2=[data | _COMPRESSED] * 256)
    yield "every cluster of a table in one place", error, lambda: qcow2(l2=[wide_data | _COMPRESSED] * 8192, **wide)
    yield "clusters that overlap", error, lambda: qcow2(l2=[data + number * 512 for number in range(8)])
    yield (
        "compressed clusters that overlap",
        error,
        lambda: qcow2(l2=[wide_data + number | _COMPRESSED for number in range(8192)], **wide),
    )
    yield "compressed clusters that overlap, zstd", error, partial(_zstd_bomb, wide_data)
    yield "tables in one place", error, lambda: qcow2(l1=[4 * 4096] * 512, l1_size=512, size=1 << 30)
    yield (
        "clusters that two tables name",
        error,
        lambda: qcow2(
            l1=[4 * 4096, 6 * 4096], l1_size=2, size=4 * _MIB, l2=[5 * 4096, 4096, 2 * 4096, 3 * 4096, 0x5000 + 512],
            more=struct.pack(">6Q", *(number * 4096 for number in (1, 2, 3, 4, 5, 6))).ljust(4096, b"\0"),
        ),
    )  # fmt: skip


def _zstd_bomb(first: int) -> bytes:
    """32 tables of one content. The shortest frame of zstd has 10 bytes, and there is not room for so many."""
    table = [first + number | _COMPRESSED for number in range(8192)]
    return qcow2(
        l1=[number * _WIDE for number in (4, *range(6, 37))], l1_size=32, l2=table,
        more=struct.pack(">8192Q", *table) * 31, cluster_bits=16, size=1 << 34,
        incompatible=8, header_length=112, extensions=b"\1" + bytes(7),
    )  # fmt: skip


def _qcow2_layouts() -> Rows:
    error = MalformedImageError
    yield "version 1", UnsupportedImageError, lambda: qcow2(version=1)
    yield "L1 over the header", error, lambda: qcow2(l1_table_offset=0)
    yield "refcount table over the header", error, lambda: qcow2(refcount_table_offset=0)
    yield "refcount table over L1", error, lambda: qcow2(refcount_table_offset=3 * 4096)
    yield "snapshots over the header", error, lambda: qcow2(nb_snapshots=1)
    yield "L2 over L1", error, lambda: qcow2(l1_entry=3 * 4096)
    yield "L2 over the refcount table", error, lambda: qcow2(l1_entry=4096)
    for name, offset in (("between clusters", 512), ("over the header", 0), ("at the limit", _U64 - 4095)):
        extension = qcow2_extension(_LUKS, struct.pack(">QQ", offset, 4096))
        yield f"LUKS header {name}", error, partial(qcow2, extensions=extension, crypt_method=2)
    extension = qcow2_extension(_LUKS, struct.pack(">QQ", 5 * 4096, 4096))
    yield "LUKS header of a disk that is not encrypted", error, partial(qcow2, extensions=extension)
    yield "LUKS header without its magic", error, partial(qcow2, extensions=extension, crypt_method=2)
    yield "two LUKS headers", error, partial(qcow2, extensions=extension * 2, crypt_method=2)


def _snapshot(
    *, l1_offset: int = 0x3000, l1_size: int = 1, names: int = 0, vm_state: int = 0, disk: int = _MIB, extra: int = 16
) -> bytes:
    fixed = struct.pack(">QIHHIIQII", l1_offset, l1_size, names, names, 0, 0, 0, 0, extra)
    return (fixed + struct.pack(">QQ", vm_state, disk) + bytes(2 * names)).ljust(4096, b"\0")


def _qcow2_snapshots() -> Rows:
    def build(count: int = 1, **fields: int) -> bytes:
        return qcow2(nb_snapshots=count, snapshots_offset=6 * 4096, more=_snapshot(**fields))

    error = MalformedImageError
    yield "snapshot of absurd memory", error, lambda: build(vm_state=_U64)
    yield "snapshot of an absurd disk", error, lambda: build(disk=1 << 60)
    yield "snapshot with an absurd L1", error, lambda: build(l1_size=_U32)
    yield "snapshot whose L1 lies askew", error, lambda: build(l1_offset=513)
    yield "snapshot with absurd extra data", error, lambda: build(extra=_U32)
    yield "snapshot's L1 beyond the end", TruncatedError, lambda: build(l1_offset=1 << 40)
    yield "snapshot names beyond the end", TruncatedError, lambda: build(count=2, names=0xFFFF)
    yield "fewer snapshots than told", TruncatedError, lambda: build(count=65536)


def _vmdk_bombs() -> Rows:
    error = DecompressionBombError
    yield "grains in one place", error, lambda: vmdk(grains=(26,) * 16)
    yield "compressed grains in one place", error, lambda: vmdk(grains=(26,) * 16, compression=1)
    yield "grains that overlap", error, lambda: vmdk(grains=tuple(range(26, 42)))
    yield (
        "tables in one place",
        error,
        lambda: vmdk(
            vmdk_descriptor(extents='RW 131072 SPARSE "a.vmdk"'), capacity=131072, directory=(22, 22)
        ),
    )  # fmt: skip
    malformed = MalformedImageError
    yield "directory over the header", malformed, lambda: vmdk(directory_offset=0)
    yield "directory over the descriptor", malformed, lambda: vmdk(directory_offset=20)
    yield "descriptor at the integer's limit", TruncatedError, lambda: vmdk(descriptor_offset=1 << 50)
    yield "grains of all sectors", malformed, lambda: vmdk(grain_size=1 << 63)
    yield "sectors at the integer's limit", malformed, lambda: vmdk(capacity=_U64)


def _vmdk_streams() -> Rows:
    bomb, malformed = DecompressionBombError, MalformedImageError
    yield "stream: grains in one place", bomb, lambda: stream_vmdk(grains=(21, 21))
    yield "stream: more grains named than stored", bomb, lambda: stream_vmdk(grains=(21, 22, 23))
    yield "stream: tables in one place", bomb, lambda: _wide_stream(directory=(23, 23))
    yield "stream: table without a marker", malformed, lambda: stream_vmdk(directory=(21,))
    yield "stream: directory without a marker", malformed, lambda: stream_vmdk(directory_offset=23)
    yield "stream: unknown marker", malformed, lambda: stream_vmdk(marker=(4, 0, 9))
    yield "stream: table of another size", malformed, lambda: stream_vmdk(marker=(5, 0, 1))
    yield "stream: grain beyond the disk", malformed, lambda: stream_vmdk(marker=(2048, 100, 0))
    yield "stream: overlong grain", malformed, lambda: stream_vmdk(marker=(0, _U32, 0))
    yield "stream: no markers", malformed, lambda: stream_vmdk(overhead=0)
    yield "stream: zeros for grains", malformed, lambda: stream_vmdk()[: 21 * 512] + bytes(4 * _MIB)
    yield "stream: grains beyond the end", malformed, lambda: stream_vmdk(overhead=1 << 40)


def _wide_stream(directory: tuple[int, ...]) -> bytes:
    """The stream of a disk of 64 MiB, which takes two grain tables."""
    image = stream_vmdk(directory=directory, capacity=131072)
    header = image[:12] + struct.pack("<Q", 131072) + image[20:512]
    text = vmdk_descriptor(create_type="streamOptimized", extents='RW 131072 SPARSE "a.vmdk"')
    return header + text.ljust(20 * 512, b"\0") + image[21 * 512 :]


def _vdi() -> Rows:
    yield "blocks in one place", DecompressionBombError, lambda: vdi(entries=(0, 0))
    yield "block map over the header", MalformedImageError, lambda: vdi(map_offset=0)
    yield "blocks over the block map", MalformedImageError, lambda: vdi(data_offset=512)
    yield "block map at the integer's limit", MalformedImageError, lambda: vdi(map_offset=_U32 - 511)
    yield "disk at the integer's limit", MalformedImageError, lambda: vdi(disk_size=_U64)
    yield "more blocks stored than there are", MalformedImageError, lambda: vdi(allocated=_U32)
    yield "unknown type", MalformedImageError, lambda: vdi(image_type=9)
    yield "blocks beyond the end", TruncatedError, lambda: vdi(entries=(0, 1))


def _vhd() -> Rows:
    yield (
        "blocks in one place",
        DecompressionBombError,
        lambda: vhd(block_size=_MIB, max_entries=2, entries=(4, 4)),
    )
    yield (
        "blocks that overlap",
        DecompressionBombError,
        lambda: vhd(block_size=_MIB // 8, max_entries=20, entries=tuple(range(4, 24))),
    )
    yield "saved state", UnsupportedImageError, lambda: vhd(saved_state=1)
    yield "unknown version", MalformedImageError, lambda: vhd(version=0x20000)
    yield "geometry of a larger disk", MalformedImageError, lambda: vhd(cylinders=65535, heads=15, sectors=255)
    yield "header over the footer's copy", MalformedImageError, lambda: vhd(data_offset=8)
    yield "block table over the header", MalformedImageError, lambda: vhd(table_offset=512)
    yield "block table at the integer's limit", TruncatedError, lambda: vhd(table_offset=1 << 62)
    yield "disk at the integer's limit", MalformedImageError, lambda: vhd(current_size=_U64)
    yield "disk of no whole sectors", MalformedImageError, lambda: vhd(current_size=1000)


def _vhdx() -> Rows:
    metadata, bat = "8b7ca206-4790-4b9a-b8fe-575f050f886e", "2dc27766-f623-4200-9d64-115e9bfd4a08"
    block = 3 << 20 | 6
    size_item = "2fa54224-cd1b-4876-b211-5dbed83bf4b8"
    yield "blocks in one place", DecompressionBombError, lambda: vhdx(entries=(block, block))
    overlapping = [number << 20 | 6 for number in range(1, 7)]
    yield (
        "blocks that overlap",
        DecompressionBombError,
        lambda: vhdx(block_size=2 * _MIB, disk_size=12 * _MIB, entries=overlapping) + bytes(4 * _MIB),
    )
    yield "block over the headers", MalformedImageError, lambda: vhdx(entries=(6,))
    overlap = {metadata: (_MIB, 2 * _MIB), bat: (2 * _MIB, _MIB)}
    yield "regions that overlap", MalformedImageError, lambda: vhdx(regions=overlap)
    yield "item of another size", MalformedImageError, lambda: vhdx(items={size_item: b"short"})
    yield "item at the integer's limit", MalformedImageError, lambda: vhdx(disk_size=_U64)
    yield (
        "region at the integer's limit",
        TruncatedError,
        lambda: vhdx(regions={metadata: (_MIB, _MIB), bat: ((1 << 63), 4095 * _MIB)}),
    )


def _ploop() -> Rows:
    malformed = MalformedImageError
    fields: list[tuple[str, dict[str, Any]]] = [
        ("unknown version", {"version": 3}),
        ("unknown state", {"in_use": 1}),
        ("clusters of no size", {"tracks": 0}),
        ("huge clusters", {"tracks": _U32}),
        ("block table too short", {"sectors": 5}),
        ("block table bomb", {"bat_entries": _U32}),
        ("size at the integer's limit", {"sectors": _U64}),
        ("size of another generation", {"magic": b"WithoutFreeSpace", "sectors": 1 << 32, "entries": (2, 0)}),
        ("data over the block table", {"magic": b"WithoutFreeSpace", "data_offset": 1, "bat_entries": 1000}),
        ("data between clusters", {"data_offset": 3}),
        ("no data offset", {"data_offset": 0}),
        ("cluster over the header", {"data_offset": 4}),
    ]
    for name, values in fields:
        yield name, malformed, partial(ploop, **values)
    yield "in use", UnsupportedImageError, lambda: ploop(in_use=0x746F6E59)
    yield "format extension", UnsupportedImageError, lambda: ploop(extension_offset=4)
    yield "clusters in one place", DecompressionBombError, lambda: ploop(entries=(1, 1))
    yield (
        "clusters that overlap",
        DecompressionBombError,
        lambda: ploop(
            magic=b"WithoutFreeSpace", tracks=8, sectors=32, bat_entries=4, entries=(2, 3, 4, 5), cluster=bytes(2048)
        ),
    )
    yield "ends in the header", TruncatedError, lambda: ploop()[:60]
    yield "ends in the block table", TruncatedError, lambda: ploop(entries=(0, 0))[:66]
    yield "ends before its cluster", TruncatedError, lambda: ploop()[:1024]
    yield "cluster beyond the end", TruncatedError, lambda: ploop(entries=(1, _U32))


def _raw() -> Rows:
    magics = {
        "Bochs": b"Bochs Virtual HD Image",
        "cloop": b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n",
        "COW": b"OOOM\0\0\0\2",
        "Android sparse": b"\x3a\xff\x26\xed\x01\0\0\0",
        "ploop": ploop(),
        "an older ploop": ploop(magic=b"WithoutFreeSpace", entries=(2, 0)),
        "qcow version 1": b"QFI\xfb\0\0\0\1",
        "gzip": b"\x1f\x8b\x08\0",
        "zip": b"PK\x03\x04",
        "xz": b"\xfd7zXZ\0",
        "zstd": b"\x28\xb5\x2f\xfd",
        "bz2": b"BZh91AY&SY",
        "lz4": b"\x04\x22\x4d\x18",
    }
    for name, magic in magics.items():
        yield f"that is {name}", FormatMismatchError, partial(magic.ljust, 4096, b"\0")
    yield "that is DMG", FormatMismatchError, lambda: bytes(4096) + (b"koly\0\0\0\x04\0\0\2\0").ljust(512, b"\0")
