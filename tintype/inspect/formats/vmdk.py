"""VMDK as one file (VMware, Virtual Disk Format 5.0): monolithicSparse and streamOptimized, by their binary header.

The text inside is the matter of :mod:`tintype.inspect.tables.vmdk_descriptor`, the header of
:mod:`tintype.inspect.tables.vmdk_header`, the tables of :mod:`tintype.inspect.tables.vmdk` where they come before the
grains, and of :mod:`tintype.inspect.tables.vmdk_stream` where they come behind them.
"""

from __future__ import annotations

from collections.abc import Generator

from tintype.domain.errors import (
    DecompressionBombError,
    DifferencingDiskError,
    MalformedImageError,
    TruncatedError,
    UnsafeExtentError,
)
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect.inspection import Findings
from tintype.inspect.registry import FactSpec, Format, Rule
from tintype.inspect.stream import Parsing, Stream, Wish
from tintype.inspect.tables.allocation import Allocation
from tintype.inspect.tables.rules import DISK_RULES
from tintype.inspect.tables.vmdk import read_tables
from tintype.inspect.tables.vmdk_descriptor import (
    MAX_DESCRIPTOR_SIZE,
    QEMU_DESCRIPTOR_OFFSET,
    QEMU_DESCRIPTOR_SIZE,
    Descriptor,
    check_no_parent_hint,
    check_self_contained,
    is_descriptor,
    parse_descriptor,
)
from tintype.inspect.tables.vmdk_header import (
    GD_AT_END,
    HEADER,
    MAGIC,
    SECTOR_SIZE,
    VmdkHeader,
    parse_footer,
    parse_header,
)
from tintype.inspect.tables.vmdk_stream import MarkerWalk

_ESX_MAGIC = b"COWD"

_VMWARE_DISK_TYPES = {"streamOptimized": "streamOptimized", "monolithicSparse": "sparse"}
_VMWARE_ADAPTER_TYPES = {
    "ide": "ide",
    "lsilogic": "lsiLogic",
    "buslogic": "busLogic",
    "lsisas1068": "lsiLogicsas",
    "lsilogicsas": "lsiLogicsas",
    "pvscsi": "paraVirtual",
    "paravirtual": "paraVirtual",
}
"""Names of the descriptor, in lower case, as Nova's driver for VMware has them (nova/virt/vmwareapi/constants.py)."""


def _in_head(head: bytes) -> bool:
    return head.startswith((MAGIC, _ESX_MAGIC)) or is_descriptor(head)


def _parse(stream: Stream) -> Parsing:
    if stream.head.startswith(_ESX_MAGIC):
        raise UnsafeExtentError("an ESX copy-on-write extent is a part of a disk, not a disk")
    if not stream.head.startswith(MAGIC):
        raise UnsafeExtentError("a VMDK descriptor alone holds no disk: its extents are in other files")
    header = parse_header(stream.head_exactly(0, HEADER.size, "the VMDK header"))
    stream.require_admissible(header.capacity * SECTOR_SIZE)
    # Other programs do not look where the header says, nor do they stop where it says: both places must be clean.
    check_no_parent_hint(stream.head[QEMU_DESCRIPTOR_OFFSET:][:QEMU_DESCRIPTOR_SIZE])
    descriptor = yield from _read_descriptor(header, stream)
    check_self_contained(descriptor)
    if descriptor.extents[0].sectors != header.capacity:
        raise MalformedImageError("the VMDK's header and its descriptor give different sizes")
    yield from _follow_tables(header, stream)
    return Findings(header.capacity * SECTOR_SIZE, _facts(header, descriptor))


def _read_descriptor(header: VmdkHeader, stream: Stream) -> Generator[Wish, bytes, Descriptor]:
    size = header.descriptor_size * SECTOR_SIZE
    if size > MAX_DESCRIPTOR_SIZE:
        raise MalformedImageError(f"the VMDK descriptor has {size} bytes")
    data = yield from stream.read_exactly(header.descriptor_offset * SECTOR_SIZE, size, "the VMDK descriptor")
    check_no_parent_hint(data)
    return parse_descriptor(data)


def _follow_tables(header: VmdkHeader, stream: Stream) -> Generator[Wish, bytes, None]:
    if header.directory_offset == GD_AT_END:
        walk = MarkerWalk(header)
        yield from walk.run(stream)
        yield from stream.end()
        footer = parse_footer(stream.tail, header)
        stream.require_size(footer.directory_offset * SECTOR_SIZE + footer.directory_bytes, "the VMDK grain directory")
        walk.check_directory(footer)
        return
    allocation = Allocation("VMDK grains")
    reach = yield from read_tables(header, stream, allocation)
    yield from stream.end()
    stream.require_size(reach, "the data that the VMDK grain tables name")
    # No host opens it otherwise (block/vmdk.c: vmdk_open_vmdk4).
    stream.require_size(header.overhead * SECTOR_SIZE, "what lies before the VMDK's grains")
    allocation.require_backed(stream.size)


