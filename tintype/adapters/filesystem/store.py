"""The image store in a directory: ``ROOT/uncommitted/KEY`` while it is written, ``ROOT/blobs/KEY`` from its commit on.

One writer per key is held by ``flock`` on the uncommitted file, which the kernel releases when the writer is killed.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from stat import S_ISREG

from tintype.adapters.filesystem.threads import FileThreads
from tintype.adapters.filesystem.tree import COMMITTED, UNCOMMITTED, Tree
from tintype.adapters.filesystem.writer import FileWriter
from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import (
    AlreadyExistsError,
    BlobDamagedError,
    BlobNotFoundError,
    InvalidIdentifierError,
    StoreUnavailableError,
    UploadBusyError,
)
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
_OPEN_ATTEMPTS = 10
_CHECK_TIMEOUT_S = 10.0
_UNREADABLE = (errno.EIO, errno.EBADMSG, errno.EUCLEAN)
"""A bad sector, and what file systems say whose own checksums do not fit."""


class FileImageStore:
    """An :class:`~tintype.ports.image_store.ImageStore` in one directory of one file system, NFS included."""

    def __init__(self, name: str, root: Path, *, threads: int = 8) -> None:
        self._name = name
        self._tree = Tree(root)
        self._threads = FileThreads(name, count=threads)
        self._since = datetime.now(UTC)
        self._probing: asyncio.Future[None] | None = None

    @property
    def name(self) -> str:
        """The configured name."""
        return self._name

    @property
    def capabilities(self) -> StoreCapabilities:
        """Zeros are holes, a killed writer's bytes stay, and others may have the directory mounted."""
        return StoreCapabilities(is_sparse=True, handover=HandoverKind.FILE)

    @property
    def state(self) -> StoreState:
        """A directory is taken to work until a call fails."""
        return StoreState(StoreMode.READ_WRITE, self._since)

    async def prepare(self) -> None:
        """Make the store's directories where they are missing.

        Raises:
            StoreUnavailableError: they cannot be made.
        """
        await self._threads.run(self._tree.prepare)

    async def aclose(self) -> None:
        """End the store's threads."""
        await asyncio.get_running_loop().run_in_executor(None, self._threads.close)

    async def open_write(self, key: str, *, resume: bool = False, replace: bool = False) -> FileWriter:
        """Begin a staged write, or go on with an interrupted one.

        Raises:
            UploadBusyError: another writer is at it.
            BlobNotFoundError: there is nothing to resume.
            AlreadyExistsError: bytes of that key are committed, and are not to be replaced.
        """
        parsed = BlobKey.parse(key)
        # A descriptor that nobody closed would keep its lock, and every later writer out.
        descriptor, offset = await self._threads.run(
            lambda: self._open_locked(parsed, resume, replace), undo=lambda opened: os.close(opened[0])
        )
        return FileWriter(self._tree, self._threads, parsed, descriptor, offset, replace=replace)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield committed bytes from ``offset``, ``length`` at most, in pieces of at most 1 MiB.

        Raises:
            BlobNotFoundError: nothing committed under that key.
            BlobDamagedError: the disk cannot read some of them.
        """
        return self._read(COMMITTED, BlobKey.parse(key), offset, length)

    def read_uncommitted(self, key: str) -> AsyncIterator[bytes]:
        """Yield the bytes of an unfinished write from the beginning.

        Raises:
            BlobNotFoundError: no unfinished write under that key.
        """
        return self._read(UNCOMMITTED, BlobKey.parse(key), 0, None)

    async def stat(self, key: str) -> StoredBlob:
        """What is under ``key``, committed or not.

        Raises:
            BlobNotFoundError: nothing.
        """
        parsed = BlobKey.parse(key)
        return await self._threads.run(lambda: self._stat(parsed))

    def local_path(self, key: str) -> Path | None:
        """The committed file."""
        return self._tree.path(COMMITTED, BlobKey.parse(key))

    async def delete(self, key: str) -> None:
        """Remove the bytes of ``key``, committed or not; it is no error that there are none."""
        parsed = BlobKey.parse(key)
        for area in (UNCOMMITTED, COMMITTED):
            await self._threads.run(partial(self._tree.remove, area, parsed))

    async def list(self, prefix: str = "") -> AsyncIterator[StoredBlob]:
        """Yield all that is stored under an image's id, or under everything: committed and not."""
        images = [image_id(prefix)] if prefix else await self._threads.run(self._tree.images)
        for image in images:
            for stored in await self._threads.run(partial(self._list_image, image)):
                yield stored

    async def check(self) -> None:
        """Find out whether the store can be written and read.

        Raises:
            StoreUnavailableError: it cannot; the message says what is wrong.
        """
        if self._probing is None or self._probing.done():  # one that hangs takes one thread, however often it is asked
            self._probing = asyncio.ensure_future(self._threads.run(self._probe))
        try:
            # And not wait_for, which before Python 3.12 loses a cancellation that comes together with the answer.
            async with asyncio.timeout(_CHECK_TIMEOUT_S):
                await asyncio.shield(self._probing)
        except TimeoutError:
            raise StoreUnavailableError(f"store {self._name!r} did not answer in {_CHECK_TIMEOUT_S:.0f} s") from None

    async def examine(self) -> Sequence[Finding]:
        """Whether it can be written and read."""
        try:
            await self.check()
        except StoreUnavailableError as exc:
            return (Finding("access", Grade.BAD, exc.message, exc.hint),)
        return (Finding("access", Grade.GOOD, "the directory can be written and read"),)

    async def space(self) -> StoreSpace | None:
        """What the file system has left for the service's user.

        Raises:
            StoreUnavailableError: it does not answer.
        """
        found = await self._threads.run(lambda: os.statvfs(self._tree.root))
        return StoreSpace(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)

    async def locate(self, key: str, *, expires_in_s: float) -> DirectLocation | None:
        """The path, for whoever has the same file system mounted at the same place.

        Raises:
            BlobNotFoundError: nothing committed under that key.
            StoreUnavailableError: the file system failed.
        """
        parsed = BlobKey.parse(key)
        if not (await self.stat(key)).is_committed:
            raise BlobNotFoundError(f"store {self._name!r} has no such bytes of image {parsed.image_id}")
        return DirectLocation(HandoverKind.FILE, self._tree.path(COMMITTED, parsed).absolute().as_uri())

    # --- in threads ---------------------------------------------------------------------------------------------------

    def _open_locked(self, key: BlobKey, resume: bool, replace: bool) -> tuple[int, int]:
        flags = os.O_RDWR | (0 if resume else os.O_CREAT)
        for _ in range(_OPEN_ATTEMPTS):
            try:
                descriptor = self._tree.open_file(UNCOMMITTED, key, flags)
            except FileNotFoundError:
                raise self._nothing_to_resume(key) from None
            try:
                if self._lock(descriptor, key, replace):
                    if not resume:
                        os.ftruncate(descriptor, 0)
                    return descriptor, os.fstat(descriptor).st_size
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
        raise UploadBusyError(f"the bytes of image {key.image_id} are being written and removed by others")

    def _lock(self, descriptor: int, key: BlobKey, replace: bool) -> bool:
        """Lock the file; ``False`` if it lost its name meanwhile, and another one has to be opened."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UploadBusyError(f"another writer is at the bytes of image {key.image_id}") from None
        try:
            if self._tree.stat(UNCOMMITTED, key).st_ino != os.fstat(descriptor).st_ino:
                return False
        except FileNotFoundError:
            return False
        inode = os.fstat(descriptor).st_ino
        if replace and self._committed_inode(key) != inode:
            return True
        if self._is_committed(key):
            # Either a writer came too late, or one was killed between the two names of its commit: see `_list_image`.
            self._tree.remove(UNCOMMITTED, key, inode=inode)
            if replace:
                return False
            raise AlreadyExistsError(f"bytes of image {key.image_id} are committed under that key")
        return True

    def _nothing_to_resume(self, key: BlobKey) -> AlreadyExistsError | BlobNotFoundError:
        if self._is_committed(key):
            return AlreadyExistsError(f"bytes of image {key.image_id} are committed under that key")
        return BlobNotFoundError(f"there is no unfinished write of image {key.image_id} to resume")

    def _is_committed(self, key: BlobKey) -> bool:
        return self._committed_inode(key) is not None

    def _committed_inode(self, key: BlobKey) -> int | None:
        try:
            return self._tree.stat(COMMITTED, key).st_ino
        except FileNotFoundError:
            return None

    def _stat(self, key: BlobKey) -> StoredBlob:
        for area in (COMMITTED, UNCOMMITTED):
            try:
                return _stored(str(key), self._tree.stat(area, key), is_committed=area == COMMITTED)
            except FileNotFoundError:
                continue
        raise BlobNotFoundError(f"store {self._name!r} has nothing under that key of image {key.image_id}")

    def _list_image(self, image: str) -> Sequence[StoredBlob]:
        found: list[StoredBlob] = []
        committed = dict(self._tree.files(COMMITTED, image))
        for area, files in (
            (COMMITTED, committed),
            (UNCOMMITTED, dict(self._tree.files(UNCOMMITTED, image))),
        ):
            for key, state in files.items():
                try:
                    parsed = BlobKey.parse(key)
                except InvalidIdentifierError:
                    continue  # not ours: lost+found, an editor's file
                if area == UNCOMMITTED and key in committed and committed[key].st_ino == state.st_ino:
                    # The writer was killed after its commit, before it removed the other name.
                    self._tree.remove(UNCOMMITTED, parsed, inode=state.st_ino)
                else:
                    is_leased = area == UNCOMMITTED and self._is_locked(parsed)
                    found.append(_stored(key, state, is_committed=area == COMMITTED, is_leased=is_leased))
        return found

    def _is_locked(self, key: BlobKey) -> bool:
        """Whether a writer that lives has the file: the kernel lets go of a killed one's lock."""
        try:
            descriptor = self._tree.open_file(UNCOMMITTED, key, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _open_for_reading(self, area: str, key: BlobKey) -> int:
        try:
            descriptor = self._tree.open_file(area, key, os.O_RDONLY)
        except FileNotFoundError:
            raise BlobNotFoundError(f"store {self._name!r} has no such bytes of image {key.image_id}") from None
        if not S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise StoreUnavailableError(f"store {self._name!r} has something else than a file under a key")
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        return descriptor

    async def _read(self, area: str, key: BlobKey, offset: int, length: int | None) -> AsyncIterator[bytes]:
        descriptor = await self._threads.run(lambda: self._open_for_reading(area, key), undo=os.close)
        ahead: asyncio.Task[bytes] | None = None
        end = None if length is None else offset + length

        def begin(position: int) -> asyncio.Task[bytes]:
            count = PIECE_SIZE if end is None else min(PIECE_SIZE, end - position)
            return asyncio.create_task(self._threads.run(partial(self._pread, descriptor, count, position)))

        try:
            ahead = begin(offset)
            while piece := await ahead:
                offset += len(piece)
                ahead = begin(offset)  # one piece is read while the caller works on the other
                yield piece
        finally:
            if ahead is not None:
                await asyncio.wait([ahead])
                if not ahead.cancelled():
                    ahead.exception()
            await self._threads.run(lambda: os.close(descriptor))

    def _pread(self, descriptor: int, count: int, position: int) -> bytes:
        try:
            return os.pread(descriptor, count, position)
        except OSError as exc:
            if exc.errno in _UNREADABLE:
                raise BlobDamagedError(
                    f"store {self._name!r} cannot read some of the bytes: {os.strerror(exc.errno or 0)}"
                ) from exc
            raise

    def _probe(self) -> None:
        path = self._tree.root / UNCOMMITTED / f".check-{uuid.uuid4().hex}"
        descriptor = os.open(
            path,
            os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o600,
        )
        try:
            os.write(descriptor, b"tintype")
            os.fsync(descriptor)
            if os.pread(descriptor, 16, 0) != b"tintype":
                raise StoreUnavailableError(f"store {self._name!r} does not give back what was written")
        finally:
            os.unlink(path)
            os.close(descriptor)


def _stored(key: str, state: os.stat_result, *, is_committed: bool, is_leased: bool = False) -> StoredBlob:
    return StoredBlob(key, state.st_size, is_committed, datetime.fromtimestamp(state.st_mtime, UTC), is_leased)
