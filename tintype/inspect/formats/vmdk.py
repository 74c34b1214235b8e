"""VMDK as one file (VMware, Virtual Disk Format 5.0): monolithicSparse and streamOptimized, by their binary header.

The text descriptor inside is the matter of :mod:`tintype.inspect.vmdk_descriptor`.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from dataclasses import dataclass

from tintype.domain.errors import MalformedImageError, TruncatedError, UnsafeExtentError
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect.inspection import Findings
from tintype.inspect.registry import FactSpec, Format
from tintype.inspect.stream import MAX_REGION_SIZE, MAX_TABLES, Parsing, Stream, Wish, integers
from tintype.inspect.vmdk_descriptor import (
    MAX_DESCRIPTOR_SIZE,
    QEMU_DESCRIPTOR_OFFSET,
    QEMU_DESCRIPTOR_SIZE,
    Descriptor,
    check_no_parent_hint,
    check_self_contained,
    is_descriptor,
    parse_descriptor,
)

_MAGIC = b"KDMV"
_ESX_MAGIC = b"COWD"
_HEADER = struct.Struct("<4sIIQQQQIQQQ?4sH")
_GRAIN_MARKER = struct.Struct("<QI")
_SECTOR = 512
_GD_AT_END = 0xFFFF_FFFF_FFFF_FFFF
_FOOTER_MARKER = 3
_CHECK_BYTES = b"\n \r\n"
_MAX_GRAIN_TABLES = 1 << 22
"""A directory of more grain tables than this is no disk's; QEMU allocates by it."""


