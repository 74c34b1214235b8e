"""Where received bytes go: written and hashed in two threads, in order, with a bound on what waits."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import BinaryIO

from tintype.codec.framing import Payload

_MAX_WAITING = 16
"""Writes and hashes that may wait at once: at 1 MiB each, about 8 MiB of bytes."""


class Drain:
    """Writes to ``file``, and hashes with ``algorithm`` (empty: not at all) beside it."""

    def __init__(self, file: BinaryIO, algorithm: str) -> None:
        self._file = file
        self._hash = hashlib.new(algorithm) if algorithm else None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="download-write")
        self._hasher = ThreadPoolExecutor(1, thread_name_prefix="download-hash")
        self._waiting: deque[asyncio.Future[object]] = deque()

    async def __aenter__(self) -> Drain:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After an error nobody wants what still waits; the write that runs has to end before its file is closed.
        await asyncio.gather(*self._waiting, return_exceptions=True)
        self._writer.shutdown(wait=False)
        self._hasher.shutdown(wait=False)

    async def put(self, data: Payload) -> None:
        """Take ``data``, waiting while too much waits already.

        Raises:
            OSError: an earlier write failed.
        """
        loop = asyncio.get_running_loop()
        self._waiting.append(loop.run_in_executor(self._writer, self._file.write, data))
        if self._hash:
            self._waiting.append(loop.run_in_executor(self._hasher, self._hash.update, data))
        while len(self._waiting) > _MAX_WAITING:
            await self._waiting[0]
            self._waiting.popleft()

    async def finish(self) -> str:
        """Wait for all, and return the digest in hex; empty without an algorithm.

        Raises:
            OSError: a write failed.
        """
        while self._waiting:
            await self._waiting[0]
            self._waiting.popleft()
        await asyncio.get_running_loop().run_in_executor(self._writer, self._file.flush)
        return self._hash.hexdigest() if self._hash else ""
