"""ISO 9660 (ECMA-119), Joliet, El Torito and hybrids: one volume, where its tables lie, and what boots from it.

Directories are never walked: the root is read as far as it passes by, for hints only.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from tintype.domain.errors import FormatMismatchError, MalformedImageError, TruncatedError
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect.detection import boot_record
from tintype.inspect.inspection import Findings
from tintype.inspect.iso9660.descriptors import SECTOR_SIZE, Volume, is_joliet, read_volume
from tintype.inspect.iso9660.el_torito import BIOS, UEFI, BootEntry, read_catalog
from tintype.inspect.iso9660.rock_ridge import RootDirectory, read_root
from tintype.inspect.registry import Evidence, FactSpec, Format, Rule
from tintype.inspect.stream import Parsing, Stream

_FIRST_SECTOR = 16
_MAX_DESCRIPTORS = 64
_IDENTIFIER, _UDF_IDENTIFIERS = b"CD001", (b"NSR02", b"NSR03")
_BOOT_RECORD, _PRIMARY, _SUPPLEMENTARY, _TERMINATOR = 0, 1, 2, 255
_EL_TORITO = b"EL TORITO SPECIFICATION"
_UDF_SECTORS = 8
_MAX_ROOT_SIZE = 64 * 1024
_MAX_TOLD_ENTRIES = 16
_BOOT_CODE_SIZE = 440
"""Bytes of sector 0 before an MBR's disk signature: if all are zero, no BIOS can boot the disk."""


@dataclass(frozen=True, slots=True)
class _Descriptors:
    """What the descriptor set holds; ``catalog_offset`` in bytes, of the boot catalog."""

    primary: Volume
    joliet: bool
    udf: bool
    catalog_offset: int | None


def _in_head(head: bytes) -> bool:
    at = _FIRST_SECTOR * SECTOR_SIZE + 1
    return head[at : at + len(_IDENTIFIER)] == _IDENTIFIER


def _parse(stream: Stream) -> Parsing:
    found = _read_descriptors(stream)
    root, catalog, root_size = found.primary.root, found.catalog_offset, 0
    if catalog is not None and root.offset < catalog + SECTOR_SIZE and catalog < root.end:
        raise MalformedImageError("the ISO's boot catalog lies within its root directory")
    root_size = min(root.length, _MAX_ROOT_SIZE)
    wanted = [(root.offset, root_size, "the ISO's root directory")]
    if catalog is not None:
        wanted.append((catalog, SECTOR_SIZE, "the ISO's boot catalog"))
    tables: dict[int, bytes] = {}
    for offset, length, what in sorted(wanted):
        tables[offset] = yield from stream.read_exactly(offset, length, what)
    entries = read_catalog(tables[catalog]) if catalog is not None else ()
    yield from stream.end()
    stream.require_size(found.primary.size_bytes, "the ISO's volume")
    for entry in entries:
        if entry.is_bootable:
            stream.require_size(entry.end, "what the ISO boots")
    facts = _volume_facts(found) | _root_facts(read_root(tables[root.offset])) | _boot_facts(entries, stream.head)
    return Findings(None, facts)


def _read_descriptors(stream: Stream) -> _Descriptors:
    """Read the set up to its terminator, which must come within :data:`_MAX_DESCRIPTORS`."""
    volumes: list[Volume] = []
    catalogs: set[int] = set()
    has_joliet = False
    for number in range(_FIRST_SECTOR, _FIRST_SECTOR + _MAX_DESCRIPTORS):
        data = stream.head_exactly(number * SECTOR_SIZE, SECTOR_SIZE, "the ISO's volume descriptors")
        kind = data[0]
        if data[1:6] != _IDENTIFIER:
            raise MalformedImageError("the ISO's volume descriptors have no terminator")
        if kind == _TERMINATOR:
            break
        if kind == _BOOT_RECORD and data[7:39].rstrip(b"\0 ") == _EL_TORITO:
            catalogs.add(struct.unpack_from("<I", data, 71)[0] * SECTOR_SIZE)
        elif kind == _PRIMARY:
            volumes.append(read_volume(data))
        elif kind == _SUPPLEMENTARY:
            read_volume(data)
            has_joliet = has_joliet or is_joliet(data)
    else:
        raise MalformedImageError(f"the ISO has more than {_MAX_DESCRIPTORS} volume descriptors")
    if not volumes or any(volume != volumes[0] for volume in volumes):
        raise MalformedImageError("the ISO has no primary volume, or several that differ")
    if len(catalogs) > 1:
        raise MalformedImageError("the ISO names several boot catalogs; firmware would differ in which one it takes")
    return _Descriptors(volumes[0], has_joliet, _is_udf_bridge(stream.head, number + 1), next(iter(catalogs), None))


def _is_udf_bridge(head: bytes, sector: int) -> bool:
    """Whether a UDF descriptor follows within the next sectors (ECMA-167, 2/9)."""
    starts = (at * SECTOR_SIZE + 1 for at in range(sector, sector + _UDF_SECTORS))
    return any(head[start : start + 5] in _UDF_IDENTIFIERS for start in starts)


