"""El Torito boot catalogs (Phoenix and IBM, version 1.0): what a firmware is offered to boot from a CD-ROM.

It reads the catalog's first sector, as firmware does. Where the catalog lies is told by the volume descriptors.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tintype.domain.errors import MalformedImageError

SECTOR_SIZE = 2048
VIRTUAL_SECTOR_SIZE = 512

_ENTRY_SIZE = 32
_BOOTABLE, _NOT_BOOTABLE = 0x88, 0x00
_SECTION, _LAST_SECTION, _EXTENSION = 0x90, 0x91, 0x44

BIOS, UEFI = "bios", "uefi"
_PLATFORMS = {0x00: BIOS, 0x01: "powerpc", 0x02: "mac", 0xEF: UEFI}
_MEDIA = {0: "no emulation", 1: "1.2 MB floppy", 2: "1.44 MB floppy", 3: "2.88 MB floppy", 4: "hard disk"}


@dataclass(frozen=True, slots=True)
class BootEntry:
    """One thing to boot: ``load_sectors`` of 512 bytes, from ``sector`` (of 2048 bytes) of the medium."""

    platform: str
    is_bootable: bool
    media: str
    load_sectors: int
    sector: int

    @property
    def end(self) -> int:
        """The offset behind what is loaded, in bytes; some writers leave the length at 0 for "all the rest"."""
        return self.sector * SECTOR_SIZE + max(self.load_sectors, 1) * VIRTUAL_SECTOR_SIZE


def read_catalog(sector: bytes) -> tuple[BootEntry, ...]:
    """The entries of a catalog, by its first sector: the default entry, then those of each section.

    Raises:
        MalformedImageError: it is no boot catalog, or is not consistent.
    """
    entries = [sector[at : at + _ENTRY_SIZE] for at in range(0, SECTOR_SIZE, _ENTRY_SIZE)]
    platform = _check_validation_entry(entries[0])
    found = [_entry(entries[1], platform)]
    at, is_last = 2, False
    while at < len(entries) and not is_last and entries[at][0] in (_SECTION, _LAST_SECTION):
        kind, platform, count = struct.unpack_from("<BBH", entries[at])
        is_last = kind == _LAST_SECTION
        at += 1
        for _ in range(count):
            if at >= len(entries):
                raise MalformedImageError("the boot catalog announces more entries than its sector holds")
            found.append(_entry(entries[at], platform))
            at = _after_extensions(entries, at)
    return tuple(found)


def _check_validation_entry(entry: bytes) -> int:
    """Check the first entry, and tell its platform."""
    words = struct.unpack("<16H", entry)
    if entry[0] != 1 or entry[30:32] != b"\x55\xaa" or sum(words) & 0xFFFF:
        raise MalformedImageError("what the boot record calls a boot catalog is none")
    return entry[1]


def _entry(entry: bytes, platform: int) -> BootEntry:
    indicator, media, _, _, _, load_sectors, sector = struct.unpack_from("<BBHBBHI", entry)
    if indicator not in (_BOOTABLE, _NOT_BOOTABLE):
        raise MalformedImageError(f"an entry of the boot catalog has the boot indicator {indicator:#x}")
    return BootEntry(
        platform=_PLATFORMS.get(platform, f"{platform:#04x}"),
        is_bootable=indicator == _BOOTABLE,
        media=_MEDIA.get(media & 0xF, "unknown"),
        load_sectors=load_sectors,
        sector=sector,
    )


def _after_extensions(entries: list[bytes], at: int) -> int:
    """The index behind an entry and its extensions, which hold selection criteria only."""
    at += 1
    while at < len(entries) and entries[at][0] == _EXTENSION:
        at += 1
    return at
