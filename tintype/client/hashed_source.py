"""Hashing an upload's bytes while they are sent: each byte once, however often a broken stream sends it again."""

from __future__ import annotations

import asyncio
import hashlib

from tintype.client.errors import UploadInterruptedError
from tintype.client.sources import Source
from tintype.domain.values import Digest


class HashedSource:
    """A source whose bytes are hashed as they are read for the first time, while the ones before are sent."""

    def __init__(self, source: Source, algorithm: str) -> None:
        self.size = source.size
        self._source = source
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm)
        self._hashed = 0
        self._running: asyncio.Future[None] | None = None

    async def read(self, offset: int) -> bytes:
        """At most one message's bytes from ``offset``; empty at the end.

        Raises:
            UploadInterruptedError: the bytes at ``offset`` cannot be had again, or some before it were never read.
        """
        data = await self._source.read(offset)
        if offset > self._hashed:
            raise UploadInterruptedError(f"the upload goes on at {offset}, and only {self._hashed} bytes were hashed")
        fresh = memoryview(data)[self._hashed - offset :]
        if fresh:
            await self._settled()
            self._running = asyncio.get_running_loop().run_in_executor(None, self._hash.update, fresh)
            self._hashed += len(fresh)
        return data

    async def digest(self) -> Digest:
        """The digest of all bytes that were read."""
        await self._settled()
        return Digest(self._algorithm, self._hash.hexdigest())

    async def _settled(self) -> None:
        if self._running is not None:
            await self._running
