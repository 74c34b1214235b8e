"""ISO images, kernels, ramdisks and machine images that are to be refused, each with the error that must say so."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tintype.domain.errors import FormatMismatchError, MalformedImageError, RefusedContentError, TruncatedError
from tintype.domain.values import DiskFormat
from tintype.testing import handmade_iso
from tintype.testing.handmade_iso import el_torito, el_torito_entry, el_torito_section, iso, iso_volume

_Rows = Iterator[tuple[str, type[RefusedContentError], Callable[[], bytes]]]
_LIMIT = 0xFFFF_FFFF


def boot_families() -> tuple[tuple[DiskFormat, _Rows], ...]:
    """The hostile samples, by the format they are declared as."""
    return ((DiskFormat.ISO, _iso_volumes()), (DiskFormat.ISO, _iso_boot()))


def _iso_volumes() -> _Rows:
    fields: list[tuple[str, dict[str, Any]]] = [
        ("volume size differs by byte order", {"volume_size_big": 24}),
        ("block size differs by byte order", {"block_size_big": 512}),
        ("path table size differs by byte order", {"path_table_size_big": 11}),
        ("root directory differs by byte order", {"root_location_big": 20}),
        ("root directory's size differs by byte order", {"root_size_big": 1}),
        ("block size", {"block_size": 4096}),
        ("block size of zero", {"block_size": 0}),
        ("no volume", {"volume_size": 0}),
        ("path table outside of the volume", {"path_table": 25}),
        ("path table at the integer's limit", {"path_table": _LIMIT}),
        ("big-endian path table outside of the volume", {"path_table_big": _LIMIT}),
        ("path table's size at the integer's limit", {"path_table_size": _LIMIT}),
        ("root directory outside of the volume", {"root_location": 25}),
        ("root directory at the integer's limit", {"root_location": _LIMIT, "root_size": _LIMIT}),
        ("root directory over the descriptors", {"root_location": 16}),
        ("root directory without a size", {"root_size": 0}),
        ("root that is no directory", {"root_flags": 0}),
        ("no primary volume", {"kind": 3}),
    ]
    for name, values in fields:
        yield name, MalformedImageError, partial(iso, **values)
    yield "volume beyond the end", TruncatedError, lambda: iso(volume_size=26)
    yield "volume at the integer's limit", TruncatedError, lambda: iso(volume_size=_LIMIT)
    yield "ends in the volume", TruncatedError, lambda: iso()[:-1]
    yield "ends in the root directory", TruncatedError, lambda: iso()[: handmade_iso.ROOT * 2048 + 100]
    yield "ends in the descriptors", TruncatedError, lambda: iso()[: 17 * 2048]
    yield "descriptors without an end", MalformedImageError, lambda: _with_sector(handmade_iso.TERMINATOR, b"")
    yield "endless descriptors", MalformedImageError, lambda: iso()[: 16 * 2048] + iso_volume() * 200
    yield (
        "two volumes that differ",
        MalformedImageError,
        lambda: _with_sector(handmade_iso.BOOT_RECORD, iso_volume(volume_size=24)),
    )
    yield (
        "second directory tree outside of the volume",
        MalformedImageError,
        lambda: _with_sector(handmade_iso.BOOT_RECORD, iso_volume(kind=2, root_location=_LIMIT)),
    )
    yield "no ISO at all", FormatMismatchError, lambda: bytes(64 * 1024)


def _iso_boot() -> _Rows:
    yield "boot catalog beyond the end", TruncatedError, lambda: iso(catalog_sector=25)
    yield "boot catalog at the integer's limit", TruncatedError, lambda: iso(catalog_sector=_LIMIT)
    yield "boot catalog in the descriptors", MalformedImageError, lambda: iso(catalog_sector=16)
    yield "boot catalog in the root directory", MalformedImageError, lambda: iso(catalog_sector=21)
    yield "boot catalog with a wrong sum", MalformedImageError, lambda: iso(catalog=b"\1" + el_torito()[:1] + bytes(62))
    yield (
        "boot indicator",
        MalformedImageError,
        lambda: iso(catalog=el_torito(el_torito_entry(indicator=0x99))),
    )
    yield (
        "boot section bomb",
        MalformedImageError,
        lambda: iso(catalog=el_torito(el_torito_entry(), el_torito_section(el_torito_entry(), count=0xFFFF))),
    )
    yield (
        "boot image beyond the end",
        TruncatedError,
        lambda: iso(catalog=el_torito(el_torito_entry(sector=_LIMIT, load_sectors=0xFFFF))),
    )
    yield (
        "UEFI boot image beyond the end",
        TruncatedError,
        lambda: iso(catalog=el_torito(el_torito_entry(), el_torito_section(el_torito_entry(load_sectors=64)))),
    )
    yield "two boot catalogs", MalformedImageError, _iso_with_two_catalogs


def _iso_with_two_catalogs() -> bytes:
    record = b"\0CD001\1" + b"EL TORITO SPECIFICATION".ljust(64, b"\0") + struct.pack("<I", 23)
    end = iso()[18 * 2048 : 19 * 2048]
    return _with_sector(18, record, _with_sector(19, end))


def _with_sector(number: int, content: bytes, image: bytes | None = None) -> bytes:
    spoiled = iso() if image is None else image
    return spoiled[: number * 2048] + content.ljust(2048, b"\0") + spoiled[(number + 1) * 2048 :]