def _volume_facts(found: _Descriptors) -> dict[str, PropertyValue]:
    volume = found.primary
    facts: dict[str, PropertyValue] = {f"iso_{name}": text for name, text in volume.texts.items() if text}
    if volume.created_at:
        facts["iso_created_at"] = volume.created_at
    return facts | {
        "iso_volume_size_bytes": volume.size_bytes,
        "iso_block_size_bytes": volume.block_size,
        "iso_joliet": found.joliet,
        "iso_udf": found.udf,
    }


def _root_facts(root: RootDirectory) -> dict[str, PropertyValue]:
    facts: dict[str, PropertyValue] = {"iso_rock_ridge": root.has_rock_ridge}
    if root.zisofs_files:
        facts["iso_zisofs_files"] = root.zisofs_files
        facts["iso_zisofs_size_bytes"] = root.zisofs_size_bytes
    return facts


def _boot_facts(entries: Sequence[BootEntry], head: bytes) -> dict[str, PropertyValue]:
    platforms = {entry.platform for entry in entries if entry.is_bootable}
    scheme = boot_record(head)
    facts: dict[str, PropertyValue] = {
        "iso_boots_bios": BIOS in platforms,
        "iso_boots_uefi": UEFI in platforms,
        "iso_boot_entries": len(entries),
    }
    if scheme:
        facts["iso_boot_record"] = scheme
    boots_bios_as_disk = bool(scheme) and any(head[:_BOOT_CODE_SIZE])
    if UEFI in platforms and BIOS not in platforms and not boots_bios_as_disk:
        facts["hw_firmware_type"] = UEFI
    for number, entry in enumerate(entries[:_MAX_TOLD_ENTRIES]):
        facts |= {
            f"iso_boot_{number}_platform": entry.platform,
            f"iso_boot_{number}_bootable": entry.is_bootable,
            f"iso_boot_{number}_media": entry.media,
            f"iso_boot_{number}_load_sectors": entry.load_sectors,
        }
    return facts


_IN_VOLUME, _IN_CATALOG = "ISO primary volume descriptor", "El Torito boot catalog"

FORMAT = Format(
    DiskFormat.ISO,
    _parse,
    in_head=_in_head,
    evidence=Evidence.INSIDE,
    facts=(
        FactSpec("iso_volume_id", str, _IN_VOLUME, "the volume's label"),
        FactSpec("iso_system_id", str, _IN_VOLUME, "system that may use the first 16 sectors"),
        FactSpec("iso_publisher", str, _IN_VOLUME, "who published it"),
        FactSpec("iso_preparer", str, _IN_VOLUME, "who prepared its data"),
        FactSpec("iso_application", str, _IN_VOLUME, "program that made it"),
        FactSpec("iso_created_at", str, _IN_VOLUME, "when it was made, in ISO 8601"),
        FactSpec("iso_volume_size_bytes", int, _IN_VOLUME, "size of the volume; a hybrid's file may be larger"),
        FactSpec("iso_block_size_bytes", int, _IN_VOLUME, "unit of allocation"),
        FactSpec("iso_joliet", bool, "ISO supplementary volume descriptor", "has names in Unicode for Windows"),
        FactSpec("iso_udf", bool, "sectors behind the volume descriptors", "is a UDF file system as well"),
        FactSpec("iso_rock_ridge", bool, "ISO root directory", "has names and rights for POSIX"),
        FactSpec("iso_zisofs_files", int, "ISO root directory", "files there that are compressed by zisofs"),
        FactSpec("iso_zisofs_size_bytes", int, "ISO root directory", "size that those files claim uncompressed"),
        FactSpec("iso_boots_bios", bool, _IN_CATALOG, "boots by BIOS from a CD-ROM drive"),
        FactSpec("iso_boots_uefi", bool, _IN_CATALOG, "boots by UEFI from a CD-ROM drive"),
        FactSpec("iso_boot_entries", int, _IN_CATALOG, "how many things to boot it offers"),
        FactSpec("iso_boot_N_platform", str, _IN_CATALOG, "firmware the entry is for: bios, uefi, powerpc, mac"),
        FactSpec("iso_boot_N_bootable", bool, _IN_CATALOG, "whether the entry is to be booted"),
        FactSpec("iso_boot_N_media", str, _IN_CATALOG, "drive that is emulated, or no emulation"),
        FactSpec("iso_boot_N_load_sectors", int, _IN_CATALOG, "sectors of 512 bytes that are loaded"),
        FactSpec("hw_firmware_type", str, _IN_CATALOG, "uefi, if it boots by nothing else"),
        FactSpec("iso_boot_record", str, "sectors 0 and 1", "what lets it boot as a disk: gpt or mbr"),
    ),
    rules=(
        Rule(FormatMismatchError, "an ISO without a boot sector that was declared raw, or as any other format"),
        Rule(MalformedImageError, "numbers that differ in their two byte orders; tables outside of the volume"),
        Rule(MalformedImageError, "a set of volume descriptors without an end, or that contradicts itself"),
        Rule(MalformedImageError, "a boot catalog that is damaged, or of which there are several"),
        Rule(TruncatedError, "a volume, a boot catalog or what it boots that ends beyond the file"),
    ),
)
