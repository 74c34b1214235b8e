"""What is told of any kernel, and how its header's fields are read. Which kernel it is, others know."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from tintype.domain.errors import TruncatedError
from tintype.domain.values import PropertyValue


@dataclass(frozen=True, slots=True)
class Range:
    """A part of the file, in bytes, that the header names as ``what``."""

    offset: int
    length: int
    what: str

    @property
    def end(self) -> int:
        """The offset behind it."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Kernel:
    """What a header says. ``kind`` is the name of the file that a build makes: bzImage, Image, vmlinux.

    ``parts`` must lie within the file. ``payload`` is what the kernel itself was compressed to; ``release`` is where
    a unified kernel image keeps the kernel's version. ``banner`` is the version's text where the header has it;
    ``has_banner_within`` where it stands somewhere in the bytes, uncompressed.
    """

    kind: str
    architecture: str | None = None
    facts: dict[str, PropertyValue] = field(default_factory=dict)
    parts: tuple[Range, ...] = ()
    payload: Range | None = None
    release: Range | None = None
    banner: str = ""
    has_banner_within: bool = False


def unpack(layout: str, head: bytes, offset: int, what: str) -> tuple[int, ...]:
    """Fields of a header.

    Raises:
        TruncatedError: the head ends before.
    """
    end = offset + struct.calcsize(layout)
    if end > len(head):
        raise TruncatedError(f"{what} ends at byte {end}, beyond the end of the file")
    return struct.unpack_from(layout, head, offset)