def _facts(header: VmdkHeader, descriptor: Descriptor) -> dict[str, PropertyValue]:
    values = descriptor.values
    create_type = values.get("createtype", "")
    texts = {
        "vmdk_create_type": create_type,
        "vmdk_adapter_type": values.get("ddb.adaptertype"),
        "vmdk_hardware_version": values.get("ddb.virtualhwversion"),
        "vmdk_tools_version": values.get("ddb.toolsversion"),
        "vmdk_content_id": values.get("cid"),
        "vmdk_uuid": values.get("ddb.uuid"),
        "vmdk_geometry": _geometry(values),
        "vmware_disktype": _VMWARE_DISK_TYPES.get(create_type),
        "vmware_adaptertype": _VMWARE_ADAPTER_TYPES.get(values.get("ddb.adaptertype", "").lower()),
    }
    facts: dict[str, PropertyValue] = {key: value for key, value in texts.items() if value}
    return facts | {
        "vmdk_version": header.version,
        "vmdk_grain_size_bytes": header.grain_bytes,
        "vmdk_stream_optimized": create_type == "streamOptimized",
        "vmdk_compressed": bool(header.compression),
    }


def _geometry(values: dict[str, str]) -> str | None:
    numbers = [values.get(f"ddb.geometry.{name}", "") for name in ("cylinders", "heads", "sectors")]
    return "/".join(numbers) if all(number.isdecimal() and len(number) < 12 for number in numbers) else None


FORMAT = Format(
    DiskFormat.VMDK,
    _parse,
    in_head=_in_head,
    facts=(
        FactSpec("vmdk_create_type", str, "VMDK descriptor, createType", "monolithicSparse or streamOptimized"),
        FactSpec("vmdk_adapter_type", str, "VMDK descriptor, ddb.adapterType", "disk controller that it was made for"),
        FactSpec("vmdk_hardware_version", str, "VMDK descriptor, ddb.virtualHWVersion", "virtual hardware version"),
        FactSpec("vmdk_tools_version", str, "VMDK descriptor, ddb.toolsVersion", "version of the guest's VMware Tools"),
        FactSpec("vmdk_content_id", str, "VMDK descriptor, CID", "changes whenever the disk was written to"),
        FactSpec("vmdk_uuid", str, "VMDK descriptor, ddb.uuid", "identifies the disk"),
        FactSpec("vmdk_geometry", str, "VMDK descriptor, ddb.geometry", "cylinders/heads/sectors"),
        FactSpec("vmdk_version", int, "VMDK header, bytes 4-7", "version of the extent's header: 1 to 3"),
        FactSpec("vmdk_grain_size_bytes", int, "VMDK header, bytes 20-27", "unit of allocation"),
        FactSpec("vmdk_stream_optimized", bool, "VMDK descriptor, createType", "whether it can be read in one go"),
        FactSpec("vmdk_compressed", bool, "VMDK header, bytes 77-78", "whether the grains are compressed"),
        FactSpec("vmware_disktype", str, "VMDK descriptor, createType", "Nova's name: sparse or streamOptimized"),
        FactSpec(
            "vmware_adaptertype", str, "VMDK descriptor, ddb.adapterType",
            "Nova's name: ide, lsiLogic, busLogic, lsiLogicsas or paraVirtual",
        ),
    ),
    rules=(
        Rule(UnsafeExtentError, "extents that name a path or another file, or several extents", cve="CVE-2022-47951"),
        Rule(UnsafeExtentError, "create types other than monolithicSparse and streamOptimized", cve="CVE-2022-47951"),
        Rule(UnsafeExtentError, "a descriptor alone, a header without one or without capacity, an ESX extent"),
        Rule(DifferencingDiskError, "a parent's content id; a parent's name, wherever a program looks for it"),
        Rule(MalformedImageError, "a descriptor that gives a key twice, or another size than the header"),
        Rule(MalformedImageError, "unknown versions; absurd grains, tables or descriptors; structures that overlap"),
        Rule(MalformedImageError, "a footer, directory or table that contradicts the header or has no marker"),
        Rule(DecompressionBombError, "directory or table entries that share a table or a grain"),
        Rule(TruncatedError, "a missing footer; tables or grains that end beyond the file"),
        *DISK_RULES,
    ),
)  # fmt: skip
