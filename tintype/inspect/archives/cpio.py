"""Archives of cpio's newc form, one after the other, as Linux unpacks a ramdisk (Linux, early-userspace/buffer-format).

They are walked while they pass by: names are counted, and not kept; what a file holds is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass

from tintype.domain.errors import MalformedImageError, TruncatedError
from tintype.inspect.stream import Stream, Wish

MAGICS = (b"070701", b"070702")

_HEADER_SIZE = 110
_HEADER = re.compile(rb"07070[12][0-9a-fA-F]{104}")
_FILE_SIZE, _NAME_SIZE = slice(54, 62), slice(94, 102)
_TRAILER = b"TRAILER!!!"
_CONTROL_CHARACTERS = re.compile(rb"[\x00-\x1f\x7f]")
_MICROCODE = b"kernel/x86/microcode/"

MAX_ENTRIES = 100_000
MAX_ARCHIVES = 1000
_MAX_NAME_SIZE = 4096
"""PATH_MAX: what has a longer name is not unpacked."""
_MAX_PADDING = 1024 * 1024
_READ_AHEAD = 16 * 1024


@dataclass(slots=True)
class Walk:
    """What the archives hold. ``rest`` is the beginning of what follows the last one, empty at the end of the file."""

    archives: int = 0
    entries: int = 0
    odd_names: int = 0
    has_microcode: bool = False
    rest: bytes = b""


def walk_archives(stream: Stream, *, rest_size: int) -> Generator[Wish, bytes, Walk]:
    """Walk all archives that stand one after the other at the beginning; up to ``rest_size`` bytes of the rest follow.

    Raises:
        MalformedImageError: a header is not one, or there are more entries or archives than any ramdisk has.
        TruncatedError: the file ends within an archive.
    """
    cursor, walk = _Cursor(stream), Walk()
    while (yield from cursor.peek(6)) in MAGICS:
        yield from _walk_archive(cursor, walk)
        walk.archives += 1
        if walk.archives > MAX_ARCHIVES:
            raise MalformedImageError(f"the ramdisk has more than {MAX_ARCHIVES} cpio archives")
        yield from cursor.skip_zeros()
    walk.rest = yield from cursor.peek(rest_size)
    return walk


class _Cursor:
    """A place in the file that moves forwards; bytes are read ahead, so that small entries cost little."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = b""
        self._at = 0
        self._end = 0

    def peek(self, length: int) -> Generator[Wish, bytes, bytes]:
        """Up to ``length`` bytes, fewer at the end of the file only."""
        while len(self._buffer) - self._at < length:
            piece = yield from self._stream.read(self._end, max(length, _READ_AHEAD))
            if not piece:
                break
            self._buffer = self._buffer[self._at :] + piece
            self._at = 0
            self._end += len(piece)
        return self._buffer[self._at : self._at + length]

    def take(self, length: int) -> Generator[Wish, bytes, bytes]:
        data = yield from self.peek(length)
        if len(data) < length:
            raise TruncatedError("the file ends within a cpio archive")
        self._at += length
        return data

    def skip(self, length: int) -> None:
        """Step over bytes without reading them; whether they are there shows with what is read next."""
        kept = len(self._buffer) - self._at
        if length <= kept:
            self._at += length
        else:
            self._end += length - kept
            self._buffer, self._at = b"", 0

    def skip_zeros(self) -> Generator[Wish, bytes, None]:
        """Step over the zeros between archives, or after the last."""
        skipped = 0
        while piece := (yield from self.peek(_READ_AHEAD)):
            zeros = len(piece) - len(piece.lstrip(b"\0"))
            self._at += zeros
            skipped += zeros
            if zeros < len(piece):
                return
            if skipped > _MAX_PADDING:
                raise MalformedImageError(f"more than {_MAX_PADDING} zero bytes follow a cpio archive")


def _walk_archive(cursor: _Cursor, walk: Walk) -> Generator[Wish, bytes, None]:
    while True:
        header = yield from cursor.take(_HEADER_SIZE)
        file_size, name_size = _sizes(header)
        padding = -(_HEADER_SIZE + name_size) % 4
        name = (yield from cursor.take(name_size + padding))[: name_size - 1]
        cursor.skip(file_size + -file_size % 4)
        if name == _TRAILER:
            if file_size:
                raise MalformedImageError(f"the cpio archive's trailer has {file_size} bytes")
            return
        walk.entries += 1
        if walk.entries > MAX_ENTRIES:
            raise MalformedImageError(f"the cpio archive has more than {MAX_ENTRIES} entries")
        walk.odd_names += _CONTROL_CHARACTERS.search(name) is not None
        walk.has_microcode = walk.has_microcode or name.startswith(_MICROCODE)


def _sizes(header: bytes) -> tuple[int, int]:
    """The length of the file, and that of its name with the NUL behind it."""
    if not _HEADER.fullmatch(header):
        raise MalformedImageError("a header in the cpio archive is damaged")
    name_size = int(header[_NAME_SIZE], 16)
    if not 1 < name_size <= _MAX_NAME_SIZE:
        raise MalformedImageError(f"a name in the cpio archive has {name_size} bytes")
    return int(header[_FILE_SIZE], 16), name_size
