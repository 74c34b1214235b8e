"""The image store in a pool of Ceph block devices: each key an image, committed once it has a protected snapshot.

So every compute service that may read the pool can clone an image without copying a byte, as from Glance. What librbd
does happens in a process of its own: :mod:`tintype.adapters.rbd.process`; what it does with names and locks is told in
:mod:`tintype.adapters.rbd.child.pool`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tintype.adapters.rbd.findings import findings
from tintype.adapters.rbd.names import image_name, key_of, snapshot_url
from tintype.adapters.rbd.process import CephProcess, Session
from tintype.adapters.rbd.settings import RbdStoreSettings
from tintype.adapters.rbd.writer import RbdWriter
from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import BlobNotFoundError, TintypeError
from tintype.domain.values import image_id
from tintype.ports.image_store import (
    DirectLocation,
    Finding,
    Grade,
    HandoverKind,
    StoreCapabilities,
    StoredBlob,
    StoreMode,
    StoreSpace,
    StoreState,
)

PIECE_SIZE = 1024 * 1024
_READ_SIZE = 4 * PIECE_SIZE
_STATS_AT_ONCE = 64
_ZEROS = bytes(PIECE_SIZE)
RECORD_EVERY = 64 * 1024 * 1024
"""After so many bytes it is made durable how far a writer has come, which is where a killed one's bytes end."""


class RbdImageStore:
    """An :class:`~tintype.ports.image_store.ImageStore` in one pool."""

    def __init__(self, name: str, settings: RbdStoreSettings, *, record_every: int = RECORD_EVERY) -> None:
        self._name = name
        self._pool = settings.pool
        self._record_every = record_every
        self._lost_tail = record_every + (settings.writes_in_flight + 2) * _READ_SIZE
        self._process = CephProcess(name, settings.python, _options(settings, record_every))
        self._since = datetime.now(UTC)

    @property
    def name(self) -> str:
        """The configured name."""
        return self._name

    @property
    def capabilities(self) -> StoreCapabilities:
        """Zeros are holes, and a compute service can clone the snapshot."""
        return StoreCapabilities(is_sparse=True, handover=HandoverKind.RBD, lost_tail_bytes=self._lost_tail)

    @property
    def state(self) -> StoreState:
        """A pool is taken to work until a call fails."""
        return StoreState(StoreMode.READ_WRITE, self._since)

    @property
    def ceph_pid(self) -> int | None:
        """The process that talks to Ceph now."""
        return self._process.pid

    async def prepare(self) -> None:
        """See that the bindings are there.

        Raises:
            ConfigurationError: they are not.
        """
        await self._process.require_bindings()

    async def aclose(self) -> None:
        """End the Ceph process."""
        await self._process.aclose()

    async def open_write(self, key: str, *, resume: bool = False, replace: bool = False) -> RbdWriter:
        """Begin a staged write, or go on with an interrupted one.

        Raises:
            UploadBusyError: another writer is at it, or was killed so lately that Ceph has not missed it yet.
            BlobNotFoundError: there is nothing to resume.
            AlreadyExistsError: bytes of that key are committed, and are not to be replaced.
        """
        parsed = BlobKey.parse(key)
        opening = asyncio.ensure_future(
            self._process.session("open_write", name=image_name(parsed), resume=resume, replace=replace)
        )
        session, answer = await _or_undone(opening, "close_write")
        return RbdWriter(session, parsed, int(answer["offset"]))

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield committed bytes from ``offset``, ``length`` at most, in pieces of at most 1 MiB.

        Raises:
            BlobNotFoundError: nothing committed under that key.
            BlobDamagedError: Ceph cannot read some of them.
        """
        return self._read(BlobKey.parse(key), offset, length, committed=True)

    def read_uncommitted(self, key: str) -> AsyncIterator[bytes]:
        """Yield the bytes of an unfinished write from the beginning, as far as they are durable.

        Raises:
            BlobNotFoundError: no unfinished write under that key.
        """
        return self._read(BlobKey.parse(key), 0, None, committed=False)

    async def stat(self, key: str) -> StoredBlob:
        """What is under ``key``, committed or not.

        Raises:
            BlobNotFoundError: nothing.
        """
        parsed = BlobKey.parse(key)
        (found,) = await self._stat([image_name(parsed)])
        if not found:
            raise BlobNotFoundError(f"store {self._name!r} has nothing under that key of image {parsed.image_id}")
        return _stored(key, found[0])

    def local_path(self, key: str) -> Path | None:
        """There are no files."""
        BlobKey.parse(key)
        return None

    async def delete(self, key: str) -> None:
        """Remove the bytes of ``key``, committed or not; what is read or cloned goes to the pool's trash until then."""
        await self._process.ask("delete", name=image_name(BlobKey.parse(key)))

    async def list(self, prefix: str = "") -> AsyncIterator[StoredBlob]:
        """Yield all that is stored under an image's id, or under everything; what else is in the pool is left alone.

        After everything, what was deleted is removed, as far as nobody reads or clones it any more.
        """
        begin = f"{image_id(prefix)}." if prefix else ""
        answer, _ = await self._process.ask("names", begin=begin)
        keys = sorted({key for name in answer["names"] if (key := key_of(str(name))) is not None})
        for at in range(0, len(keys), _STATS_AT_ONCE):
            some = keys[at : at + _STATS_AT_ONCE]
            for key, found in zip(some, await self._stat([key.replace("/", ".") for key in some]), strict=True):
                for each in found:
                    yield _stored(key, each)
        if not prefix:
            await self._process.ask("purge")

    async def check(self) -> None:
        """Find out whether the pool can be written and read.

        Raises:
            StoreUnavailableError: it cannot; the message says what is wrong.
        """
        await self._process.ask("check", name=f"tintype.check-{uuid.uuid4().hex}")

    async def examine(self) -> Sequence[Finding]:
        """The connection, the pool, the user's rights, the cluster's health, room and what waits in the trash."""
        try:
            answer, _ = await self._process.ask("examine", name=f"tintype-check-{uuid.uuid4().hex}")
        except TintypeError as exc:
            return (Finding("connection", Grade.BAD, exc.message, exc.hint),)
        return findings(self._name, self._pool, self._process.fsid, answer)

    async def space(self) -> StoreSpace | None:
        """What the pool has left within its quota; ``None`` where no manager of Ceph counts it.

        Raises:
            StoreUnavailableError: Ceph does not answer.
        """
        answer, _ = await self._process.ask("space")
        room = answer["room"]
        return StoreSpace(int(room["free"]), int(room["total"])) if room else None

    async def locate(self, key: str, *, expires_in_s: float) -> DirectLocation | None:
        """The snapshot; who may read it, and for how long, is up to Ceph's own users.

        Raises:
            BlobNotFoundError: nothing committed under that key.
            StoreUnavailableError: Ceph does not answer.
        """
        parsed = BlobKey.parse(key)
        if not (await self.stat(key)).is_committed:
            raise BlobNotFoundError(f"store {self._name!r} has no such bytes of image {parsed.image_id}")
        return DirectLocation(HandoverKind.RBD, snapshot_url(self._process.fsid, self._pool, image_name(parsed)))

    async def _stat(self, names: Sequence[str]) -> Sequence[Sequence[Mapping[str, Any]]]:
        answer, _ = await self._process.ask("stat", names=list(names))
        found: Sequence[Sequence[Mapping[str, Any]]] = answer["found"]
        return found

    async def _read(self, key: BlobKey, offset: int, length: int | None, *, committed: bool) -> AsyncIterator[bytes]:
        opening = asyncio.ensure_future(self._process.session("open_read", name=image_name(key), committed=committed))
        session, answer = await _or_undone(opening, "close_read")
        size = int(answer["size"])
        end = size if length is None else min(size, offset + length)
        ahead: asyncio.Task[bytes | int] | None = None
        try:
            while offset < end:
                ahead = ahead or asyncio.create_task(_fetch(session, offset, end))
                data, ahead = await ahead, None
                offset += data if isinstance(data, int) else len(data)
                if offset < end:  # the next part comes while the caller works on this one
                    ahead = asyncio.create_task(_fetch(session, offset, end))
                for piece in _pieces(data):
                    yield piece
        finally:
            if ahead is not None:
                await asyncio.wait([ahead])
                if not ahead.cancelled():
                    ahead.exception()
            await _quietly(session, "close_read")


