"""Images whose headers pass, and whose tables or blocks must not: what readers of disks refuse, by the row.

Most are handmade ones with a few bytes put over them; see :mod:`tintype.testing.handmade` for where things are.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tintype.domain.errors import (
    DifferencingDiskError,
    MalformedImageError,
    RefusedContentError,
    TruncatedError,
    UnsafeExtentError,
    UnsupportedImageError,
)
from tintype.domain.values import DiskFormat
from tintype.testing.handmade import fixed_vhd, vdi, vhd, vhdx, vmdk

_MIB = 1024 * 1024
_MAX_32, _MAX_64 = (1 << 32) - 1, (1 << 64) - 1
_GRAIN = 64 * 1024


@dataclass(frozen=True, slots=True)
class HostileDisk:
    """An image, and how it is refused when it is opened or read from its begin to its end."""

    disk_format: DiskFormat
    error: type[RefusedContentError]
    build: Callable[[], bytes]


_Rows = Iterator[tuple[str, type[RefusedContentError], Callable[[], bytes]]]


def over(image: bytes, *patches: tuple[int, bytes]) -> bytes:
    """The image with other bytes at some offsets."""
    spoilt = bytearray(image)
    for offset, data in patches:
        spoilt[offset : offset + len(data)] = data
    return bytes(spoilt)


def ploop(*, magic: bytes = b"WithouFreSpacExt", entries: tuple[int, ...] = (1, 0, 2), **fields: int) -> bytes:
    """A ploop image of three clusters of 64 KiB, two of which are stored; each is filled with its number."""
    values = {
        "version": 2, "heads": 16, "cylinders": 1, "cluster": 128, "bat_entries": len(entries), "sectors": 384,
        "in_use": 0, "data_offset": 128, "flags": 0, "extension_offset": 0,
    }  # fmt: skip
    assert fields.keys() <= values.keys()
    values |= fields
    table = struct.pack(f"<{len(entries)}I", *entries)
    header = struct.pack("<16sIIIIIQIIIQ", magic, *values.values()) + table
    return header.ljust(_GRAIN, b"\0") + b"\1" * _GRAIN + b"\2" * _GRAIN


def grain(sector: int = 0, content: bytes = b"\xda" * _GRAIN) -> bytes:
    """A compressed grain with its marker."""
    data = zlib.compress(content)
    return struct.pack("<QI", sector, len(data)) + data


def stream_vmdk(first_grain: bytes | None = None, *, header: bytes = b"", footer: bytes = b"") -> bytes:
    """A streamOptimized VMDK of 1 MiB with one grain; ``header`` and ``footer`` replace the sectors of that name."""
    fields = (3, 0x30001, 2048, 128, 1, 20, 512, 0)
    head = struct.pack("<4sIIQQQQIQQQB4sH", b"KDMV", *fields, _MAX_64, 128, 0, b"\n \r\n", 1)
    stored = (grain() if first_grain is None else first_grain).ljust(2 * 512, b"\0")
    assert len(stored) == 2 * 512
    table_sector, directory_sector = 128 + 2, 128 + 6
    foot = struct.pack("<4sIIQQQQIQQQB4sH", b"KDMV", *fields, directory_sector, 128, 0, b"\n \r\n", 1)
    image = (header or head).ljust(128 * 512, b"\0") + stored
    image += struct.pack("<I", 128).ljust(4 * 512, b"\0") + struct.pack("<I", table_sector).ljust(512, b"\0")
    return image + struct.pack("<QII", 1, 0, 3).ljust(512, b"\0") + (footer or foot).ljust(512, b"\0") + bytes(512)


def _vdi() -> _Rows:
    yield "no signature", MalformedImageError, lambda: bytes(4096)
    yield "ends in its header", TruncatedError, lambda: vdi()[:300]
    yield "ends in its map", TruncatedError, lambda: vdi(blocks=1 << 20, disk_size=1 << 40, data_offset=8 << 20)
    yield "ends in a block", TruncatedError, lambda: vdi()[:-1]
    yield "map beyond the file", TruncatedError, lambda: vdi(map_offset=0xFFFF_0000, data_offset=0xFFFF_FE00)
    yield "map over the blocks", MalformedImageError, lambda: vdi(map_offset=1024)
    yield "blocks beyond the file", TruncatedError, lambda: vdi(data_offset=0xFFFF_FE00)
    yield "blocks over the header", MalformedImageError, lambda: vdi(data_offset=0)
    yield "block beyond the last", MalformedImageError, lambda: vdi(map_entry=2)
    yield "block at the integers' limit", MalformedImageError, lambda: vdi(map_entry=0xFFFF_FFFD)
    yield "blocks that share a place", MalformedImageError, _vdi_with_shared_blocks
    yield "disk of all integers", MalformedImageError, lambda: vdi(disk_size=_MAX_64, blocks=_MAX_32)
    yield "parent", DifferencingDiskError, lambda: vdi(parent_uuid=b"\x55" * 16)


def _vdi_with_shared_blocks() -> bytes:
    return over(vdi(blocks=100, disk_size=100 * _MIB), (512, bytes(400)))


def _vhd() -> _Rows:
    yield "no footer", MalformedImageError, lambda: bytes(4096)
    yield "empty", TruncatedError, lambda: b""
    yield "ends in its header", TruncatedError, lambda: vhd()[:1000]
    yield "ends in its table", TruncatedError, lambda: vhd()[:1538]
    yield "ends in a block", TruncatedError, lambda: vhd()[:-513]
    yield "header at the integers' limit", TruncatedError, lambda: vhd(data_offset=_MAX_64)
    yield "header that is none", MalformedImageError, lambda: vhd(data_offset=0)
    yield "table that is longer than the file", TruncatedError, lambda: vhd(max_entries=1 << 28)
    yield "table of all integers", MalformedImageError, lambda: vhd(max_entries=_MAX_32)
    yield "block beyond the file", TruncatedError, lambda: vhd(table_entry=0xFFFF_FFFE)
    yield "block size", MalformedImageError, lambda: vhd(block_size=1 << 31)
    yield "table too short", MalformedImageError, lambda: vhd(max_entries=0)
    yield "data in unused sectors", MalformedImageError, lambda: over(vhd(), (2048 + 100, b"\xf7"))
    yield "fixed: beyond the file", TruncatedError, lambda: fixed_vhd(current_size=2 * _MIB)
    yield "fixed: dynamic", MalformedImageError, lambda: fixed_vhd(disk_type=3)
    yield "fixed: damaged footer", MalformedImageError, lambda: over(fixed_vhd(), (_MIB + 100, b"x"))
    yield "differencing", DifferencingDiskError, lambda: vhd(disk_type=4)


def _vhdx() -> _Rows:
    file_parameters, unknown = "caa16737-fa36-4d43-b3b6-33f0aa44e76b", "11111111-2222-3333-4444-555555555555"
    disk_size = "2fa54224-cd1b-4876-b211-5dbed83bf4b8"
    yield "nothing but a signature", TruncatedError, lambda: b"vhdxfile"
    yield "damaged headers", MalformedImageError, lambda: b"vhdxfile" + bytes(4 * _MIB)
    yield "log to replay", UnsupportedImageError, lambda: vhdx(log_guid=b"\x55" * 16)
    yield "damaged regions", MalformedImageError, lambda: over(vhdx(), (192 * 1024 + 9, b"\xff"))
    yield "ends before the metadata", TruncatedError, lambda: vhdx()[:_MIB]
    yield "ends in the table", TruncatedError, lambda: vhdx()[: 2 * _MIB + 4]
    yield "ends in a block", TruncatedError, lambda: vhdx()[:-1]
    yield "partially present block", MalformedImageError, lambda: vhdx(bat_entry=3 << 20 | 7)
    yield "state that is none", MalformedImageError, lambda: vhdx(bat_entry=3 << 20 | 4)
    yield "block over the header", MalformedImageError, lambda: vhdx(bat_entry=6)
    yield "block at the integers' limit", TruncatedError, lambda: vhdx(bat_entry=_MAX_64 >> 3 << 3 | 6)
    yield "blocks that share a place", MalformedImageError, lambda: _vhdx_with_shared_blocks()
    yield "table too short", MalformedImageError, lambda: vhdx(disk_size=1 << 39)
    yield "item of another size", MalformedImageError, lambda: vhdx(items={disk_size: bytes(9)})
    yield "item beyond the region", MalformedImageError, lambda: over(vhdx(), (_MIB + 32 + 16, b"\xff" * 4))
    yield "unknown item", MalformedImageError, lambda: vhdx(items={unknown: b""})
    yield "parent", DifferencingDiskError, lambda: vhdx(items={file_parameters: struct.pack("<II", _MIB, 2)})


def _vhdx_with_shared_blocks() -> bytes:
    entries = struct.pack("<Q", 3 << 20 | 6) * 64
    return over(vhdx(disk_size=64 * _MIB), (2 * _MIB, entries))


def _ploop() -> _Rows:
    yield "no magic", MalformedImageError, lambda: bytes(4096)
    yield "ends in its header", TruncatedError, lambda: ploop()[:60]
    yield "ends in its table", TruncatedError, lambda: ploop()[:70]
    yield "ends in a block", TruncatedError, lambda: ploop()[:-1]
    yield "table beyond the file", TruncatedError, lambda: ploop(bat_entries=1 << 28, data_offset=1 << 22)
    yield "table of all integers", MalformedImageError, lambda: ploop(bat_entries=_MAX_32)
    yield "table over the data", MalformedImageError, lambda: ploop(bat_entries=1 << 20)
    yield "in use", UnsupportedImageError, lambda: ploop(in_use=0x746F_6E59)
    yield "clusters of nothing", MalformedImageError, lambda: ploop(cluster=0)
    yield "clusters of all integers", MalformedImageError, lambda: ploop(cluster=_MAX_32)
    yield "disk of all integers", MalformedImageError, lambda: ploop(sectors=_MAX_64)
    yield (
        "first generation with a size of the second",
        MalformedImageError,
        lambda: ploop(magic=b"WithoutFreeSpace", entries=(129, 128, 0), sectors=7 << 32 | 383),
    )
    yield "cluster beyond the file", TruncatedError, lambda: ploop(entries=(_MAX_32, 0, 0))
    yield (
        "cluster in the table",
        MalformedImageError,
        lambda: ploop(magic=b"WithoutFreeSpace", entries=(1, 2, 3) * 43, data_offset=0),
    )
    yield "clusters that share a place", MalformedImageError, lambda: ploop(entries=(1,) * 64, sectors=64 * 128)


def _vmdk() -> _Rows:
    yield "descriptor alone", UnsafeExtentError, lambda: b"# Disk DescriptorFile\nversion=1\n".ljust(4096)
    yield "ends in its header", TruncatedError, lambda: vmdk()[:70]
    yield "ends in its directory", TruncatedError, lambda: vmdk()[: 21 * 512 + 2]
    yield "ends in a table", TruncatedError, lambda: vmdk()[: 22 * 512 + 100]
    yield "ends in a grain", TruncatedError, lambda: vmdk()[:-1]
    yield "no directory", MalformedImageError, lambda: vmdk(directory_offset=0)
    yield "directory at the integers' limit", TruncatedError, lambda: vmdk(directory_offset=_MAX_64 - 1)
    yield "table beyond the file", TruncatedError, lambda: over(vmdk(), (21 * 512, b"\xff" * 4))
    yield "grain beyond the file", TruncatedError, lambda: vmdk(grain_sector=_MAX_32)
    yield "grain in the header", MalformedImageError, lambda: vmdk(grain_sector=1)
    yield "grains that share a place", MalformedImageError, _vmdk_with_shared_grains
    yield "grains of nothing", MalformedImageError, lambda: vmdk(grain_size=0)
    yield "grains of all integers", MalformedImageError, lambda: vmdk(grain_size=1 << 63)
    yield "tables of nothing", MalformedImageError, lambda: vmdk(entries_per_table=0)
    yield "tables of all integers", MalformedImageError, lambda: vmdk(entries_per_table=_MAX_32)
    yield "disk of all integers", MalformedImageError, lambda: vmdk(capacity=_MAX_64)
    yield "disk of nothing", UnsafeExtentError, lambda: vmdk(capacity=0)
    yield "no descriptor", UnsafeExtentError, lambda: vmdk(descriptor_size=0)
    yield "unknown compression", MalformedImageError, lambda: vmdk(compression=2)
    yield "compression without markers", UnsupportedImageError, lambda: vmdk(compression=1)
    yield (
        "large compressed grains",
        UnsupportedImageError,
        lambda: vmdk(compression=1, flags=0x30001, grain_size=1 << 20),
    )


def _vmdk_with_shared_grains() -> bytes:
    return over(vmdk(), (22 * 512, struct.pack("<I", 26) * 16))


def _stream_vmdk() -> _Rows:
    sound = stream_vmdk()
    yield "no footer", TruncatedError, lambda: sound[:-1536]
    yield "ends in its footer", TruncatedError, lambda: sound[:-1]
    yield "nothing but a header", TruncatedError, lambda: sound[:1024]
    yield "footer without a directory", MalformedImageError, lambda: stream_vmdk(footer=sound[:512])
    yield "footer of another disk", MalformedImageError, lambda: over(sound, (len(sound) - 1024 + 12, b"\1"))
    yield "grain too large", MalformedImageError, lambda: stream_vmdk(grain(content=bytes(_GRAIN + 1)))
    yield "grain bomb", MalformedImageError, lambda: stream_vmdk(grain(content=bytes(900 * 1024)))
    yield "grain too small", MalformedImageError, lambda: stream_vmdk(grain(content=bytes(_GRAIN - 1)))
    yield "grain of nothing", MalformedImageError, lambda: stream_vmdk(struct.pack("<QI", 0, 0))
    yield "grain of all integers", MalformedImageError, lambda: stream_vmdk(struct.pack("<QI", 0, _MAX_32))
    yield "grain beyond the file", TruncatedError, lambda: stream_vmdk(struct.pack("<QI", 0, 2 * _GRAIN))
    yield "grain of another sector", MalformedImageError, lambda: stream_vmdk(grain(128))
    yield "grain at the integers' limit", MalformedImageError, lambda: stream_vmdk(grain(_MAX_64))
    yield "garbage for a grain", MalformedImageError, lambda: stream_vmdk(struct.pack("<QI", 0, 9) + b"\xff" * 9)
    yield "grain without an end", MalformedImageError, lambda: stream_vmdk(struct.pack("<QI", 0, 40) + grain()[12:52])
    yield "grain with a wrong checksum", MalformedImageError, lambda: stream_vmdk(grain()[:-1] + b"\0")
    yield (
        "table that is the directory",
        MalformedImageError,
        lambda: over(sound, ((128 + 6) * 512, struct.pack("<I", 128 + 6))),
    )


def _every_disk() -> Iterator[tuple[str, HostileDisk]]:
    families: tuple[tuple[str, DiskFormat, _Rows], ...] = (
        ("vdi", DiskFormat.VDI, _vdi()),
        ("vhd", DiskFormat.VHD, _vhd()),
        ("vhdx", DiskFormat.VHDX, _vhdx()),
        ("ploop", DiskFormat.PLOOP, _ploop()),
        ("vmdk", DiskFormat.VMDK, _vmdk()),
        ("stream vmdk", DiskFormat.VMDK, _stream_vmdk()),
    )
    for family, disk_format, rows in families:
        for name, error, build in rows:
            yield f"{family}: {name}", HostileDisk(disk_format, error, build)


def hostile_disks() -> Mapping[str, HostileDisk]:
    """All of them, by name."""
    return dict(_every_disk())
