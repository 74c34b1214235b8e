"""Reading a format's tables out of bytes that pass by once: what a parser may ask, and what it is told.

A parser is a generator that reads as if it had a file, and is suspended until the bytes have come:

    header = stream.head[:72]
    table = yield from stream.read_exactly(offset, length, "the L1 table")
    yield from stream.end()
    if stream.size < ...

The head is kept, so that small tables near the beginning can be read in any order. All else can be read in the order
of the file only: a region that has passed is gone. Driving the generator is the matter of the inspector.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Generator
from dataclasses import dataclass

from tintype.domain.errors import MalformedImageError, TruncatedError, VirtualSizeTooLargeError
from tintype.domain.values import DiskFormat
from tintype.inspect.inspection import Findings

HEAD_SIZE = 256 * 1024
"""Bytes that are kept from the beginning: up to the end of VHDX's first region table (MS-VHDX 2.2)."""

TAIL_SIZE = 4096
"""Bytes that are kept from the end: VHD's footer, and streamOptimized VMDK's footer and end marker."""

MAX_REGION_SIZE = 2 * 1024 * 1024
"""The largest table that is captured (qcow2's largest cluster); one at a time, which bounds the memory."""

ReadExactly = Callable[[int, int, str], bytes]
"""Reads ``length`` bytes from an offset, or raises a TruncatedError that names them: what is shared with those who
have a file, as :meth:`Stream.head_exactly` has the head."""


@dataclass(frozen=True, slots=True)
class Region:
    """A parser's wish: ``length`` bytes from ``offset``; :data:`END` waits for the end of the stream."""

    offset: int
    length: int


END = Region(-1, 0)


@dataclass(slots=True)
class Passage:
    """A parser's wish to have bytes go by: ``length`` bytes from ``offset`` are handed to ``sink``, and not kept.

    ``sink`` must not keep what it gets. ``passed`` is how many bytes it has got.
    """

    offset: int
    length: int
    sink: Callable[[memoryview], None]
    passed: int = 0


Wish = Region | Passage
Parsing = Generator[Wish, bytes, Findings]


class Stream:
    """What a parser sees of the bytes. ``size`` and ``tail`` are final once :meth:`end` has returned.

    ``declared`` is what the image was said to be, ``None`` if nothing was said.
    """

    __slots__ = ("declared", "head", "max_virtual_size", "position", "size", "tail")

    def __init__(self, head: bytes, *, declared: DiskFormat | None = None, max_virtual_size: int | None = None) -> None:
        self.head = head
        self.declared = declared
        self.max_virtual_size = max_virtual_size
        self.position = len(head)
        self.size = 0
        self.tail = b""

    def has_passed(self, offset: int, length: int) -> bool:
        """Whether that region can no longer be read, however the bytes were cut into chunks."""
        at_head = self.position == len(self.head)
        return not (offset >= self.position or offset + length <= len(self.head) or at_head)

    def read(self, offset: int, length: int) -> Generator[Wish, bytes, bytes | None]:
        """Up to ``length`` bytes from ``offset``: fewer if the stream ends first, ``None`` if they have passed."""
        if offset < 0 or not 0 <= length <= MAX_REGION_SIZE:
            raise MalformedImageError(f"a table of {length} bytes at offset {offset} cannot be read")
        if self.has_passed(offset, length):
            return None
        return (yield Region(offset, length))

    def read_exactly(self, offset: int, length: int, what: str) -> Generator[Wish, bytes, bytes]:
        """``length`` bytes from ``offset``.

        Raises:
            TruncatedError: if the stream ends first.
            MalformedImageError: if they have passed, or are too many.
        """
        data = yield from self.read(offset, length)
        if data is None:
            raise MalformedImageError(f"{what} lies before the header that names it")
        if len(data) < length:
            raise TruncatedError(f"{what} ends at byte {offset + length}, beyond the end of the file")
        return data

    def pass_through(
        self, offset: int, length: int, sink: Callable[[memoryview], None], what: str
    ) -> Generator[Wish, bytes, None]:
        """Hand ``length`` bytes from ``offset`` to ``sink``, piece by piece, as they come; of any length.

        Raises:
            TruncatedError: if the stream ends first; ``sink`` has what came.
            MalformedImageError: if they have passed.
        """
        if offset < 0 or length < 0 or (length and self.has_passed(offset, length)):
            raise MalformedImageError(f"{what} lies before what names it")
        passage = Passage(offset, length, sink)
        if length:
            yield passage
        if passage.passed < length:
            raise TruncatedError(f"{what} ends at byte {offset + length}, beyond the end of the file")

    def end(self) -> Generator[Wish, bytes, None]:
        """Wait until all bytes have come; then :attr:`size` and :attr:`tail` are those of the file."""
        yield END

    def head_exactly(self, offset: int, length: int, what: str) -> bytes:
        """``length`` bytes of the head.

        Raises:
            TruncatedError: if the file ends first.
        """
        if offset + length > len(self.head):
            raise TruncatedError(f"{what} ends at byte {offset + length}, beyond the end of the file")
        return self.head[offset : offset + length]

    def require_admissible(self, virtual_size: int) -> None:
        """Check the guest disk's size in bytes against the site's cap. Parsers call it before they read by that size.

        Raises:
            VirtualSizeTooLargeError: if it is larger.
        """
        if self.max_virtual_size is not None and virtual_size > self.max_virtual_size:
            raise VirtualSizeTooLargeError(
                f"the guest's disk has {virtual_size} bytes; this site takes up to {self.max_virtual_size} bytes"
            )

    def require_size(self, end_offset: int, what: str) -> None:
        """Check, after :meth:`end`, that the file reaches to ``end_offset``.

        Raises:
            TruncatedError: if it does not.
        """
        if self.size < end_offset:
            raise TruncatedError(
                f"{what} ends at byte {end_offset}, but the file has {self.size} bytes: it is not complete"
            )


def integers(data: bytes, typecode: str, *, big_endian: bool) -> array[int]:
    """Read a table of unsigned integers: ``typecode`` ``I`` for 32 bits, ``Q`` for 64; an odd rest is left out."""
    table = array(typecode)
    table.frombytes(data[: len(data) - len(data) % table.itemsize])
    if big_endian != (sys.byteorder == "big"):
        table.byteswap()
    return table
