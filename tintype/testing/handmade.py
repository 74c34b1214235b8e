"""Minimal well-formed disk images, written field by field, so that a test can spoil any one of them.

Each builder takes its header's fields as keywords, under the names of the format's specification.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from uuid import UUID

from tintype.inspect.tables.crc32c import crc32c

_KIB, _MIB = 1024, 1024 * 1024


def qcow2(
    *,
    extensions: bytes = b"",
    l1_entry: int = 4 * 4096,
    l2_entry: int = 5 * 4096,
    l1: Sequence[int] = (),
    l2: Sequence[int] = (),
    more: bytes = b"",
    **fields: int,
) -> bytes:
    """A qcow2 v3 of six clusters: header, refcount table and block, L1, L2, and one of data; a disk of 1 MiB.

    Clusters have 4 KiB, and 64 KiB if ``cluster_bits`` says so; all offsets are to be given to match. ``l1`` and ``l2``
    are entries in place of the one, ``more`` is what follows.
    """
    cluster = 1 << 16 if fields.get("cluster_bits") == 16 else 4096
    values = {
        "version": 3, "backing_file_offset": 0, "backing_file_size": 0, "cluster_bits": 12, "size": _MIB,
        "crypt_method": 0, "l1_size": 1, "l1_table_offset": 3 * cluster, "refcount_table_offset": cluster,
        "refcount_table_clusters": 1, "nb_snapshots": 0, "snapshots_offset": 0, "incompatible": 0, "compatible": 0,
        "autoclear": 0, "refcount_order": 4, "header_length": 104,
    }  # fmt: skip
    _update(values, fields)
    header = b"QFI\xfb" + struct.pack(">IQIIQIIQQIIQQQQII", *values.values()) + extensions
    clusters = [header, struct.pack(">Q", 2 * cluster), struct.pack(">6H", *[1] * 6)]
    clusters += [_big_endian(l1 or (l1_entry,)), _big_endian(l2 or (l2_entry,)), b"\xda" * cluster]
    return b"".join(part.ljust(cluster, b"\0") for part in clusters) + more


def _big_endian(entries: Sequence[int]) -> bytes:
    return struct.pack(f">{len(entries)}Q", *entries)


def qcow2_extension(kind: int, data: bytes) -> bytes:
    """One header extension, padded as specified."""
    return struct.pack(">II", kind, len(data)) + data.ljust(-(-len(data) // 8) * 8, b"\0")


def vmdk_descriptor(
    *, create_type: str = "monolithicSparse", extents: str = 'RW 2048 SPARSE "disk.vmdk"', more: str = ""
) -> bytes:
    """The text of a descriptor."""
    return (
        f'# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="{create_type}"\n{more}\n'
        f'# Extent description\n{extents}\n# The Disk Data Base\nddb.adapterType = "lsilogic"\n'
    ).encode()


def vmdk(
    descriptor: bytes | None = None,
    *,
    grain_sector: int = 26,
    directory: tuple[int, ...] = (22,),
    grains: tuple[int, ...] = (),
    **fields: int,
) -> bytes:
    """A monolithicSparse VMDK of 1 MiB with one stored grain: header, descriptor, directory, table, grain."""
    header = _vmdk_header(fields)
    text = (vmdk_descriptor() if descriptor is None else descriptor).ljust(20 * 512, b"\0")
    entries = grains or (grain_sector,)
    table = struct.pack(f"<{len(entries)}I", *entries).ljust(512 * 4, b"\0")
    return header + text + struct.pack(f"<{len(directory)}I", *directory).ljust(512, b"\0") + table + b"\xda" * 65536


def stream_vmdk(
    *,
    grains: tuple[int, ...] = (21,),
    directory: tuple[int, ...] = (23,),
    marker: tuple[int, int, int] = (4, 0, 1),
    overhead: int = 21,
    **fields: int,
) -> bytes:
    """A streamOptimized VMDK whose grain directory is known to its footer only.

    Behind 21 sectors of header and descriptor: one grain, the marker and the four sectors of its table, the marker and
    the sector of the directory (at 28), and the footer, which takes ``fields``.
    """
    end = 0xFFFF_FFFF_FFFF_FFFF
    defaults = {"version": 3, "flags": 0x30001, "compression": 1, "overhead": overhead}
    text = vmdk_descriptor(create_type="streamOptimized").ljust(20 * 512, b"\0")
    data = zlib.compress(b"\xda" * 65536)
    sectors = [
        _vmdk_header(defaults | {"directory_offset": end}) + text,
        (struct.pack("<QI", 0, len(data)) + data).ljust(512, b"\0"),
        struct.pack("<QII", *marker).ljust(512, b"\0"),
        struct.pack(f"<{len(grains)}I", *grains).ljust(512 * 4, b"\0"),
        struct.pack("<QII", 1, 0, 2).ljust(512, b"\0"),
        struct.pack(f"<{len(directory)}I", *directory).ljust(512, b"\0"),
        struct.pack("<QII", 1, 0, 3).ljust(512, b"\0"),
        _vmdk_header(defaults | {"directory_offset": 28} | fields),
        bytes(512),
    ]
    return b"".join(sectors)


def _vmdk_header(fields: dict[str, int]) -> bytes:
    values = {
        "version": 1, "flags": 3, "capacity": 2048, "grain_size": 128, "descriptor_offset": 1, "descriptor_size": 20,
        "entries_per_table": 512, "redundant_directory_offset": 0, "directory_offset": 21, "overhead": 128,
        "is_unclean": 0, "compression": 0,
    }  # fmt: skip
    _update(values, fields)
    *most, is_unclean, compression = values.values()
    packed = struct.pack("<4sIIQQQQIQQQB4sH", b"KDMV", *most, is_unclean, b"\n \r\n", compression)
    return packed.ljust(512, b"\0")


def vdi(
    *,
    link_uuid: bytes = bytes(16),
    parent_uuid: bytes = bytes(16),
    map_entry: int = 0,
    entries: Sequence[int] = (),
    map_size: int = 512,
    **fields: int,
) -> bytes:
    """A dynamic VDI of 2 MiB that stores one of its two blocks; ``entries`` are its block map's in place of the one."""
    values = {
        "version": 0x10001, "header_size": 0x190, "image_type": 1, "map_offset": 512, "data_offset": 1024,
        "sector_size": 512, "disk_size": 2 * _MIB, "block_size": _MIB, "block_extra": 0, "blocks": 2, "allocated": 1,
    }  # fmt: skip
    _update(values, fields)
    version, header_size, image_type, map_offset, data_offset, sector_size, *rest = values.values()
    disk_size, block_size, block_extra, blocks, allocated = rest
    header = struct.pack("<64sIIIII256s", b"<<< disk >>>", 0xBEDA107F, version, header_size, image_type, 0, b"")
    header += struct.pack("<IIIIIIIQ", map_offset, data_offset, 0, 0, 0, sector_size, 0, disk_size)
    header += struct.pack("<IIII", block_size, block_extra, blocks, allocated)
    header += b"\x11" * 16 + b"\x22" * 16 + link_uuid + parent_uuid
    stored = entries or (map_entry,)
    table = struct.pack(f"<{len(stored)}I", *stored)
    return header.ljust(512, b"\0") + table.ljust(map_size, b"\xff") + b"\xda" * _MIB


