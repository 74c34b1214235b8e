"""Minimal well-formed ISO 9660 images, written field by field, so that a test can spoil any one of them."""

from __future__ import annotations

import struct

SECTOR_SIZE = 2048
SECTORS = 25
PRIMARY, BOOT_RECORD, TERMINATOR, PATH_TABLE, ROOT, CATALOG, BOOT_IMAGE = 16, 17, 18, 19, 21, 22, 23
"""Where :func:`iso` keeps its tables, in sectors."""


def iso(
    *, is_hybrid: bool = False, root: bytes | None = None, catalog: bytes | None = None, **numbers: int | bytes
) -> bytes:
    """A bootable ISO of 25 sectors; ``numbers`` are those of :func:`iso_volume` and ``catalog_sector``."""
    catalog_sector = numbers.pop("catalog_sector", CATALOG)
    assert isinstance(catalog_sector, int)
    image = bytearray(SECTORS * SECTOR_SIZE)
    if is_hybrid:
        image[510:512] = b"\x55\xaa"
    record = b"\0CD001\1" + b"EL TORITO SPECIFICATION".ljust(64, b"\0") + struct.pack("<I", catalog_sector)
    sectors = {
        PRIMARY: iso_volume(**numbers),
        BOOT_RECORD: record,
        TERMINATOR: b"\xffCD001\1",
        ROOT: iso_record(b"\0") + iso_record(b"\1") if root is None else root,
        CATALOG: el_torito(el_torito_entry()) if catalog is None else catalog,
    }
    for sector, content in sectors.items():
        image[sector * SECTOR_SIZE : sector * SECTOR_SIZE + len(content)] = content
    return bytes(image)


def iso_volume(**numbers: int | bytes) -> bytes:
    """A primary volume descriptor; a number's key ending in ``_big`` is its big-endian half alone."""
    values: dict[str, int | bytes] = {
        "kind": 1, "volume_size": SECTORS, "block_size": SECTOR_SIZE, "path_table_size": 10, "path_table": PATH_TABLE,
        "path_table_big": PATH_TABLE + 1, "root_location": ROOT, "root_size": SECTOR_SIZE, "root_flags": 2,
        "created": b"2023061000000000\0",
    }  # fmt: skip
    unknown = {key.removesuffix("_big") for key in numbers} - values.keys()
    assert not unknown, f"no such fields: {unknown}"
    values |= numbers
    big = {key: values.get(f"{key}_big", value) for key, value in values.items()}
    descriptor = bytearray(SECTOR_SIZE)
    descriptor[:7] = struct.pack("B5sB", values["kind"], b"CD001", 1)
    descriptor[40:72] = b"HANDMADE".ljust(32)
    for at, code, key in ((80, "I", "volume_size"), (128, "H", "block_size"), (132, "I", "path_table_size")):
        struct.pack_into(f"<{code}", descriptor, at, values[key])
        struct.pack_into(f">{code}", descriptor, at + struct.calcsize(code), big[key])
    struct.pack_into("<I", descriptor, 140, values["path_table"])
    struct.pack_into(">I", descriptor, 148, values["path_table_big"])
    descriptor[156:190] = iso_record(
        b"\0",
        location=values["root_location"],
        location_big=big["root_location"],
        size=values["root_size"],
        size_big=big["root_size"],
        flags=values["root_flags"],
    )
    struct.pack_into("17s", descriptor, 813, values["created"])
    return bytes(descriptor)


def iso_record(name: bytes, system_use: bytes = b"", **numbers: int | bytes) -> bytes:
    """A directory record (ECMA-119, 9.1)."""
    values: dict[str, int | bytes] = {"location": ROOT, "size": SECTOR_SIZE, "flags": 2, **numbers}
    location, size = values["location"], values["size"]
    head = struct.pack("<xI", location) + struct.pack(">I", values.get("location_big", location))
    head += struct.pack("<I", size) + struct.pack(">I", values.get("size_big", size))
    head += struct.pack("<7xB2xHHB", values["flags"], 1, 256, len(name)) + name
    head += b"\0" * ((len(head) + 1) % 2) + system_use
    return struct.pack("B", len(head) + 1) + head


def zisofs_field(size_bytes: int) -> bytes:
    """The system use field of a file that grows to ``size_bytes``."""
    return b"ZF\x10\x01pz\x04\x0f" + struct.pack("<I", size_bytes) + struct.pack(">I", size_bytes)


def el_torito(*entries: bytes, platform: int = 0) -> bytes:
    """A boot catalog: the validation entry, the default entry, and what follows it."""
    validation = struct.pack("<BB2x24sHBB", 1, platform, b"", 0, 0x55, 0xAA)
    checksum = -sum(struct.unpack("<16H", validation)) & 0xFFFF
    validation = validation[:28] + struct.pack("<H", checksum) + validation[30:]
    return (validation + b"".join(entries)).ljust(SECTOR_SIZE, b"\0")


def el_torito_entry(*, indicator: int = 0x88, load_sectors: int = 4, sector: int = BOOT_IMAGE, media: int = 0) -> bytes:
    """One entry of a boot catalog."""
    return struct.pack("<BBHBBHI20x", indicator, media, 0, 0, 0, load_sectors, sector)


def el_torito_section(*entries: bytes, platform: int = 0xEF, count: int | None = None, is_last: bool = True) -> bytes:
    """A section of a boot catalog, for UEFI if not told otherwise."""
    header = struct.pack("<BBH28x", 0x91 if is_last else 0x90, platform, len(entries) if count is None else count)
    return header + b"".join(entries)
