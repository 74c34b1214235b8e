"""The image store in memory: what is committed, what is being written, and by whom."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import (
    AlreadyExistsError,
    BlobDamagedError,
    BlobNotFoundError,
    StoreFullError,
    StoreUnavailableError,
    UploadBusyError,
)
from tintype.domain.values import image_id
from tintype.ports.clock import Clock
from tintype.ports.image_store import (
    DirectLocation,
    Finding,
    Grade,
    StoreCapabilities,
    StoredBlob,
    StoreMode,
    StoreSpace,
    StoreState,
)

PIECE_SIZE = 1024 * 1024


@dataclass(slots=True)
class _Bytes:
    modified_at: datetime
    data: bytearray = field(default_factory=bytearray)
    has_writer: bool = False


class MemoryWriter:
    """A staged write into memory."""

    def __init__(self, store: MemoryImageStore, key: str, target: _Bytes) -> None:
        self._store = store
        self._key = key
        self._target = target
        self._is_open = True

    @property
    def key(self) -> str:
        """What the bytes will be called."""
        return self._key

    @property
    def offset(self) -> int:
        """How many bytes have been appended."""
        return len(self._target.data)

    @property
    def local_path(self) -> Path | None:
        """There is no file."""
        return None

    async def append(self, data: bytes | memoryview) -> None:
        """Write behind what is there.

        Raises:
            StoreFullError: beyond the store's capacity.
            StoreUnavailableError: the write was swept.
        """
        self._require_current()
        self._store.require_room(len(data))
        self._target.data += data
        self._target.modified_at = self._store.now()

    async def commit(self, *, size: int, digests: Mapping[str, str]) -> None:
        """Make the bytes visible.

        Raises:
            BlobDamagedError: there are more or fewer than ``size``.
            StoreUnavailableError: the write was swept.
        """
        self._require_current()
        if len(self._target.data) != size:
            await self.abort()
            raise BlobDamagedError(f"{size} bytes were to be committed, and {len(self._target.data)} are there")
        self._store.committed[self._key] = self._store.uncommitted.pop(self._key)
        await self.close()

    async def abort(self) -> None:
        """Remove what was written."""
        if self._is_open and self._store.uncommitted.get(self._key) is self._target:
            del self._store.uncommitted[self._key]
        await self.close()

    async def close(self) -> None:
        """Stop writing, and keep the bytes."""
        if self._is_open:
            self._is_open = False
            self._target.has_writer = False

    def _require_current(self) -> None:
        if not self._is_open or self._store.uncommitted.get(self._key) is not self._target:
            raise StoreUnavailableError("the bytes were removed from the store while they were written")


class MemoryImageStore:
    """An :class:`~tintype.ports.image_store.ImageStore` of ``capacity`` bytes, with names for its tests to look at."""

    def __init__(self, name: str, clock: Clock, *, capacity: int = 1 << 30) -> None:
        self._name = name
        self._clock = clock
        self._capacity = capacity
        self._since = clock.now()
        self.committed: dict[str, _Bytes] = {}
        self.uncommitted: dict[str, _Bytes] = {}

    @property
    def name(self) -> str:
        """The configured name."""
        return self._name

    @property
    def capabilities(self) -> StoreCapabilities:
        """Memory keeps every byte, and hands none over."""
        return StoreCapabilities(is_sparse=False)

    @property
    def state(self) -> StoreState:
        """Memory always works."""
        return StoreState(StoreMode.READ_WRITE, self._since)

    async def open_write(self, key: str, *, resume: bool = False, replace: bool = False) -> MemoryWriter:
        """Begin a staged write, or go on with an interrupted one.

        Raises:
            UploadBusyError: another writer is at it.
            BlobNotFoundError: there is nothing to resume.
            AlreadyExistsError: bytes of that key are committed, and are not to be replaced.
        """
        BlobKey.parse(key)
        if key in self.committed and not replace:
            raise AlreadyExistsError("bytes are committed under that key")
        target = self.uncommitted.get(key)
        if target and target.has_writer:
            raise UploadBusyError("another writer is at those bytes")
        if resume and not target:
            raise BlobNotFoundError("there is no unfinished write to resume")
        if not resume or target is None:
            target = self.uncommitted[key] = _Bytes(self.now())
        target.has_writer = True
        return MemoryWriter(self, key, target)

    async def read(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield committed bytes from ``offset``, ``length`` at most, in pieces of at most 1 MiB.

        Raises:
            BlobNotFoundError: nothing committed under that key.
        """
        async for piece in _pieces(self.committed, key, offset, length):
            yield piece

    async def read_uncommitted(self, key: str) -> AsyncIterator[bytes]:
        """Yield the bytes of an unfinished write from the beginning.

        Raises:
            BlobNotFoundError: no unfinished write under that key.
        """
        async for piece in _pieces(self.uncommitted, key, 0, None):
            yield piece

    async def stat(self, key: str) -> StoredBlob:
        """What is under ``key``, committed or not.

        Raises:
            BlobNotFoundError: nothing.
        """
        BlobKey.parse(key)
        for area in (self.committed, self.uncommitted):
            if key in area:
                return self._stored(key, area)
        raise BlobNotFoundError(f"store {self._name!r} has nothing under that key")

    def local_path(self, key: str) -> Path | None:
        """There are no files."""
        BlobKey.parse(key)
        return None

    async def delete(self, key: str) -> None:
        """Remove the bytes of ``key``, committed or not."""
        BlobKey.parse(key)
        self.committed.pop(key, None)
        self.uncommitted.pop(key, None)

    async def list(self, prefix: str = "") -> AsyncIterator[StoredBlob]:
        """Yield all that is stored under an image's id, or under everything: committed and not."""
        begin = f"{image_id(prefix)}/" if prefix else ""
        for area in (self.committed, self.uncommitted):
            for key in sorted(area):
                if key.startswith(begin):
                    yield self._stored(key, area)

    async def check(self) -> None:
        """Memory can always be written and read."""

    async def examine(self) -> Sequence[Finding]:
        """Memory works, and forgets."""
        advice = "Use it in tests only."
        return (Finding("durability", Grade.DOUBTFUL, "the bytes are in memory, and gone with the process", advice),)

    async def space(self) -> StoreSpace | None:
        """What is left of the capacity."""
        return StoreSpace(max(0, self._capacity - self._used()), self._capacity)

    async def locate(self, key: str, *, expires_in_s: float) -> DirectLocation | None:
        """There is nothing that others could reach.

        Raises:
            BlobNotFoundError: nothing committed under that key.
        """
        BlobKey.parse(key)
        if key not in self.committed:
            raise BlobNotFoundError(f"store {self._name!r} has no such bytes")
        return None

    async def aclose(self) -> None:
        """There is nothing to end."""

    def now(self) -> datetime:
        """The time of a change."""
        return self._clock.now()

    def require_room(self, size: int) -> None:
        """Check that ``size`` more bytes fit.

        Raises:
            StoreFullError: they do not.
        """
        if self._used() + size > self._capacity:
            raise StoreFullError(f"store {self._name!r} has no room left")

    def _used(self) -> int:
        return sum(len(held.data) for area in (self.committed, self.uncommitted) for held in area.values())

    def _stored(self, key: str, area: Mapping[str, _Bytes]) -> StoredBlob:
        held = area[key]
        return StoredBlob(key, len(held.data), area is self.committed, held.modified_at, held.has_writer)


async def _pieces(area: Mapping[str, _Bytes], key: str, offset: int, length: int | None) -> AsyncIterator[bytes]:
    BlobKey.parse(key)
    if key not in area:
        raise BlobNotFoundError("the store has no such bytes")
    data = bytes(area[key].data)[offset:]
    data = data if length is None else data[:length]
    for begin in range(0, len(data), PIECE_SIZE):
        yield data[begin : begin + PIECE_SIZE]
