"""What is told of any file system, and how its superblock's fields are read. Which file system it is, others know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

Read = Callable[[int, int], bytes]
"""``length`` bytes from ``offset``: fewer only where the disk, or the partition, ends."""

HEAD_SIZE = 68 * 1024
"""Up to the end of the superblock that lies furthest behind the beginning: btrfs's."""

MAX_SIZE_BYTES = 2**63 - 1
MAX_LABEL_LENGTH = 255


@dataclass(frozen=True, slots=True)
class FileSystem:
    """What a superblock says, in the words of ``blkid``; nothing of it has been compared with the rest of the disk.

    ``label`` is empty and ``uuid`` is ``None`` where there is none; ``size_bytes`` is ``None`` where the superblock
    does not tell, or tells a size that no disk has. ``features`` are the file system's own names of its variants.
    """

    type: str
    label: str = ""
    uuid: str | None = None
    size_bytes: int | None = None
    features: tuple[str, ...] = ()


def read_padded(read: Read, offset: int, length: int) -> bytes:
    """``length`` bytes, with zeros for what lies behind the end; all zeros for an offset that no disk has."""
    if not 0 <= offset <= MAX_SIZE_BYTES - length:
        return bytes(length)
    return read(offset, length)[:length].ljust(length, b"\0")


def label_of(field: bytes, encoding: str = "utf-8") -> str:
    """A label out of a field of fixed length: up to its first NUL, and without blanks that only fill it."""
    text = field.decode(encoding, "replace").partition("\0")[0]
    return text.rstrip(" ")[:MAX_LABEL_LENGTH]


def uuid_of(field: bytes) -> str | None:
    """A UUID in its usual writing; ``None`` for all zeros."""
    return str(UUID(bytes=field)) if any(field) else None


def size_of(units: int, unit_size: int) -> int | None:
    """The product in bytes; ``None`` if no disk is as large."""
    size = units * unit_size
    return size if 0 < size <= MAX_SIZE_BYTES else None


def names_of(bits: int, names: Mapping[int, str]) -> tuple[str, ...]:
    """The names of those bits that are set; unknown ones have none."""
    return tuple(name for bit, name in names.items() if bits & bit)


def little(field: bytes) -> int:
    """An unsigned little-endian integer of any width."""
    return int.from_bytes(field, "little")


def big(field: bytes) -> int:
    """An unsigned big-endian integer of any width."""
    return int.from_bytes(field, "big")


def is_power_of_two(number: int, lowest: int, highest: int) -> bool:
    """Whether it is one, within both bounds: what sizes of sectors, blocks and clusters have to be."""
    return lowest <= number <= highest and number & (number - 1) == 0
