"""Minimal well-formed disk images, written field by field, so that a test can spoil any one of them.

Each builder takes its header's fields as keywords, under the names of the format's specification.
"""

from __future__ import annotations

import struct
from uuid import UUID

from tintype.inspect.crc32c import crc32c

_KIB, _MIB = 1024, 1024 * 1024


def qcow2(*, extensions: bytes = b"", l1_entry: int = 4 * 4096, l2_entry: int = 5 * 4096, **fields: int) -> bytes:
    """A qcow2 v3 of six 4 KiB clusters: header, refcount table and block, L1, L2, and one of data; disk of 1 MiB."""
    values = {
        "version": 3, "backing_file_offset": 0, "backing_file_size": 0, "cluster_bits": 12, "size": _MIB,
        "crypt_method": 0, "l1_size": 1, "l1_table_offset": 3 * 4096, "refcount_table_offset": 4096,
        "refcount_table_clusters": 1, "nb_snapshots": 0, "snapshots_offset": 0, "incompatible": 0, "compatible": 0,
        "autoclear": 0, "refcount_order": 4, "header_length": 104,
    }  # fmt: skip
    _update(values, fields)
    header = b"QFI\xfb" + struct.pack(">IQIIQIIQQIIQQQQII", *values.values()) + extensions
    clusters = [header, struct.pack(">Q", 2 * 4096), struct.pack(">6H", *[1] * 6), struct.pack(">Q", l1_entry)]
    clusters += [struct.pack(">Q", l2_entry), b"\xda" * 4096]
    return b"".join(cluster.ljust(4096, b"\0") for cluster in clusters)


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


def vmdk(descriptor: bytes | None = None, *, grain_sector: int = 26, **fields: int) -> bytes:
    """A monolithicSparse VMDK of 1 MiB with one stored grain: header, descriptor, directory, table, grain."""
    header = _vmdk_header(fields)
    text = (vmdk_descriptor() if descriptor is None else descriptor).ljust(20 * 512, b"\0")
    directory = struct.pack("<I", 22).ljust(512, b"\0")
    table = struct.pack("<I", grain_sector).ljust(512 * 4, b"\0")
    return header + text + directory + table + b"\xda" * 128 * 512


def stream_vmdk(**fields: int) -> bytes:
    """A streamOptimized VMDK whose grain directory is known to its footer only; it stores no grain."""
    end = 0xFFFF_FFFF_FFFF_FFFF
    defaults = {"version": 3, "flags": 0x30001, "compression": 1}
    text = vmdk_descriptor(create_type="streamOptimized").ljust(20 * 512, b"\0")
    header = _vmdk_header(defaults | {"directory_offset": end})
    directory = bytes(512)
    footer = _vmdk_header(defaults | {"directory_offset": 21} | fields)
    return header + text + directory + struct.pack("<QII", 1, 0, 3).ljust(512, b"\0") + footer + bytes(512)


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


def vdi(*, link_uuid: bytes = bytes(16), parent_uuid: bytes = bytes(16), map_entry: int = 0, **fields: int) -> bytes:
    """A dynamic VDI of 2 MiB that stores one of its two blocks."""
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
    table = struct.pack("<II", map_entry, 0xFFFF_FFFF)
    return header.ljust(512, b"\0") + table.ljust(512, b"\0") + b"\xda" * _MIB


def vhd_footer(*, disk_type: int = 3, data_offset: int = 512, current_size: int = 2 * _MIB) -> bytes:
    """A footer with its checksum."""
    packed = struct.pack(
        ">8sIIQI4sI4sQQIII16sB", b"conectix", 2, 0x10000, data_offset, 0, b"test", 1, b"Wi2k",
        current_size, current_size, 0, disk_type, 0, b"\x33" * 16, 0,
    )  # fmt: skip
    return _with_sum(packed.ljust(512, b"\0"), 64)


def vhd(*, table_entry: int = 4, max_entries: int = 1, block_size: int = 2 * _MIB, **footer_fields: int) -> bytes:
    """A dynamic VHD of 2 MiB with its one block stored."""
    footer = vhd_footer(**footer_fields)
    header = struct.pack(">8sQQIIII16s", b"cxsparse", (1 << 64) - 1, 1536, 0x10000, max_entries, block_size, 0, b"")
    table = struct.pack(">I", table_entry).ljust(512, b"\xff")
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
    struct.pack_into("<Q", image, 2 * _MIB, bat_entry)
    return bytes(image)


def _vhdx_metadata(items: dict[str, bytes]) -> bytes:
    table = struct.pack("<8sHH20s", b"metadata", 0, len(items), b"")
    values = b""
    for name, value in items.items():
        table += struct.pack("<16sIIII", UUID(name).bytes_le, 64 * _KIB + len(values), len(value), 4, 0)
        values += value
    return table.ljust(64 * _KIB, b"\0") + values


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
