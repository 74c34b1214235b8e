"""The file beneath a disk, or a window of it: read by offset, exactly, from any thread. It knows no format."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from tintype.disks.disk import Extent
from tintype.domain.errors import StoreUnavailableError, TruncatedError, UnsupportedImageError

PIECE_SIZE = 1024 * 1024
"""Bytes of data that :meth:`ByteFile.pieces` reads at once."""

HOLE_SIZE = 16 * 1024 * 1024
"""Bytes of a hole that it passes on at once."""

# A pipe's open would wait for a writer: it must not, to be refused.
_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

_NO_HOLES = {errno.EINVAL, errno.ENOTSUP, errno.ENOTTY, errno.ESPIPE}
"""What file systems and devices answer that cannot tell their holes."""


class ByteFile:
    """``size`` bytes of a file, from which a reader of a format reads; offsets begin where the window does."""

    def __init__(self, path: Path, *, offset: int = 0, length: int | None = None) -> None:
        """Open a regular file or a block device; ``offset`` and ``length`` choose a window of it.

        Raises:
            TruncatedError: the window reaches beyond the end of the file.
            UnsupportedImageError: the path is of a symbolic link, a directory, a pipe or the like.
            StoreUnavailableError: the operating system does not let it be opened.
        """
        if offset < 0 or (length is not None and length < 0):
            raise ValueError((offset, length))
        self.name = path.name
        try:
            self._descriptor = os.open(path, _OPEN_FLAGS)
        except OSError as exc:
            raise _translated(self.name, exc) from exc
        self._is_open = True
        try:
            self._start, self.size = offset, self._window_size(offset, length)
        except BaseException:
            self.close()
            raise

    def _window_size(self, offset: int, length: int | None) -> int:
        mode = os.fstat(self._descriptor).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
            raise UnsupportedImageError(f"{self.name!r} is not a regular file")
        try:
            end = os.lseek(self._descriptor, 0, os.SEEK_END)
        except OSError as exc:
            raise _translated(self.name, exc) from exc
        if offset + (length or 0) > end:
            raise TruncatedError(f"the disk should reach to byte {offset + (length or 0)}, and the file has {end}")
        return end - offset if length is None else length

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``, which may be anything: fewer where the window ends.

        Raises:
            TruncatedError: the file has become shorter.
            StoreUnavailableError: the medium failed.
        """
        if offset < 0 or length < 0:
            raise ValueError((offset, length))
        length = min(length, max(0, self.size - offset))
        data = self._pread(length, offset) if length else b""
        if len(data) == length:
            return data
        pieces = [data]  # a read may be cut short by a signal or by the kernel's own limit
        while (missing := length - sum(map(len, pieces))) > 0:
            piece = self._pread(missing, offset + length - missing)
            if not piece:
                raise TruncatedError(f"the file became shorter while byte {offset + length - missing} was read")
            pieces.append(piece)
        return b"".join(pieces)

    def read_exactly(self, offset: int, length: int, what: str) -> bytes:
        """``length`` bytes from ``offset``; ``what`` names them in the error.

        Raises:
            TruncatedError: they reach beyond the end.
            StoreUnavailableError: the medium failed.
        """
        if offset + length > self.size:
            raise TruncatedError(f"{what} should reach to byte {offset + length}, and the file has {self.size}")
        return self.read(offset, length)

    def extents(self, begin: int = 0, end: int | None = None) -> Iterator[Extent]:
        """The window from ``begin`` to ``end`` in order, without gaps: data, and the file system's holes as zeros.

        Raises:
            StoreUnavailableError: the medium failed.
        """
        end = self.size if end is None else min(end, self.size)
        while begin < end:
            data = min(self._seek(begin, os.SEEK_DATA), end)
            if data > begin:
                yield Extent(begin, data - begin, is_zero=True)
            if data == end:
                return
            # A file that is written meanwhile must not keep this going for ever.
            begin = min(max(self._seek(data, os.SEEK_HOLE), data + 1), end)
            yield Extent(data, begin - data, is_zero=False)

    def pieces(self) -> Iterator[memoryview]:
        """All bytes in order, a piece at a time: holes are not read, which would cost as much as data.

        A piece is good until the next one is asked for.

        Raises:
            TruncatedError: the file has become shorter.
            StoreUnavailableError: the medium failed.
        """
        buffer, zeros = memoryview(bytearray(PIECE_SIZE)), memoryview(bytes(HOLE_SIZE))
        for extent in self.extents():
            offset = extent.offset
            while offset < extent.end:
                if extent.is_zero:
                    piece = zeros[: extent.end - offset]
                else:
                    piece = self._read_into(buffer[: extent.end - offset], offset)
                yield piece
                offset += len(piece)

    def _read_into(self, buffer: memoryview, offset: int) -> memoryview:
        try:
            count = os.preadv(self._descriptor, [buffer], self._start + offset)
        except OSError as exc:
            raise _translated(self.name, exc) from exc
        if count == 0:
            raise TruncatedError(f"the file became shorter while byte {offset} was read")
        return buffer[:count]

    def _seek(self, position: int, whence: int) -> int:
        """The next data or hole; where the file system cannot tell, all is data."""
        try:
            return os.lseek(self._descriptor, self._start + position, whence) - self._start
        except OSError as exc:
            if exc.errno == errno.ENXIO:
                return self.size  # nothing but a hole follows
            if exc.errno in _NO_HOLES:
                return position if whence == os.SEEK_DATA else self.size
            raise _translated(self.name, exc) from exc

    def _pread(self, length: int, offset: int) -> bytes:
        try:
            return os.pread(self._descriptor, length, self._start + offset)
        except OSError as exc:
            raise _translated(self.name, exc) from exc

    def close(self) -> None:
        """Close the file; safe to call twice. No read may be under way."""
        if self._is_open:
            self._is_open = False
            os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class OnFile:
    """What every disk that is read from one file shares: closing it."""

    def __init__(self, file: ByteFile) -> None:
        self._file = file

    def close(self) -> None:
        """Close the file beneath; safe to call twice."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _translated(name: str, error: OSError) -> UnsupportedImageError | StoreUnavailableError:
    if error.errno == errno.ELOOP:
        return UnsupportedImageError(f"{name!r} is a symbolic link")
    said = os.strerror(error.errno) if error.errno else "unknown error"
    return StoreUnavailableError(f"{name!r} cannot be read: {said}")