def _options(settings: RbdStoreSettings, record_every: int) -> dict[str, Any]:
    return {
        "pool": settings.pool,
        "user": settings.user,
        "cluster": settings.cluster,
        "conf_file": str(settings.conf_file),
        "keyring_file": str(settings.keyring_file or ""),
        "timeout_s": settings.timeout_s,
        "object_size": settings.object_size_mib * 1024 * 1024,
        "object_map": settings.object_map,
        "writes_in_flight": settings.writes_in_flight,
        "record_every": record_every,
    }


async def _fetch(session: Session, offset: int, end: int) -> bytes | int:
    """Bytes from ``offset``; a number is so many zeros."""
    answer, data = await session.ask("read", offset=offset, count=min(_READ_SIZE, end - offset))
    return int(answer["zeros"]) if "zeros" in answer else data


def _pieces(data: bytes | int) -> list[bytes]:
    if isinstance(data, int):
        return [_ZEROS[: min(PIECE_SIZE, data - begin)] for begin in range(0, data, PIECE_SIZE)]
    return [data[begin : begin + PIECE_SIZE] for begin in range(0, len(data), PIECE_SIZE)]


async def _or_undone(
    opening: asyncio.Future[tuple[Session, dict[str, Any]]], undo: str
) -> tuple[Session, dict[str, Any]]:
    """What was opened; if the caller is cancelled meanwhile, it is closed again: nobody else would."""
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        await asyncio.wait([opening])
        if not opening.cancelled() and opening.exception() is None:
            await _quietly(opening.result()[0], undo)
        raise


async def _quietly(session: Session, do: str) -> None:
    """Close; a session whose process is gone is closed already."""
    try:
        await session.ask(do)
    except TintypeError:
        return


def _stored(key: str, found: Mapping[str, Any]) -> StoredBlob:
    modified_at = datetime.fromtimestamp(float(found["modified"]), UTC)
    return StoredBlob(key, int(found["size"]), bool(found["committed"]), modified_at, bool(found["leased"]))