def vhd_footer(
    *, disk_type: int = 3, data_offset: int = 512, current_size: int = 2 * _MIB, version: int = 0x10000,
    cylinders: int = 0, heads: int = 4, sectors: int = 17, saved_state: int = 0,
) -> bytes:  # fmt: skip
    """A footer with its checksum."""
    packed = struct.pack(
        ">8sIIQI4sI4sQQHBBII16sB", b"conectix", 2, version, data_offset, 0, b"test", 1, b"Wi2k",
        current_size, current_size, cylinders, heads, sectors, disk_type, 0, b"\x33" * 16, saved_state,
    )  # fmt: skip
    return _with_sum(packed.ljust(512, b"\0"), 64)


def vhd(
    *,
    table_entry: int = 4,
    entries: Sequence[int] = (),
    max_entries: int = 1,
    block_size: int = 2 * _MIB,
    table_offset: int = 1536,
    table_size: int = 512,
    **footer_fields: int,
) -> bytes:
    """A dynamic VHD of 2 MiB with its one block stored; ``entries`` are its block table's in place of the one."""
    footer = vhd_footer(**footer_fields)
    fields = (1 << 64) - 1, table_offset, 0x10000, max_entries, block_size
    header = struct.pack(">8sQQIIII16s", b"cxsparse", *fields, 0, b"")
    stored = entries or (table_entry,)
    table = struct.pack(f">{len(stored)}I", *stored).ljust(table_size, b"\xff")
    block = b"\xff" * 512 + b"\xda" * (2 * _MIB)
    return footer + _with_sum(header.ljust(1024, b"\0"), 36) + table + block + footer


