"""VHD (Microsoft, Virtual Hard Disk Image Format Specification 1.0): fixed disks by their footer, and dynamic disks."""

from __future__ import annotations

from array import array
from collections.abc import Generator
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
from tintype.inspect.tables.vhd_header import (
    COOKIE,
    DYNAMIC,
    DYNAMIC_HEADER_SIZE,
    FIXED,
    FOOTER_SIZE,
    MAX_GEOMETRY,
    UNUSED,
    VhdFooter,
    is_footer,
    parse_dynamic_header,
    parse_footer,
)

_HOSTS = {b"Wi2k": "windows", b"Mac ": "macintosh"}


def _in_head(head: bytes) -> bool:
    return head.startswith(COOKIE)


def _in_tail(tail: bytes) -> bool:
    return is_footer(tail[-FOOTER_SIZE:])


def _parse(stream: Stream) -> Parsing:
    if not _in_head(stream.head):
        yield from stream.end()
        return _parse_fixed(stream)
    footer = parse_footer(stream.head_exactly(0, FOOTER_SIZE, "the VHD footer's copy"))
    if footer.disk_type != DYNAMIC:
        raise MalformedImageError(f"a VHD of type {footer.disk_type} does not begin with a footer")
    stream.require_admissible(footer.disk_size)
    facts = yield from _parse_dynamic(footer, stream)
    return Findings(footer.disk_size, facts)


def _parse_fixed(stream: Stream) -> Findings:
    footer = parse_footer(stream.tail[-FOOTER_SIZE:])
    if footer.disk_type != FIXED:
        raise MalformedImageError("the VHD's footer is that of a dynamic disk, but its beginning is missing")
    stream.require_size(footer.current_size + FOOTER_SIZE, "the fixed VHD")
    return Findings(footer.disk_size, _facts(footer, "fixed"))


def _parse_dynamic(footer: VhdFooter, stream: Stream) -> Generator[Wish, bytes, dict[str, PropertyValue]]:
    data = yield from stream.read_exactly(footer.data_offset, DYNAMIC_HEADER_SIZE, "the VHD's dynamic header")
    header = parse_dynamic_header(data, footer)
    table_offset, table_size, block_size = header.table_offset, header.entries * 4, header.block_size
    table_end = table_offset + table_size
    _check_layout(
        (0, FOOTER_SIZE), (footer.data_offset, footer.data_offset + DYNAMIC_HEADER_SIZE), (table_offset, table_end)
    )
    allocation = Allocation("VHD blocks")
    yield from read_claims(stream, table_offset, table_size, "I", _stored, allocation, block_size, big_endian=True)
    yield from stream.end()
    stream.require_size(table_end, "the VHD block table")
    if allocation.highest >= 0:
        stream.require_size(allocation.highest * 512 + header.bitmap_size + block_size, "the VHD's last block")
    allocation.require_backed(stream.size)
    if not _in_tail(stream.tail):
        raise TruncatedError("the VHD's footer is missing: the file is not complete")
    if parse_footer(stream.tail[-FOOTER_SIZE:]) != footer:
        raise MalformedImageError("the VHD's footer and its copy contradict each other")
    return _facts(footer, "dynamic") | {"vhd_block_size_bytes": block_size}


def _stored(entries: array[int]) -> list[int]:
    return [sector for sector in entries if sector != UNUSED]


def _check_layout(*structures: tuple[int, int]) -> None:
    for before, after in pairwise(sorted(structures)):
        if after[0] < before[1]:
            raise MalformedImageError(f"two structures of the VHD overlap at offset {after[0]}")


def _facts(footer: VhdFooter, subtype: str) -> dict[str, PropertyValue]:
    creator = footer.creator.decode("ascii", "replace").strip("\0 ")
    host = _HOSTS.get(footer.creator_host)
    major, minor = footer.creator_version >> 16, footer.creator_version & 0xFFFF
    facts: dict[str, PropertyValue] = {"vhd_subtype": subtype, "vhd_uuid": str(UUID(bytes=footer.uuid))}
    if creator:
        facts |= {"vhd_creator": creator, "vhd_creator_version": f"{major}.{minor}"}
    if host:
        facts["vhd_creator_host"] = host
    if all(footer.geometry) and footer.geometry != MAX_GEOMETRY:
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
