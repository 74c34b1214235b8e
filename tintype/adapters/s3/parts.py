"""How bytes are divided into the parts of a multipart upload, and how a part is sent."""

from __future__ import annotations

import io
from collections.abc import Iterator

MIB = 1024 * 1024
MIN_PART = 5 * MIB
"""Every part but the last has so many bytes at least."""

MAX_PARTS = 10_000
_PARTS_OF_A_SIZE = 950
_DOUBLINGS = 6
_SENT_AT_ONCE = 256 * 1024
_COPY_SIZE = 256 * MIB
"""Small enough that a server copies it well within a call's deadline."""


def part_size(number: int, first: int) -> int:
    """Bytes of the part of that number (from 1), where the first ones have ``first``.

    Every 950 parts the size doubles, six times: images of an ordinary size keep small parts in memory, and 10,000
    parts of 16 MiB at first reach 5 TiB.
    """
    return int(first << min(_DOUBLINGS, (number - 1) // _PARTS_OF_A_SIZE))


def copied_ranges(size: int) -> Iterator[tuple[int, int]]:
    """First and last byte of the parts that ``size`` bytes (of 5 MiB at least) are copied in; none is too small."""
    step = max(_COPY_SIZE, -(-size // (MAX_PARTS // 2)))
    begin = 0
    while begin < size:
        end = begin + step
        if size - end < MIN_PART:
            end = size
        yield begin, end - 1
        begin = end


class PartBody(io.RawIOBase):
    """Bytes as a file, so that they are sent in pieces: a deadline of the socket is then for a piece, not for all."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        super().__init__()
        self._data = memoryview(data)
        self._position = 0

    def __len__(self) -> int:
        return len(self._data)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is: the bytes are read once for their digest, and once to be sent."""
        return True

    def tell(self) -> int:
        """Where the next byte is."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go elsewhere."""
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._data)}[whence]
        self._position = max(0, begin + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """The next bytes, 256 KiB at least: sent in the 16 KiB that are asked for, they take twice the time."""
        end = len(self._data) if size < 0 else self._position + max(size, _SENT_AT_ONCE)
        piece = bytes(self._data[self._position : end])
        self._position += len(piece)
        return piece
