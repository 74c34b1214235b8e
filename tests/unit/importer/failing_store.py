"""A store in memory that fails, hangs or is away on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime

from tintype.adapters.decorators.delegation import DelegatingStore, DelegatingWriter
from tintype.adapters.memory.store import MemoryImageStore
from tintype.domain.errors import StoreUnavailableError
from tintype.ports.image_store import BlobWriter, StoredBlob, StoreMode, StoreState
from tintype.runtime.clock import SystemClock


class FailingStore(DelegatingStore):
    """``fails`` says what a call raises, by its name; an append does so behind ``takes`` bytes, or hangs there.

    While it is ``away``, every call fails. ``hanging`` ends a hang when it is set.
    """

    def __init__(self, name: str, memory: MemoryImageStore | None = None) -> None:
        self.memory = memory or MemoryImageStore(name, SystemClock())
        super().__init__(self.memory)
        self.fails: dict[str, Exception] = {}
        self.takes = 0
        self.hangs = False
        self.hanging = asyncio.Event()
        self.mode = StoreMode.READ_WRITE
        self.is_away = False
        self.aborted = 0

    def require(self, call: str) -> None:
        """Fail, if that call shall."""
        if self.is_away:
            raise StoreUnavailableError(f"store {self.name!r} is away")
        if call in self.fails:
            raise self.fails[call]

    def content(self) -> dict[str, bytes]:
        """What is committed."""
        return {key: bytes(held.data) for key, held in self.memory.committed.items()}

    def is_empty(self) -> bool:
        """Whether there is nothing, committed or not."""
        return not self.memory.committed and not self.memory.uncommitted

    @property
    def state(self) -> StoreState:
        return StoreState(StoreMode.AWAY if self.is_away else self.mode, datetime(2026, 1, 1, tzinfo=UTC))

    async def open_write(self, key: str, *, resume: bool = False, replace: bool = False) -> BlobWriter:
        self.require("open_write")
        return _Writer(self, await super().open_write(key, resume=resume, replace=replace))

    async def stat(self, key: str) -> StoredBlob:
        self.require("stat")
        return await super().stat(key)

    async def delete(self, key: str) -> None:
        self.require("delete")
        await super().delete(key)

    async def read(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        self.require("read")
        async for piece in super().read(key, offset=offset, length=length):
            yield piece

    async def list(self, prefix: str = "") -> AsyncIterator[StoredBlob]:
        self.require("list")
        async for stored in super().list(prefix):
            yield stored


class _Writer(DelegatingWriter):
    def __init__(self, store: FailingStore, inner: BlobWriter) -> None:
        super().__init__(inner)
        self._store = store

    async def append(self, data: bytes | memoryview) -> None:
        if self.offset + len(data) > self._store.takes:
            self._store.require("append")
            if self._store.hangs:
                await self._store.hanging.wait()
        await super().append(data)

    async def commit(self, *, size: int, digests: Mapping[str, str]) -> None:
        self._store.require("commit")
        await super().commit(size=size, digests=digests)
        self._store.require("committed")

    async def abort(self) -> None:
        self._store.require("abort")
        self._store.aborted += 1
        await super().abort()
