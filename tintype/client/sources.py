"""Where an upload takes its bytes from: a file that can be read again, or a stream that cannot."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar, cast

from tintype.client.errors import UploadInterruptedError
from tintype.codec.framing import MESSAGE_SIZE

A = TypeVar("A")
R = TypeVar("R")

KEPT_BYTES = 16 * MESSAGE_SIZE
"""How much of a stream is kept, to be sent again after a break."""


class Source(Protocol):
    """Bytes by offset; ``size`` in bytes where it is known before the end."""

    size: int | None

    async def read(self, offset: int) -> bytes:
        """At most one message's bytes from ``offset``; empty at the end.

        Raises:
            UploadInterruptedError: the bytes at ``offset`` cannot be had again.
        """
        ...


@asynccontextmanager
async def open_source(source: Path | str | BinaryIO | AsyncIterator[bytes]) -> AsyncIterator[Source]:
    """Make a path, a binary file or an iterator readable; what was opened here is closed here.

    Raises:
        OSError: the file cannot be opened.
    """
    if isinstance(source, AsyncIterator):
        yield StreamSource(source)
        return
    file = source if not isinstance(source, (str, Path)) else await in_daemon_thread(_open, Path(source))
    try:
        if file.seekable():
            with ThreadPoolExecutor(1, thread_name_prefix="upload") as thread:
                yield await FileSource.of(file, thread)
        else:
            yield StreamSource(_read_on(file))
    finally:
        if file is not source:
            file.close()


def _open(path: Path) -> BinaryIO:
    return path.open("rb", buffering=0)


class FileSource:
    """A file that can seek. The next message's bytes are read, in a thread, while one is sent."""

    def __init__(self, file: BinaryIO, start: int, size: int, thread: ThreadPoolExecutor) -> None:
        self.size: int | None = size
        self._file = file
        self._start = start
        self._thread = thread
        self._ahead: tuple[int, asyncio.Future[bytes]] | None = None

    @classmethod
    async def of(cls, file: BinaryIO, thread: ThreadPoolExecutor) -> FileSource:
        """A source from the file's present position to its end."""

        def measure() -> tuple[int, int]:
            start = file.tell()
            return start, file.seek(0, os.SEEK_END) - start

        start, size = await asyncio.get_running_loop().run_in_executor(thread, measure)
        return cls(file, start, size, thread)

    async def read(self, offset: int) -> bytes:
        """At most one message's bytes from ``offset``."""
        ahead = self._ahead
        future = ahead[1] if ahead and ahead[0] == offset else self._begin(offset)
        self._ahead = None
        data = await future
        if data:
            self._ahead = (offset + len(data), self._begin(offset + len(data)))
        return data

    def _begin(self, offset: int) -> asyncio.Future[bytes]:
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._read, offset)
        # A read ahead that nobody wants any more may fail without being heard.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return future

    def _read(self, offset: int) -> bytes:
        self._file.seek(self._start + offset)
        return self._file.read(MESSAGE_SIZE)


class StreamSource:
    """A stream that is read once; its last :data:`KEPT_BYTES` are kept, and no others."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self.size: int | None = None
        self._chunks = chunks
        self._rest = b""
        self._kept: deque[bytes] = deque()
        self._kept_from = 0
        self._end = 0

    async def read(self, offset: int) -> bytes:
        """At most one message's bytes from ``offset``.

        Raises:
            UploadInterruptedError: they are kept no longer.
        """
        if offset < self._kept_from:
            raise UploadInterruptedError(
                f"the connection broke, and the stream's bytes from {offset} on are kept no longer"
            )
        if offset < self._end:
            return self._again(offset)
        message = await self._next()
        self._kept.append(message)
        self._end += len(message)
        while self._end - self._kept_from > KEPT_BYTES:
            self._kept_from += len(self._kept.popleft())
        return message

    def _again(self, offset: int) -> bytes:
        position = self._kept_from
        for message in self._kept:
            if offset < position + len(message):
                return message[offset - position :]
            position += len(message)
        raise AssertionError("an offset before the end is in one of the kept messages")

    async def _next(self) -> bytes:
        parts = [self._rest]
        length = len(self._rest)
        while length < MESSAGE_SIZE:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                break
            parts.append(bytes(chunk))
            length += len(chunk)
        whole = b"".join(parts)
        self._rest = whole[MESSAGE_SIZE:]
        return whole[:MESSAGE_SIZE]


async def _read_on(file: BinaryIO) -> AsyncIterator[bytes]:
    while data := await in_daemon_thread(_read_message, file):
        yield data


def _read_message(file: BinaryIO) -> bytes:
    """Read until a message is full: a pipe gives less at a time."""
    parts: list[bytes] = []
    left = MESSAGE_SIZE
    while left and (data := file.read(left)):
        parts.append(data)
        left -= len(data)
    return b"".join(parts)


async def in_daemon_thread(function: Callable[[A], R], argument: A) -> R:
    """Call ``function`` in a thread that nobody waits for: a pipe may never give what is asked of it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[R] = loop.create_future()

    def settle(result: R | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast("R", result))

    def run() -> None:
        try:
            outcome: tuple[R | None, BaseException | None] = (function(argument), None)
        except BaseException as exc:
            outcome = (None, exc)
        # A loop that is closed wants no result any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, name="upload-pipe", daemon=True).start()
    return await future