@dataclass(frozen=True, slots=True)
class _Header:
    """The sparse extent header; all sizes and offsets in sectors."""

    version: int
    flags: int
    capacity: int
    grain_size: int
    descriptor_offset: int
    descriptor_size: int
    entries_per_table: int
    redundant_directory_offset: int
    directory_offset: int
    overhead: int
    is_unclean: bool
    check_bytes: bytes
    compression: int

    @property
    def grain_tables(self) -> int:
        return -(-self.capacity // (self.grain_size * self.entries_per_table))


def _in_head(head: bytes) -> bool:
    return head.startswith((_MAGIC, _ESX_MAGIC)) or is_descriptor(head)


def _parse(stream: Stream) -> Parsing:
    if stream.head.startswith(_ESX_MAGIC):
        raise UnsafeExtentError("an ESX copy-on-write extent is a part of a disk, not a disk")
    if not stream.head.startswith(_MAGIC):
        raise UnsafeExtentError("a VMDK descriptor alone holds no disk: it names other files")
    header = _parse_header(stream.head_exactly(0, _HEADER.size, "the VMDK header"))
    _check_header(header)
    stream.require_admissible(header.capacity * _SECTOR)
    # Other programs do not look where the header says, nor do they stop where it says: both places must be clean.
    check_no_parent_hint(stream.head[QEMU_DESCRIPTOR_OFFSET:][:QEMU_DESCRIPTOR_SIZE])
    descriptor = yield from _read_descriptor(header, stream)
    check_self_contained(descriptor)
    if descriptor.extents[0].sectors != header.capacity:
        raise MalformedImageError("the VMDK's header and its descriptor give different sizes")
    if header.directory_offset == _GD_AT_END:
        yield from stream.end()
        _check_footer(header, stream)
    else:
        reach = yield from _reach(header, stream)
        yield from stream.end()
        stream.require_size(reach, "the data that the VMDK grain tables name")
    return Findings(header.capacity * _SECTOR, _facts(header, descriptor))


def _parse_header(data: bytes) -> _Header:
    return _Header(*_HEADER.unpack(data)[1:])


def _check_header(header: _Header) -> None:
    if header.version not in (1, 2, 3):
        raise MalformedImageError(f"VMDK version {header.version} is not known")
    if header.check_bytes != _CHECK_BYTES:
        raise MalformedImageError("the VMDK was damaged by a transfer in text mode")
    if header.capacity == 0:
        # QEMU then takes the embedded descriptor for one that names other files (block/vmdk.c, vmdk_open_vmdk4).
        raise UnsafeExtentError("the VMDK header gives no capacity, so that only its descriptor would count")
    if header.grain_size < 1 or header.grain_size > 0x20_0000 or header.grain_size & (header.grain_size - 1):
        raise MalformedImageError(f"the VMDK grain size is {header.grain_size} sectors")
    if not 1 <= header.entries_per_table <= 512:
        raise MalformedImageError(f"a VMDK grain table has {header.entries_per_table} entries")
    if header.grain_tables > _MAX_GRAIN_TABLES or header.capacity >= 1 << 54:
        raise MalformedImageError(f"the VMDK has {header.capacity} sectors")
    if header.compression not in (0, 1):
        raise MalformedImageError(f"the VMDK compression algorithm {header.compression} is not known")
    if header.descriptor_offset == 0 or header.descriptor_size == 0:
        raise UnsafeExtentError("the VMDK has no descriptor: it is a part of a disk in several files")


def _read_descriptor(header: _Header, stream: Stream) -> Generator[Wish, bytes, Descriptor]:
    size = header.descriptor_size * _SECTOR
    if size > MAX_DESCRIPTOR_SIZE:
        raise MalformedImageError(f"the VMDK descriptor has {size} bytes")
    data = yield from stream.read_exactly(header.descriptor_offset * _SECTOR, size, "the VMDK descriptor")
    check_no_parent_hint(data)
    return parse_descriptor(data)


def _reach(header: _Header, stream: Stream) -> Generator[Wish, bytes, int]:
    """How many bytes the file has at least, by the grain directory and those grain tables that can be read."""
    begin, size = header.directory_offset * _SECTOR, header.grain_tables * 4
    reach = begin + size
    directory = yield from stream.read(begin, min(size, MAX_REGION_SIZE))
    tables = sorted(set(integers(directory or b"", "I", big_endian=False)) - {0})
    table_size = header.entries_per_table * 4
    if tables:
        reach = max(reach, tables[-1] * _SECTOR + table_size)
    last_grain = 0
    for sector in tables[:MAX_TABLES]:
        grains = yield from stream.read(sector * _SECTOR, table_size)
        last_grain = max(last_grain, *integers(grains or b"", "I", big_endian=False), 0)
    if last_grain <= 1:  # 0 and 1 mean "not stored" and "zeroes"
        return reach
    return max(reach, (yield from _end_of_grain(header, stream, last_grain * _SECTOR)))


def _end_of_grain(header: _Header, stream: Stream, offset: int) -> Generator[Wish, bytes, int]:
    """How far a stored grain reaches: a compressed one tells its size, a plain one may be short at the file's end."""
    if header.compression:
        marker = yield from stream.read(offset, _GRAIN_MARKER.size)
        if marker is not None and len(marker) == _GRAIN_MARKER.size:
            return offset + _GRAIN_MARKER.size + int(_GRAIN_MARKER.unpack(marker)[1])
    return offset + 1


def _check_footer(header: _Header, stream: Stream) -> None:
    """A streamOptimized VMDK ends with a marker, a second header that knows the directory, and an end marker."""
    if len(stream.tail) < 3 * _SECTOR:
        raise TruncatedError("the VMDK ends before its footer")
    marker, copy, end = (stream.tail[-n * _SECTOR :][:_SECTOR] for n in (3, 2, 1))
    if struct.unpack_from("<QII", marker) != (1, 0, _FOOTER_MARKER) or not copy.startswith(_MAGIC) or any(end):
        raise TruncatedError("the VMDK's footer is missing: the file is not complete")
    footer = _parse_header(copy[: _HEADER.size])
    for name in ("version", "capacity", "grain_size", "entries_per_table", "descriptor_offset", "descriptor_size"):
        if getattr(footer, name) != getattr(header, name):
            raise MalformedImageError(f"the VMDK's header and footer contradict each other on {name}")
    if footer.directory_offset == _GD_AT_END:
        raise MalformedImageError("the VMDK's footer does not say where the grain directory is")
    stream.require_size(footer.directory_offset * _SECTOR + footer.grain_tables * 4, "the VMDK grain directory")


def _facts(header: _Header, descriptor: Descriptor) -> dict[str, PropertyValue]:
    values = descriptor.values
    wanted = {
        "vmdk_create_type": values.get("createtype"),
        "vmdk_adapter_type": values.get("ddb.adaptertype"),
        "vmdk_hardware_version": values.get("ddb.virtualhwversion"),
        "vmdk_content_id": values.get("cid"),
    }
    facts: dict[str, PropertyValue] = {key: value for key, value in wanted.items() if value}
    return facts | {"vmdk_version": header.version, "vmdk_grain_size_bytes": header.grain_size * _SECTOR}


FORMAT = Format(
    DiskFormat.VMDK,
    _parse,
    in_head=_in_head,
    facts=(
        FactSpec("vmdk_create_type", str, "VMDK descriptor, createType", "monolithicSparse or streamOptimized"),
        FactSpec("vmdk_adapter_type", str, "VMDK descriptor, ddb.adapterType", "disk controller that it was made for"),
        FactSpec("vmdk_hardware_version", str, "VMDK descriptor, ddb.virtualHWVersion", "virtual hardware version"),
        FactSpec("vmdk_content_id", str, "VMDK descriptor, CID", "changes whenever the disk was written to"),
        FactSpec("vmdk_version", int, "VMDK header, bytes 4-7", "version of the extent's header: 1 to 3"),
        FactSpec("vmdk_grain_size_bytes", int, "VMDK header, bytes 20-27", "unit of allocation"),
    ),
)
