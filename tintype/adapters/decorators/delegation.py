"""A store and a writer that hand every call on: what a decorator does not change.

A decorator derives from :class:`DelegatingStore`, and overrides the few methods that it is about.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tintype.ports.image_store import (
    BlobWriter,
    DirectLocation,
    Finding,
    ImageStore,
    StoreCapabilities,
    StoredBlob,
    StoreSpace,
    StoreState,
)


class DelegatingWriter:
    """A :class:`~tintype.ports.image_store.BlobWriter` that does what ``inner`` does."""

    def __init__(self, inner: BlobWriter) -> None:
        self._inner = inner

    @property
    def key(self) -> str:
        """What the bytes will be called."""
        return self._inner.key

    @property
    def offset(self) -> int:
        """How many bytes have been appended."""
        return self._inner.offset

    @property
    def local_path(self) -> Path | None:
        """The file that is being written; ``None`` where there is no file."""
        return self._inner.local_path

    async def append(self, data: bytes | memoryview) -> None:
        """Write behind what is there."""
        await self._inner.append(data)

    async def commit(self, *, size: int, digests: Mapping[str, str]) -> None:
        """Make the bytes durable and visible."""
        await self._inner.commit(size=size, digests=digests)

    async def abort(self) -> None:
        """Remove what was written."""
        await self._inner.abort()

    async def close(self) -> None:
        """Stop writing, and keep the bytes."""
        await self._inner.close()


class DelegatingStore:
    """An :class:`~tintype.ports.image_store.ImageStore` that does what ``inner`` does."""

    def __init__(self, inner: ImageStore) -> None:
        self._inner = inner

    @property
    def name(self) -> str:
        """The configured name."""
        return self._inner.name

    @property
    def capabilities(self) -> StoreCapabilities:
        """What it can do beyond the promises."""
        return self._inner.capabilities

    @property
    def state(self) -> StoreState:
        """What is known of it now, without asking it."""
        return self._inner.state

    async def open_write(self, key: str, *, resume: bool = False, replace: bool = False) -> BlobWriter:
        """Begin a staged write, or go on with an interrupted one."""
        return await self._inner.open_write(key, resume=resume, replace=replace)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield committed bytes from ``offset``, ``length`` at most."""
        return self._inner.read(key, offset=offset, length=length)

    def read_uncommitted(self, key: str) -> AsyncIterator[bytes]:
        """Yield the bytes of an unfinished write from the beginning."""
        return self._inner.read_uncommitted(key)

    async def stat(self, key: str) -> StoredBlob:
        """What is under ``key``, committed or not."""
        return await self._inner.stat(key)

    def local_path(self, key: str) -> Path | None:
        """The committed file; ``None`` where the store has no files."""
        return self._inner.local_path(key)

    async def delete(self, key: str) -> None:
        """Remove the bytes of ``key``, committed or not."""
        await self._inner.delete(key)

    def list(self, prefix: str = "") -> AsyncIterator[StoredBlob]:
        """Yield all that is stored under an image's id, or under everything."""
        return self._inner.list(prefix)

    async def check(self) -> None:
        """Find out whether the store can be written and read."""
        await self._inner.check()

    async def examine(self) -> Sequence[Finding]:
        """Look at everything that an operator should know before the store is trusted."""
        return await self._inner.examine()

    async def space(self) -> StoreSpace | None:
        """How much room there is; ``None`` where there is no such thing."""
        return await self._inner.space()

    async def locate(self, key: str, *, expires_in_s: float) -> DirectLocation | None:
        """Where a compute service fetches or clones committed bytes by itself."""
        return await self._inner.locate(key, expires_in_s=expires_in_s)

    async def aclose(self) -> None:
        """End its threads, connections and leases."""
        await self._inner.aclose()


async def end(stream: AsyncIterator[Any]) -> None:
    """End a stream that may not have come to its end, so that what it holds is let go of now."""
    if isinstance(stream, AsyncGenerator):
        await stream.aclose()
