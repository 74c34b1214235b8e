"""The volume descriptors of ISO 9660 (ECMA-119, 8): where a volume's tables lie, and what its author says of it.

Every number is stored in both byte orders, and must be the same in both: readers differ in which one they take.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from tintype.domain.errors import MalformedImageError

SECTOR_SIZE = 2048
_DATE_DIGITS = 16
_MAX_OFFSET_QUARTERS = 52
_ROOT_RECORD_SIZE = 34
_IS_DIRECTORY = 2


@dataclass(frozen=True, slots=True)
class Extent:
    """A table of the volume; both in bytes."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """The offset behind it."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Volume:
    """A primary or supplementary volume descriptor; sizes in bytes, ``texts`` by the name of the field."""

    block_size: int
    size_bytes: int
    root: Extent
    created_at: str
    texts: dict[str, str] = field(default_factory=dict)


_TEXTS = {
    "system_id": (8, 32),
    "volume_id": (40, 32),
    "publisher": (318, 128),
    "preparer": (446, 128),
    "application": (574, 128),
}


def read_volume(descriptor: bytes) -> Volume:
    """Read a primary or supplementary descriptor, of one sector.

    Raises:
        MalformedImageError: its numbers contradict each other, or a table lies outside of the volume.
    """
    block_size = both_endian(descriptor, 128, "H", "block size")
    if block_size not in (512, 1024, 2048):
        raise MalformedImageError(f"the ISO's block size is {block_size} bytes")
    size_bytes = both_endian(descriptor, 80, "I", "volume size") * block_size
    if not size_bytes:
        raise MalformedImageError("the ISO's volume has no size")
    volume = Volume(
        block_size=block_size,
        size_bytes=size_bytes,
        root=_root_of(descriptor, block_size),
        created_at=_date(descriptor[813:830]),
        texts={name: _text(descriptor[at : at + length]) for name, (at, length) in _TEXTS.items()},
    )
    for what, table in (("root directory", volume.root), *_path_tables(descriptor, block_size)):
        if table.end > size_bytes:
            raise MalformedImageError(f"the ISO's {what} ends at byte {table.end} of a volume of {size_bytes} bytes")
    return volume


def is_joliet(descriptor: bytes) -> bool:
    """Whether a supplementary descriptor's names are in UCS-2, by its escape sequences (Joliet, level 1 to 3)."""
    return descriptor[88:91] in (b"%/@", b"%/C", b"%/E")


def both_endian(data: bytes, at: int, typecode: str, what: str) -> int:
    """A number that is stored in little-endian and then in big-endian order.

    Raises:
        MalformedImageError: they differ.
    """
    (little,) = struct.unpack_from(f"<{typecode}", data, at)
    (big,) = struct.unpack_from(f">{typecode}", data, at + struct.calcsize(typecode))
    if little != big:
        raise MalformedImageError(f"the ISO's {what} is {little} in one byte order and {big} in the other")
    return int(little)


def _root_of(descriptor: bytes, block_size: int) -> Extent:
    record = descriptor[156 : 156 + _ROOT_RECORD_SIZE]
    location = both_endian(record, 2, "I", "root directory's location")
    length = both_endian(record, 10, "I", "root directory's length")
    if record[0] < _ROOT_RECORD_SIZE or not record[25] & _IS_DIRECTORY or not length:
        raise MalformedImageError("the ISO's root directory record is damaged")
    if location * block_size < (16 + 1) * SECTOR_SIZE:
        raise MalformedImageError(f"the ISO's root directory is said to begin in block {location}")
    return Extent(location * block_size, length)


def _path_tables(descriptor: bytes, block_size: int) -> list[tuple[str, Extent]]:
    """The tables of both byte orders, the optional ones included; they are placed here, and never walked."""
    length = both_endian(descriptor, 132, "I", "path table's length")
    locations = (*struct.unpack_from("<2I", descriptor, 140), *struct.unpack_from(">2I", descriptor, 148))
    return [("path table", Extent(location * block_size, length)) for location in locations if location]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").rstrip(" \0")


def _date(data: bytes) -> str:
    """Date and time in ISO 8601 (ECMA-119, 8.4.26.1); empty if none is given or it is no date."""
    digits = data[:_DATE_DIGITS].decode("ascii", "replace")
    (quarters,) = struct.unpack_from("b", data, _DATE_DIGITS)
    if not (digits.isascii() and digits.isdigit()) or abs(quarters) > _MAX_OFFSET_QUARTERS:
        return ""
    try:
        moment = datetime.strptime(digits[:14], "%Y%m%d%H%M%S")  # noqa: DTZ007 - its zone follows
        return moment.replace(tzinfo=timezone(timedelta(minutes=15 * quarters))).isoformat()
    except ValueError:
        return ""
