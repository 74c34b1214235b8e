"""The file that a backup of the log is: gzip around its records, written and read in threads.

A file may come from anywhere: what it grows to is bounded by what it is, and nothing of it is kept that was not checked
to be next.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator
from typing import BinaryIO

from tintype.codec.log_backup import BackupEncoder, BackupHeader, BackupParser, StoredMessage
from tintype.domain.errors import BackupInvalidError, DecompressionBombError

PIECE_BYTES = 1024 * 1024
"""What is written, read and decompressed at once."""

MAX_RATIO = 200
FREE_BYTES = 64 * 1024 * 1024
"""Events become five to ten times smaller. What grows to more than this and ``MAX_RATIO`` times its size is none."""

_GZIP = 16 + zlib.MAX_WBITS


class BackupWriter:
    """Writes one backup to ``file``, which stays open; ``size_bytes`` is what it has by now."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._encoder = BackupEncoder()
        self._compressor = zlib.compressobj(wbits=_GZIP)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self.size_bytes = 0

    async def begin(self, header: BackupHeader) -> None:
        """Write the header.

        Raises:
            OSError: the file cannot be written to.
        """
        await self._put(self._encoder.header(header))

    async def add(self, message: StoredMessage) -> None:
        """Write the next message.

        Raises:
            BackupInvalidError: it is too large for a backup.
            OSError: the file cannot be written to.
        """
        await self._put(self._encoder.message(message))

    async def end(self) -> str:
        """Write the trailer; the digest in it.

        Raises:
            OSError: the file cannot be written to.
        """
        trailer, digest = self._encoder.trailer()
        self._waiting.append(trailer)
        await asyncio.to_thread(self._write, is_end=True)
        return digest

    async def _put(self, record: bytes) -> None:
        self._waiting.append(record)
        self._waiting_bytes += len(record)
        if self._waiting_bytes >= PIECE_BYTES:
            await asyncio.to_thread(self._write)

    def _write(self, *, is_end: bool = False) -> None:
        data = self._compressor.compress(b"".join(self._waiting))
        if is_end:
            data += self._compressor.flush()
        self._waiting, self._waiting_bytes = [], 0
        # A pipe may take less than it is given.
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self.size_bytes += len(data)


class BackupReader:
    """Reads one backup from ``file``; ``parser`` tells what it says of itself."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.parser = BackupParser()

    async def messages(self) -> AsyncGenerator[list[StoredMessage], None]:
        """Yield every message, some at a time; when it ends, the whole backup was read and is what was written.

        Raises:
            BackupInvalidError: it is no backup, or not whole.
            DecompressionBombError: it grows to far more than it is.
            OSError: it cannot be read.
        """
        bytes_of = GzipPieces(self._file)
        while (some := await asyncio.to_thread(self._next, bytes_of)) is not None:
            if some:
                yield some
        self.parser.finish()

    def _next(self, pieces: GzipPieces) -> list[StoredMessage] | None:
        piece = pieces.next()
        return None if piece is None else list(self.parser.feed(piece))


class GzipPieces:
    """What a gzip file grows to, in pieces of at most 1 MiB; one member, and nothing behind it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decompressor = zlib.decompressobj(wbits=_GZIP)
        self._read = 0
        self._grown = 0

    def next(self) -> bytes | None:
        """The next piece, never empty; ``None`` at the end.

        Raises:
            BackupInvalidError: the file is no gzip file, is cut off, or other bytes follow.
            DecompressionBombError: it grows to far more than it is.
            OSError: it cannot be read.
        """
        while not self._decompressor.eof:
            data = self._decompressor.unconsumed_tail
            if not data:
                data = self._file.read(PIECE_BYTES)
                self._read += len(data)
                if not data:
                    raise BackupInvalidError("this is no backup of a log, or it is cut off: its compressed bytes end")
            if piece := self._decompressed(data):
                return piece
        if self._decompressor.unused_data or self._file.read(1):
            raise BackupInvalidError("this is no backup of a log: other bytes follow its end")
        return None

    def _decompressed(self, data: bytes) -> bytes:
        try:
            piece = self._decompressor.decompress(data, PIECE_BYTES)
        except zlib.error as exc:
            raise BackupInvalidError(
                "this is no backup of a log, or it was changed: it cannot be decompressed"
            ) from exc
        self._grown += len(piece)
        if self._grown > FREE_BYTES + MAX_RATIO * self._read:
            raise DecompressionBombError(f"the backup grows to more than {MAX_RATIO} times its size")
        return piece
