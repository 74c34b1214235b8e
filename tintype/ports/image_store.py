"""Where the bytes of images are kept.

Every adapter keeps these promises, which ``tests/contract/test_image_store.py`` asks of each:

- **Nothing half-written is visible.** Only :meth:`BlobWriter.commit` makes bytes readable, all at once and durably.
- **Nothing is left behind.** An aborted write leaves no bytes; an abandoned one is found by :meth:`ImageStore.list`.
- **One writer.** A key has at most one open writer, across processes.
- **Keys are paths** of the form ``<image id>/<operation id>/<name>``; whatever else is refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """What a store has under a key: ``size`` in bytes, and whether it is committed or still being written."""

    key: str
    size: int
    is_committed: bool
    modified_at: datetime


class BlobWriter(Protocol):
    """A staged write. Exactly one of ``commit``, ``abort`` and ``close`` ends it."""

    @property
    def key(self) -> str:
        """What the bytes will be called."""
        ...

    @property
    def offset(self) -> int:
        """How many bytes have been appended."""
        ...

    @property
    def local_path(self) -> Path | None:
        """The file that is being written, for a program that writes it by itself; ``None`` where there is no file."""
        ...

    async def append(self, data: bytes | memoryview) -> None:
        """Write ``data`` behind what is there.

        Raises:
            StoreFullError: no room.
            StoreUnavailableError: the store failed, or the write was swept.
        """
        ...

    async def commit(self, *, size: int, digests: Mapping[str, str]) -> None:
        """Make the bytes durable and visible.

        ``digests`` (algorithm → hex) are what the store may compare with what it has.

        Raises:
            BlobDamagedError: the store has another size or digest; the write is aborted.
            StoreFullError, StoreUnavailableError: as for ``append``; the write is aborted.
        """
        ...

    async def abort(self) -> None:
        """Remove what was written. Safe to call twice, and after a failed ``commit``."""
        ...

    async def close(self) -> None:
        """Stop writing, and keep the bytes so that ``open_write(resume=True)`` can go on behind them."""
        ...


class ImageStore(Protocol):
    """One place of bytes, with the name that the deployment gave it."""

    @property
    def name(self) -> str:
        """The configured name."""
        ...

    async def open_write(self, key: str, *, resume: bool = False, replace: bool = False) -> BlobWriter:
        """Begin a staged write, or go on with an interrupted one.

        With ``replace`` bytes may be committed under the key: they stay as they are until the commit, which puts the
        new ones in their place at once; whoever reads them meanwhile reads them to their end. That is for healing a
        damaged copy: the bytes of an image never change.

        Raises:
            UploadBusyError: another writer is at it.
            BlobNotFoundError: there is nothing to resume.
            AlreadyExistsError: bytes of that key are committed, and are not to be replaced.
        """
        ...

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield committed bytes from ``offset``, ``length`` at most, in pieces of at most 1 MiB.

        Raises:
            BlobNotFoundError: nothing committed under that key.
            BlobDamagedError: the store has the bytes, and cannot read some of them.
        """
        ...

    def read_uncommitted(self, key: str) -> AsyncIterator[bytes]:
        """Yield the bytes of an unfinished write from the beginning, as :meth:`read` does; for resuming a hash.

        Raises:
            BlobNotFoundError: no unfinished write under that key.
        """
        ...

    async def stat(self, key: str) -> StoredBlob:
        """What is under ``key``, committed or not.

        Raises:
            BlobNotFoundError: nothing.
        """
        ...

    def local_path(self, key: str) -> Path | None:
        """The committed file, for a program that reads it by itself; ``None`` where the store has no files."""
        ...

    async def delete(self, key: str) -> None:
        """Remove the bytes of ``key``, committed or not; it is no error that there are none."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[StoredBlob]:
        """Yield all that is stored under an image's id, or under everything: committed and not."""
        ...

    async def check(self) -> None:
        """Find out whether the store can be written and read.

        Raises:
            StoreUnavailableError: it cannot; the message says what is wrong.
        """
        ...
