"""A store in memory that fails or hangs when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from tintype.adapters.decorators.delegation import DelegatingStore, DelegatingWriter
from tintype.adapters.memory.store import MemoryImageStore
from tintype.ports.image_store import BlobWriter, ImageStore
from tintype.runtime.clock import SystemClock

KEY = "6f1c1a44-8a3e-4cf4-9d0c-0d3c1f9f0a01/9b2d1a44-8a3e-4cf4-9d0c-0d3c1f9f0b01/source"


class FailingStore(DelegatingStore):
    """Each call takes the next of ``failures`` and raises it, as long as there are any."""

    def __init__(self, failures: Iterable[Exception] = ()) -> None:
        super().__init__(MemoryImageStore("main", SystemClock()))
        self.failures = list(failures)
        self.calls: list[str] = []
        self.hang: asyncio.Event | None = None
        self.takes_before_failing = 0
        self.pieces_before_failing = 0

    async def may_fail(self, call: str) -> None:
        self.calls.append(call)
        if self.hang is not None:
            await self._hang_like_a_thread(self.hang)
        if self.failures:
            raise self.failures.pop(0)

    async def open_write(self, key: str, *, resume: bool = False, replace: bool = False) -> BlobWriter:
        await self.may_fail("open_write")
        return _Writer(await self._inner.open_write(key, resume=resume, replace=replace), self)

    async def read(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        self.calls.append(f"read {offset}+{length}")
        position = offset
        async for piece in self._inner.read(key, offset=offset, length=length):
            for begin in range(0, len(piece), 4):
                if self.failures and position >= offset + 4 * self.pieces_before_failing:
                    raise self.failures.pop(0)
                yield piece[begin : begin + 4]
                position += 4

    async def check(self) -> None:
        await self.may_fail("check")

    async def _hang_like_a_thread(self, released: asyncio.Event) -> None:
        """Wait, and let no cancellation end that."""
        waiting = asyncio.ensure_future(released.wait())
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            await asyncio.wait([waiting])


class _Writer(DelegatingWriter):
    def __init__(self, inner: BlobWriter, store: FailingStore) -> None:
        super().__init__(inner)
        self._store = store

    async def append(self, data: bytes | memoryview) -> None:
        if self._store.failures and self._store.takes_before_failing:
            await self._inner.append(data[: self._store.takes_before_failing])
            data = data[self._store.takes_before_failing :]
        await self._store.may_fail("append")
        await self._inner.append(data)

    async def abort(self) -> None:
        self._store.calls.append("abort")
        await self._inner.abort()

    async def close(self) -> None:
        self._store.calls.append("close")
        await self._inner.close()

    async def commit(self, *, size: int, digests: object) -> None:
        try:
            await self._store.may_fail("commit")
        except Exception:
            await self._inner.abort()
            raise
        await self._inner.commit(size=size, digests={})


async def put(store: ImageStore, data: bytes) -> None:
    writer = await store.open_write(KEY)
    await writer.append(data)
    await writer.commit(size=len(data), digests={})


async def read(store: ImageStore, offset: int = 0, length: int | None = None) -> bytes:
    return b"".join([piece async for piece in store.read(KEY, offset=offset, length=length)])
