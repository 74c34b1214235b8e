"""VHD (Microsoft, Virtual Hard Disk Image Format Specification 1.0): fixed disks by their footer, and dynamic disks."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Generator
from dataclasses import dataclass
from itertools import pairwise
from uuid import UUID

from tintype.domain.errors import (
    DecompressionBombError,
    DifferencingDiskError,
    MalformedImageError,
    TruncatedError,
    UnsupportedImageError,
)
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect.inspection import Findings
from tintype.inspect.registry import FactSpec, Format, Rule
from tintype.inspect.stream import Parsing, Stream, Wish
from tintype.inspect.tables.allocation import Allocation, read_claims
from tintype.inspect.tables.rules import DISK_RULES
from tintype.inspect.tables.vhd_geometry import vhd_disk_size

_COOKIE = b"conectix"
_FOOTER = struct.Struct(">8sIIQI4sI4sQQHBBII16sB")
_FOOTER_SIZE = 512
_CHECKSUM_OFFSET = 64
_FIXED, _DYNAMIC, _DIFFERENCING = 2, 3, 4

_SPARSE_COOKIE = b"cxsparse"
_SPARSE = struct.Struct(">8sQQIIII16s")
_SPARSE_SIZE = 1024
_SPARSE_CHECKSUM_OFFSET = 36
_MAX_GEOMETRY = 65535, 16, 255
"""Stands for "too large to be told", which QEMU writes also where only the size counts."""
_HOSTS = {b"Wi2k": "windows", b"Mac ": "macintosh"}
_UNUSED = 0xFFFF_FFFF
_MAX_SIZE = 2040 * 1024**3
"""The largest VHD: 2040 GiB."""


@dataclass(frozen=True, slots=True)
class _Footer:
    data_offset: int
    creator: bytes
    creator_version: int
    creator_host: bytes
    current_size: int
    disk_size: int
    """What the guest sees: not more than what is stored, which is the current size."""
    geometry: tuple[int, int, int]
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
    stream.require_admissible(footer.disk_size)
    facts = yield from _parse_dynamic(footer, stream)
    return Findings(footer.disk_size, facts)


def _parse_fixed(stream: Stream) -> Findings:
    footer = _parse_footer(stream.tail[-_FOOTER_SIZE:])
    if footer.disk_type != _FIXED:
        raise MalformedImageError("the VHD's footer is that of a dynamic disk, but its beginning is missing")
    stream.require_size(footer.current_size + _FOOTER_SIZE, "the fixed VHD")
    return Findings(footer.disk_size, _facts(footer, "fixed"))


def _parse_footer(data: bytes) -> _Footer:
    if not _is_intact(data, _CHECKSUM_OFFSET):
        raise MalformedImageError("the VHD footer's checksum is wrong")
    fields = _FOOTER.unpack_from(data)
    _, _, version, data_offset, _, creator, creator_version, creator_host, _, current_size, *rest = fields
    cylinders, heads, sectors, disk_type, _, uuid, is_saved = rest
    if version >> 16 != 1:
        raise MalformedImageError(f"VHD version {version:#x} is not known")
    if disk_type == _DIFFERENCING:
        raise DifferencingDiskError("the VHD holds the difference to another disk only")
    if current_size % 512 or not 0 < current_size <= _MAX_SIZE:
        raise MalformedImageError(f"the VHD's disk has {current_size} bytes")
    geometry = cylinders, heads, sectors
    disk_size = vhd_disk_size(creator, cylinders << 16 | heads << 8 | sectors, current_size)
    if geometry != _MAX_GEOMETRY and (cylinders - 1) * heads * sectors * 512 >= current_size:
        # Older releases of QEMU go by the geometry of creators that they do not know; some round up by a cylinder.
        raise MalformedImageError("the VHD's geometry is that of a larger disk")
    if is_saved:
        raise UnsupportedImageError("the VHD is of a machine whose state was saved: shut it down, and copy it anew")
    return _Footer(
        data_offset, creator, creator_version, creator_host, current_size, disk_size, geometry, disk_type, uuid
    )


def _parse_dynamic(footer: _Footer, stream: Stream) -> Generator[Wish, bytes, dict[str, PropertyValue]]:
    header = yield from stream.read_exactly(footer.data_offset, _SPARSE_SIZE, "the VHD's dynamic header")
    if not header.startswith(_SPARSE_COOKIE) or not _is_intact(header, _SPARSE_CHECKSUM_OFFSET):
        raise MalformedImageError("the VHD's dynamic header is damaged")
    _, _, table_offset, _, entries, block_size, _, _ = _SPARSE.unpack_from(header)
    if block_size < 512 or block_size & (block_size - 1) or block_size > 1 << 28:
        raise MalformedImageError(f"the VHD's block size is {block_size} bytes")
    if entries * block_size < footer.current_size or entries * 4 > 1 << 30:
        raise MalformedImageError(f"{entries} VHD blocks do not fit a disk of {footer.current_size} bytes")
    table_end = table_offset + entries * 4
    _check_layout((0, _FOOTER_SIZE), (footer.data_offset, footer.data_offset + _SPARSE_SIZE), (table_offset, table_end))
    allocation = Allocation("VHD blocks")
    yield from read_claims(stream, table_offset, entries * 4, "I", _stored, allocation, block_size, big_endian=True)
    yield from stream.end()
    stream.require_size(table_end, "the VHD block table")
    if allocation.highest >= 0:
        # A block begins with a bitmap of its sectors, padded to a sector.
        bitmap_size = -(-(block_size // 512 // 8) // 512) * 512 or 512
        stream.require_size(allocation.highest * 512 + bitmap_size + block_size, "the VHD's last block")
    allocation.require_backed(stream.size)
    if not _in_tail(stream.tail):
        raise TruncatedError("the VHD's footer is missing: the file is not complete")
    if _parse_footer(stream.tail[-_FOOTER_SIZE:]) != footer:
        raise MalformedImageError("the VHD's footer and its copy contradict each other")
    return _facts(footer, "dynamic") | {"vhd_block_size_bytes": block_size}


def _stored(entries: array[int]) -> list[int]:
    return [sector for sector in entries if sector != _UNUSED]


def _check_layout(*structures: tuple[int, int]) -> None:
    for before, after in pairwise(sorted(structures)):
        if after[0] < before[1]:
            raise MalformedImageError(f"two structures of the VHD overlap at offset {after[0]}")


def _is_intact(structure: bytes, checksum_offset: int) -> bool:
    """One's complement of the sum of all bytes but the checksum's own."""
    stored = structure[checksum_offset : checksum_offset + 4]
    return ~(sum(structure) - sum(stored)) & 0xFFFF_FFFF == int.from_bytes(stored, "big")


def _facts(footer: _Footer, subtype: str) -> dict[str, PropertyValue]:
    creator = footer.creator.decode("ascii", "replace").strip("\0 ")
    host = _HOSTS.get(footer.creator_host)
    major, minor = footer.creator_version >> 16, footer.creator_version & 0xFFFF
    facts: dict[str, PropertyValue] = {"vhd_subtype": subtype, "vhd_uuid": str(UUID(bytes=footer.uuid))}
    if creator:
        facts |= {"vhd_creator": creator, "vhd_creator_version": f"{major}.{minor}"}
    if host:
        facts["vhd_creator_host"] = host
    if all(footer.geometry) and footer.geometry != _MAX_GEOMETRY:
        facts["vhd_geometry"] = "/".join(map(str, footer.geometry))
    return facts


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
        FactSpec("vhd_creator_version", str, "VHD footer, creator version", "version of that program"),
        FactSpec("vhd_creator_host", str, "VHD footer, creator host OS", "where it was made: windows or macintosh"),
        FactSpec("vhd_geometry", str, "VHD footer, disk geometry", "cylinders/heads/sectors"),
    ),
    rules=(
        Rule(DifferencingDiskError, "disks that hold the difference to a parent"),
        Rule(MalformedImageError, "wrong checksums; a footer and a copy that differ; unknown versions and types"),
        Rule(MalformedImageError, "sizes, geometry, block size and block table that do not fit each other"),
        Rule(MalformedImageError, "a header or a block table that lies over another structure"),
        Rule(UnsupportedImageError, "the disk of a machine whose state was saved"),
        Rule(DecompressionBombError, "entries of the block table that share a block"),
        Rule(TruncatedError, "a missing footer; a table or blocks that end beyond the file"),
        *DISK_RULES,
    ),
)
