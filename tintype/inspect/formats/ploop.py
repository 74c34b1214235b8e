"""Ploop, the expandable disk of Parallels and OpenVZ (QEMU, docs/interop/parallels.txt): one base image by itself."""

from __future__ import annotations

from array import array

from tintype.domain.errors import DecompressionBombError, MalformedImageError, TruncatedError, UnsupportedImageError
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect.inspection import Findings
from tintype.inspect.registry import FactSpec, Format, Rule
from tintype.inspect.stream import Parsing, Stream
from tintype.inspect.tables.allocation import Allocation, read_claims
from tintype.inspect.tables.ploop_header import HEADER, MAGICS, PloopHeader, parse_header
from tintype.inspect.tables.rules import DISK_RULES


def _in_head(head: bytes) -> bool:
    return head[:16] in MAGICS


def _parse(stream: Stream) -> Parsing:
    header = parse_header(stream.head_exactly(0, HEADER.size, "the ploop header"))
    stream.require_admissible(header.size)
    allocation = Allocation("ploop clusters")
    lowest = -(-header.data_start // header.entry_unit)

    def stored(entries: array[int]) -> list[int]:
        places = [entry for entry in entries if entry]
        if places and min(places) < lowest:
            raise MalformedImageError("the ploop's block table points to before its data")
        return places

    yield from read_claims(stream, HEADER.size, header.bat_entries * 4, "I", stored, allocation, header.cluster_size)
    yield from stream.end()
    stream.require_size(header.bat_end, "the ploop's block table")
    if allocation.highest >= 0:
        # Programs of the first generation do not write what follows the data in the last cluster.
        length = 1 if header.generation == 1 else header.cluster_size
        stream.require_size(allocation.highest * header.entry_unit + length, "the ploop's last cluster")
    allocation.require_backed(stream.size)
    return Findings(header.size, _facts(header))


def _facts(header: PloopHeader) -> dict[str, PropertyValue]:
    facts: dict[str, PropertyValue] = {
        "ploop_version": header.generation,
        "ploop_block_size_bytes": header.cluster_size,
    }
    if header.cylinders and header.heads:
        facts |= {"ploop_cylinders": header.cylinders, "ploop_heads": header.heads}
    return facts


FORMAT = Format(
    DiskFormat.PLOOP,
    _parse,
    in_head=_in_head,
    facts=(
        FactSpec("ploop_version", int, "ploop header, bytes 0-15", "1 (WithoutFreeSpace) or 2 (WithouFreSpacExt)"),
        FactSpec("ploop_block_size_bytes", int, "ploop header, bytes 28-31", "unit of allocation"),
        FactSpec("ploop_cylinders", int, "ploop header, bytes 24-27", "cylinders that the guest sees"),
        FactSpec("ploop_heads", int, "ploop header, bytes 20-23", "heads that the guest sees"),
    ),
    rules=(
        Rule(MalformedImageError, "unknown versions and states; sizes of disk, cluster and table that do not fit"),
        Rule(MalformedImageError, "a block table that points into itself, or data that lies over it"),
        Rule(UnsupportedImageError, "an image that is in use, or has format extensions"),
        Rule(DecompressionBombError, "entries of the block table that share a cluster"),
        Rule(TruncatedError, "a header, a block table or clusters that end beyond the file"),
        *DISK_RULES,
    ),
)
