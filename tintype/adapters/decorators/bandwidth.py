"""A store takes and gives so many bytes a second at most, all of its writers and readers together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from tintype.adapters.decorators.delegation import DelegatingStore, DelegatingWriter
from tintype.ports.image_store import BlobWriter, ImageStore
from tintype.runtime.token_bucket import TokenBucket


class Bandwidth(DelegatingStore):
    """A store behind one bucket for what is written, and one for what is read."""

    def __init__(self, inner: ImageStore, *, writing: TokenBucket, reading: TokenBucket) -> None:
        super().__init__(inner)
        self._writing = writing
        self._reading = reading

    async def open_write(self, key: str, *, resume: bool = False, replace: bool = False) -> BlobWriter:
        """Begin a staged write, or go on with an interrupted one."""
        return _Writer(await self._inner.open_write(key, resume=resume, replace=replace), self._writing)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield committed bytes, none sooner than the rate allows."""
        return self._paced(self._inner.read(key, offset=offset, length=length))

    def read_uncommitted(self, key: str) -> AsyncIterator[bytes]:
        """Yield the bytes of an unfinished write, none sooner than the rate allows."""
        return self._paced(self._inner.read_uncommitted(key))

    async def _paced(self, reading: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async with aclosing(reading) as pieces:  # type: ignore[type-var]  # every store's read is a generator
            async for piece in pieces:
                await self._reading.take(len(piece))
                yield piece


class _Writer(DelegatingWriter):
    def __init__(self, inner: BlobWriter, pace: TokenBucket) -> None:
        super().__init__(inner)
        self._pace = pace

    async def append(self, data: bytes | memoryview) -> None:
        """Write behind what is there, no sooner than the rate allows."""
        await self._pace.take(len(data))
        await self._inner.append(data)
