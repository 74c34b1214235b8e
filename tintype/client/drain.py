"""Where received bytes go: written and hashed in two threads, in order, with a bound on what waits."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import BinaryIO

from tintype.codec.framing import MESSAGE_SIZE, Payload

_BATCH_BYTES = 4 * MESSAGE_SIZE
"""What goes to the threads at once: a hand-over costs more than the hash of a message should wait for."""

_MAX_WAITING = 4
"""Batches that may wait at once."""


class Drain:
    """Writes to ``file``, and hashes with ``algorithm`` (empty: not at all) beside it."""

    def __init__(self, file: BinaryIO, algorithm: str) -> None:
        self._file = file
        self._hash = hashlib.new(algorithm) if algorithm else None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="download-write")
        self._hasher = ThreadPoolExecutor(1, thread_name_prefix="download-hash")
        self._batch: list[Payload] = []
        self._batch_bytes = 0
        self._waiting: deque[tuple[asyncio.Future[None], ...]] = deque()

    async def __aenter__(self) -> Drain:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After an error nobody wants what still waits; the write that runs has to end before its file is closed.
        await asyncio.gather(*(future for futures in self._waiting for future in futures), return_exceptions=True)
        self._writer.shutdown(wait=False)
        self._hasher.shutdown(wait=False)

    async def put(self, data: Payload) -> None:
        """Take ``data``, waiting while too much waits already.

        Raises:
            OSError: an earlier write failed.
        """
        self._batch.append(data)
        self._batch_bytes += len(data)
        if self._batch_bytes >= _BATCH_BYTES:
            self._hand_over()
            await self._wait_for(_MAX_WAITING)

    async def finish(self) -> str:
        """Wait for all, and return the digest in hex; empty without an algorithm.

        Raises:
            OSError: a write failed.
        """
        self._hand_over()
        await self._wait_for(0)
        await asyncio.get_running_loop().run_in_executor(self._writer, self._file.flush)
        return self._hash.hexdigest() if self._hash else ""

    def _hand_over(self) -> None:
        loop = asyncio.get_running_loop()
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        futures = [loop.run_in_executor(self._writer, self._write, batch)]
        if self._hash:
            futures.append(loop.run_in_executor(self._hasher, self._update, batch))
        self._waiting.append(tuple(futures))

    async def _wait_for(self, length: int) -> None:
        while len(self._waiting) > length:
            await asyncio.gather(*self._waiting[0])
            self._waiting.popleft()

    def _write(self, batch: list[Payload]) -> None:
        for data in batch:
            self._file.write(data)

    def _update(self, batch: list[Payload]) -> None:
        if self._hash:
            for data in batch:
                self._hash.update(data)
