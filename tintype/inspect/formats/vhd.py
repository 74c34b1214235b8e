"""VHD (Microsoft, Virtual Hard Disk Image Format Specification 1.0): fixed disks by their footer, and dynamic disks."""

from __future__ import annotations

import struct
from collections.abc import Generator
from dataclasses import dataclass
from uuid import UUID

from tintype.domain.errors import DifferencingDiskError, MalformedImageError, TruncatedError
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect.inspection import Findings
from tintype.inspect.registry import FactSpec, Format
from tintype.inspect.stream import MAX_REGION_SIZE, Parsing, Stream, Wish, integers

_COOKIE = b"conectix"
_FOOTER = struct.Struct(">8sIIQI4sI4sQQIII16sB")
_FOOTER_SIZE = 512
_CHECKSUM_OFFSET = 64
_FIXED, _DYNAMIC, _DIFFERENCING = 2, 3, 4

_SPARSE_COOKIE = b"cxsparse"
_SPARSE = struct.Struct(">8sQQIIII16s")
_SPARSE_SIZE = 1024
_SPARSE_CHECKSUM_OFFSET = 36
_UNUSED = 0xFFFF_FFFF
_MAX_SIZE = 2040 * 1024**3
"""The largest VHD: 2040 GiB."""


@dataclass(frozen=True, slots=True)
class _Footer:
    data_offset: int
    creator: bytes
    current_size: int
    disk_type: int
    uuid: bytes


def _in_head(head: bytes) -> bool:
    return head.startswith(_COOKIE)


def _in_tail(tail: bytes) -> bool:
    """A cookie alone may be any disk's last sector; with its checksum it is a footer."""
    footer = tail[-_FOOTER_SIZE:]
    return len(footer) == _FOOTER_SIZE and footer.startswith(_COOKIE) and _is_intact(footer, _CHECKSUM_OFFSET)


def _parse(stream: Stream) -> Parsing:
    if not _in_head(stream.head):
        yield from stream.end()
        return _parse_fixed(stream)
    footer = _parse_footer(stream.head_exactly(0, _FOOTER_SIZE, "the VHD footer's copy"))
    if footer.disk_type != _DYNAMIC:
        raise MalformedImageError(f"a VHD of type {footer.disk_type} does not begin with a footer")
    stream.require_admissible(footer.current_size)
    facts = yield from _parse_dynamic(footer, stream)
    return Findings(footer.current_size, facts)


def _parse_fixed(stream: Stream) -> Findings:
    footer = _parse_footer(stream.tail[-_FOOTER_SIZE:])
    if footer.disk_type != _FIXED:
        raise MalformedImageError("the VHD's footer is that of a dynamic disk, but its beginning is missing")
    stream.require_size(footer.current_size + _FOOTER_SIZE, "the fixed VHD")
    return Findings(footer.current_size, _facts(footer, "fixed"))


def _parse_footer(data: bytes) -> _Footer:
    if not _is_intact(data, _CHECKSUM_OFFSET):
        raise MalformedImageError("the VHD footer's checksum is wrong")
    fields = _FOOTER.unpack_from(data)
    _, _, _, data_offset, _, creator, _, _, _, current_size, _, disk_type, _, uuid, _ = fields
    if disk_type == _DIFFERENCING:
        raise DifferencingDiskError("the VHD holds the difference to another disk only")
    if current_size % 512 or not 0 < current_size <= _MAX_SIZE:
        raise MalformedImageError(f"the VHD's disk has {current_size} bytes")
    return _Footer(data_offset, creator, current_size, disk_type, uuid)


def _parse_dynamic(footer: _Footer, stream: Stream) -> Generator[Wish, bytes, dict[str, PropertyValue]]:
    header = yield from stream.read_exactly(footer.data_offset, _SPARSE_SIZE, "the VHD's dynamic header")
    if not header.startswith(_SPARSE_COOKIE) or not _is_intact(header, _SPARSE_CHECKSUM_OFFSET):
        raise MalformedImageError("the VHD's dynamic header is damaged")
    _, _, table_offset, _, entries, block_size, _, _ = _SPARSE.unpack_from(header)
    if block_size < 512 or block_size & (block_size - 1) or block_size > 1 << 28:
        raise MalformedImageError(f"the VHD's block size is {block_size} bytes")
    if entries * block_size < footer.current_size or entries * 4 > 1 << 30:
        raise MalformedImageError(f"{entries} VHD blocks do not fit a disk of {footer.current_size} bytes")
    reach = yield from _reach(stream, table_offset, entries, block_size)
    yield from stream.end()
    stream.require_size(table_offset + entries * 4, "the VHD block table")
    stream.require_size(reach, "the VHD's last block")
    if not _in_tail(stream.tail):
        raise TruncatedError("the VHD's footer is missing: the file is not complete")
    if _parse_footer(stream.tail[-_FOOTER_SIZE:]) != footer:
        raise MalformedImageError("the VHD's footer and its copy contradict each other")
    return _facts(footer, "dynamic") | {"vhd_block_size_bytes": block_size}


def _reach(stream: Stream, table_offset: int, entries: int, block_size: int) -> Generator[Wish, bytes, int]:
    """How many bytes the file has at least, by that part of the block table that is read."""
    table = yield from stream.read(table_offset, min(entries * 4, MAX_REGION_SIZE))
    used = [sector for sector in integers(table or b"", "I", big_endian=True) if sector != _UNUSED]
    # A block begins with a bitmap of its sectors, padded to a sector.
    bitmap_size = -(-(block_size // 512 // 8) // 512) * 512 or 512
    return max(used) * 512 + bitmap_size + block_size if used else 0


def _is_intact(structure: bytes, checksum_offset: int) -> bool:
    """One's complement of the sum of all bytes but the checksum's own."""
    stored = structure[checksum_offset : checksum_offset + 4]
    return ~(sum(structure) - sum(stored)) & 0xFFFF_FFFF == int.from_bytes(stored, "big")


def _facts(footer: _Footer, subtype: str) -> dict[str, PropertyValue]:
    creator = footer.creator.decode("ascii", "replace").strip("\0 ")
    facts: dict[str, PropertyValue] = {"vhd_subtype": subtype, "vhd_uuid": str(UUID(bytes=footer.uuid))}
    return facts | ({"vhd_creator": creator} if creator else {})


FORMAT = Format(
    DiskFormat.VHD,
    _parse,
    in_head=_in_head,
    in_tail=_in_tail,
    facts=(
        FactSpec("vhd_subtype", str, "VHD footer, disk type", "fixed or dynamic"),
        FactSpec("vhd_block_size_bytes", int, "VHD dynamic header, block size", "unit of allocation"),
        FactSpec("vhd_uuid", str, "VHD footer, unique id", "identifies the image"),
        FactSpec("vhd_creator", str, "VHD footer, creator application", "program that made it"),
    ),
)
