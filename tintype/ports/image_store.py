"""Where the bytes of images are kept.

Every adapter keeps these promises, which ``tests/contract/test_image_store.py`` asks of each:

- **Nothing half-written is visible.** Only :meth:`BlobWriter.commit` makes bytes readable, all at once and durably.
- **Nothing is left behind.** An aborted write leaves no bytes; an abandoned one is found by :meth:`ImageStore.list`.
- **One writer.** A key has at most one open writer, across processes.
- **Keys are paths** of the form ``<image id>/<operation id>/<name>``; whatever else is refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """What a store has under a key: ``size`` in bytes, and whether it is committed or still being written.

    ``is_leased``: a writer that lives holds it now, so that nobody else may remove it for its age.
    """

    key: str
    size: int
    is_committed: bool
    modified_at: datetime
    is_leased: bool = False


class HandoverKind(StrEnum):
    """How a compute service can get at bytes without Tintype in between."""

    PRESIGNED_URL = "presigned-url"
    """An http or https URL that anybody may fetch until it expires."""

    RBD = "rbd"
    """``rbd://FSID/POOL/IMAGE/SNAPSHOT``: a protected snapshot, to clone or to read with the service's own key."""

    FILE = "file"
    """``file://`` and a path on a file system that both have mounted."""

    CINDER = "cinder"
    """``cinder://VOLUME``: a volume, to clone with the service's own credentials."""


@dataclass(frozen=True, slots=True)
class DirectLocation:
    """A place to fetch or clone bytes from; ``expires_at`` is ``None`` where the place itself does not expire.

    ``url`` may let whoever has it read the bytes: it is told to its receiver, and kept and logged nowhere.
    """

    kind: HandoverKind
    url: str = field(repr=False)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StoreCapabilities:
    """What a store can do beyond the promises above.

    ``is_sparse``: long runs of zeros take no room. ``handover``: how it hands bytes over directly, ``None`` where it
    cannot. Of a killed writer's bytes at most the last ``lost_tail_bytes`` are lost.
    """

    is_sparse: bool
    handover: HandoverKind | None = None
    lost_tail_bytes: int = 0


@dataclass(frozen=True, slots=True)
class StoreSpace:
    """Room, in bytes: of ``total`` so much is ``free`` for the service."""

    free: int
    total: int


class StoreMode(StrEnum):
    """What a store can be used for now."""

    READ_WRITE = "read-write"
    READ_ONLY = "read-only"
    """Writes are refused with ``STORE_READ_ONLY``; what can be read is read."""

    AWAY = "away"
    """Nothing works."""


@dataclass(frozen=True, slots=True)
class StoreState:
    """The mode that a store is in, since when, and why, where it is not the normal one."""

    mode: StoreMode
    since: datetime
    reason: str = ""
    message: str = ""


class Grade(StrEnum):
    """How an examination ended."""

    GOOD = "good"
    DOUBTFUL = "doubtful"
    """It works, and is not how it should be in production."""
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: its stable name (``mount-point-unwritable``), what was found, and what mends it."""

    name: str
    grade: Grade
    found: str
    advice: str = ""


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
            StoreUnavailableError: the store failed (its subclasses say how), or the write was swept.
        """
        ...

    async def commit(self, *, size: int, digests: Mapping[str, str]) -> None:
        """Make the bytes durable and visible.

        ``digests`` (algorithm → hex) are what the store may compare with what it has.

        Raises:
            BlobDamagedError: the store has another size or digest; the write is aborted.
            StoreFullError, StoreUnavailableError: as for ``append``; the write is aborted.
            StoreTimeoutError: nobody knows what became of it. All of the bytes are visible, or will be in a while, or
                they never will; never a part of them. To open a write of the key tells, with AlreadyExistsError or
                without; what is there then is as good as any other commit. ``delete`` ends it either way.
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

    @property
    def capabilities(self) -> StoreCapabilities:
        """What it can do beyond the promises."""
        ...

    @property
    def state(self) -> StoreState:
        """What is known of it now, without asking it."""
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
            StoreFullError: it can be read, and has no room.
            StoreUnavailableError: it cannot; the message says what is wrong.
        """
        ...

    async def examine(self) -> Sequence[Finding]:
        """Look at everything that an operator should know before the store is trusted; never raises for what it finds.

        The store's own access, room, permissions and durability, each under a stable name.
        """
        ...

    async def space(self) -> StoreSpace | None:
        """How much room there is; ``None`` where there is no such thing.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        ...

    async def locate(self, key: str, *, expires_in_s: float) -> DirectLocation | None:
        """Where a compute service fetches or clones committed bytes by itself; ``None`` where that cannot be.

        Raises:
            BlobNotFoundError: nothing committed under that key.
            StoreUnavailableError: the store does not answer.
        """
        ...

    async def aclose(self) -> None:
        """End its threads, connections and leases."""
        ...