def fixed_vhd(size_bytes: int = _MIB, **footer_fields: int) -> bytes:
    """A fixed VHD: the disk, and a footer."""
    fields = {"disk_type": 2, "data_offset": (1 << 64) - 1, "current_size": size_bytes} | footer_fields
    return b"\xda" * size_bytes + vhd_footer(**fields)


def vhdx(
    *,
    log_guid: bytes = bytes(16),
    flags: int = 0,
    disk_size: int = 4 * _MIB,
    block_size: int = _MIB,
    bat_entry: int = 3 << 20 | 6,
    entries: Sequence[int] = (),
    items: dict[str, bytes] | None = None,
    regions: dict[str, tuple[int, int]] | None = None,
) -> bytes:
    """A dynamic VHDX of 4 MiB: headers, metadata at 1 MiB, block table at 2 MiB, its one stored block at 3 MiB."""
    image = bytearray(4 * _MIB)
    image[:8] = b"vhdxfile"
    header = struct.pack("<4sIQ16s16s16sHHIQ", b"head", 0, 7, b"\1" * 16, b"\2" * 16, log_guid, 0, 1, 0, 0)
    for offset in (64 * _KIB, 128 * _KIB):
        image[offset : offset + 4 * _KIB] = _with_crc(header.ljust(4 * _KIB, b"\0"))
    places = regions or {
        "8b7ca206-4790-4b9a-b8fe-575f050f886e": (_MIB, _MIB),
        "2dc27766-f623-4200-9d64-115e9bfd4a08": (2 * _MIB, _MIB),
    }
    table = struct.pack("<4sIII", b"regi", 0, len(places), 0)
    for name, (offset, length) in places.items():
        table += struct.pack("<16sQII", UUID(name).bytes_le, offset, length, 1)
    for offset in (192 * _KIB, 256 * _KIB):
        image[offset : offset + 64 * _KIB] = _with_crc(table.ljust(64 * _KIB, b"\0"))
    metadata = _vhdx_metadata(
        {
            "caa16737-fa36-4d43-b3b6-33f0aa44e76b": struct.pack("<II", block_size, flags),
            "2fa54224-cd1b-4876-b211-5dbed83bf4b8": struct.pack("<Q", disk_size),
            "8141bf1d-a96f-4709-ba47-f233a8faab5f": struct.pack("<I", 512),
            "cda348c7-445d-4471-9cc9-e9885251c556": struct.pack("<I", 4096),
        }
        | (items or {})
    )
    image[_MIB : _MIB + len(metadata)] = metadata
    stored = entries or (bat_entry,)
    struct.pack_into(f"<{len(stored)}Q", image, 2 * _MIB, *stored)
    return bytes(image)


def _vhdx_metadata(items: dict[str, bytes]) -> bytes:
    table = struct.pack("<8sHH20s", b"metadata", 0, len(items), b"")
    values = b""
    for name, value in items.items():
        table += struct.pack("<16sIIII", UUID(name).bytes_le, 64 * _KIB + len(values), len(value), 4, 0)
        values += value
    return table.ljust(64 * _KIB, b"\0") + values


def ploop(
    *, magic: bytes = b"WithouFreSpacExt", entries: Sequence[int] = (1, 0), cluster: bytes = b"\xda" * _KIB,
    data_at: int = _KIB, **fields: int,
) -> bytes:  # fmt: skip
    """A ploop of the second generation: a disk of two clusters of 1 KiB, of which the first is stored."""
    values = {
        "version": 2, "heads": 16, "cylinders": 1, "tracks": 2, "bat_entries": 2, "sectors": 4, "in_use": 0x312E3276,
        "data_offset": 2, "flags": 0, "extension_offset": 0,
    }  # fmt: skip
    _update(values, fields)
    header = struct.pack("<16sIIIIIQIIIQ", magic, *values.values())
    return (header + struct.pack(f"<{len(entries)}I", *entries)).ljust(data_at, b"\0") + cluster


def _with_sum(structure: bytes, offset: int) -> bytes:
    """Put in VHD's checksum: the complement of the sum of all bytes."""
    return structure[:offset] + struct.pack(">I", ~sum(structure) & 0xFFFF_FFFF) + structure[offset + 4 :]


def _with_crc(structure: bytes) -> bytes:
    """Put in VHDX's checksum, at its place behind the signature."""
    return structure[:4] + struct.pack("<I", crc32c(structure)) + structure[8:]


def _update(values: dict[str, int], fields: dict[str, int]) -> None:
    unknown = fields.keys() - values.keys()
    assert not unknown, f"no such fields: {unknown}"
    values.update(fields)
