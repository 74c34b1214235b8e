"""One directory of a file store: its tree, its threads, its room, and its guard where a share is mounted there.

The functions here block, but for those that are ``async``; the store calls them in the directory's threads.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from stat import S_ISREG
from typing import TypeVar

from tintype.adapters.filesystem.file_errors import UNREADABLE
from tintype.adapters.filesystem.mount_guard import MountGuard
from tintype.adapters.filesystem.mount_watch import MountWatch, probe
from tintype.adapters.filesystem.open_file import OpenFile
from tintype.adapters.filesystem.permissions import require_permissions
from tintype.adapters.filesystem.room import Limits, Room
from tintype.adapters.filesystem.threads import FileThreads
from tintype.adapters.filesystem.tree import COMMITTED, UNCOMMITTED, Purpose, Tree
from tintype.adapters.filesystem.write_lock import is_write_locked, take_write_lock
from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import (
    AlreadyExistsError,
    BlobDamagedError,
    BlobNotFoundError,
    InvalidIdentifierError,
    StoreMissingError,
    StoreUnavailableError,
    TintypeError,
    UploadBusyError,
)
from tintype.ports.image_store import StoredBlob, StoreMode, StoreState

R = TypeVar("R")

PIECE_SIZE = 1024 * 1024

_OPEN_ATTEMPTS = 10
_SLOW_S = 0.05
"""After so long a reader gets what has been read, so that a slow disk's pieces come one by one."""
_STALE_PROBE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a call may take, and how often and how patiently a guarded mount is looked at."""

    timeout_s: float = 30.0
    watch_interval_s: float = 5.0
    watch_timeout_s: float = 5.0


class StoreDirectory:
    """A directory of the store named ``store``, which new bytes prefer for its ``weight``."""

    def __init__(
        self,
        store: str,
        tree: Tree,
        *,
        weight: int = 100,
        limits: Limits | None = None,
        guard: MountGuard | None = None,
        threads: int = 8,
        patience: Patience | None = None,
    ) -> None:
        patience = patience or Patience()
        self.store = store
        self.tree = tree
        self.weight = weight
        self.guard = guard
        self.room = Room(store, tree, limits or Limits())
        self.timeout_s = patience.timeout_s
        self._threads = FileThreads(store, count=threads, timeout_s=patience.timeout_s)
        self._since = datetime.now(UTC)
        self._watch: MountWatch | None = None
        if guard is not None:
            self._watch = MountWatch(
                store, tree, guard, interval_s=patience.watch_interval_s, timeout_s=patience.watch_timeout_s
            )

    @property
    def state(self) -> StoreState:
        """What is known of it: a directory that nothing guards is taken to work until a call fails."""
        return self.guard.state if self.guard else StoreState(StoreMode.READ_WRITE, self._since)

    @property
    def is_watched(self) -> bool:
        """Whether a guarded mount is looked at in the background."""
        return self._watch is not None and self._watch.is_running

    @property
    def hung(self) -> int:
        """How many calls were given up, and have not returned."""
        return self._threads.hung

    async def prepare(self) -> None:
        """Make it ready; a guarded one whose share is not there waits for it.

        Raises:
            ConfigurationError: its permissions are wrong; the message has the command that mends them.
            StoreUnavailableError: it cannot be made.
        """
        if self._watch is not None:
            await self._watch.start()
            if self.state.mode is StoreMode.READ_WRITE:
                await self.run(lambda: require_permissions(self.store, self.tree))
            return
        with suppress(StoreMissingError):  # then it is made, as it should be
            await self.run(lambda: require_permissions(self.store, self.tree))
        await self.run(self.tree.prepare)
        await self.run(self._remove_stale_probes)

    async def look(self) -> None:
        """Look at the guarded mount now, and not when its turn comes."""
        if self._watch is not None:
            await self._watch.look()

    async def aclose(self) -> None:
        """End its threads and its watch."""
        if self._watch is not None:
            await self._watch.aclose()
        await asyncio.get_running_loop().run_in_executor(None, self._threads.close)

    async def run(
        self,
        work: Callable[[], R],
        *,
        undo: Callable[[R], None] | None = None,
        timeout_s: float | None = None,
    ) -> R:
        """Do ``work`` in the directory's threads; the guard is told how it fails.

        Raises:
            StoreFullError, StoreUnavailableError: the operating system refused, or did not answer in time.
        """
        try:
            return await self._threads.run(work, undo=undo, timeout_s=timeout_s)
        except TintypeError as exc:
            if self.guard is not None:
                self.guard.failed(exc)
            raise

    def admit_open(self, descriptor: int) -> None:
        """Let an open file be written to, if its mount is still there.

        Raises:
            StoreReadOnlyError: it is not.
        """
        if self.guard is not None:
            self.guard.admit_open(descriptor)

    def open_locked(self, key: BlobKey, resume: bool, replace: bool) -> tuple[OpenFile, int]:
        """Open and lock the uncommitted file; it, and how many bytes it has.

        Raises:
            UploadBusyError, BlobNotFoundError, AlreadyExistsError: as ``ImageStore.open_write``.
        """
        flags = os.O_RDWR | (0 if resume else os.O_CREAT)
        for _ in range(_OPEN_ATTEMPTS):
            try:
                descriptor = self.tree.open_file(UNCOMMITTED, key, flags)
            except FileNotFoundError:
                raise self._nothing_to_resume(key) from None
            try:
                if self._lock(descriptor, key, replace):
                    if not resume:
                        os.ftruncate(descriptor, 0)
                    return OpenFile(descriptor), os.fstat(descriptor).st_size
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
        raise UploadBusyError(f"the bytes of image {key.image_id} are being written and removed by others")

    def open_for_reading(self, area: str, key: BlobKey) -> OpenFile:
        """Open a file.

        Raises:
            BlobNotFoundError: there is none.
        """
        try:
            descriptor = self.tree.open_file(area, key, os.O_RDONLY)
        except FileNotFoundError:
            raise BlobNotFoundError(f"store {self.store!r} has no such bytes of image {key.image_id}") from None
        if not S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise StoreUnavailableError(f"store {self.store!r} has something else than a file under a key")
        with suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        return OpenFile(descriptor)

    def read_pieces(self, file: OpenFile, count: int, position: int) -> Sequence[bytes]:
        """Read up to ``count`` bytes in pieces, fewer where that takes long; none at the end of the file.

        Raises:
            BlobDamagedError: the disk cannot read the first of them.
        """
        pieces: list[bytes] = []
        end, slow_at = position + count, time.monotonic() + _SLOW_S
        with file.in_use() as descriptor:
            while position < end and (not pieces or time.monotonic() < slow_at):
                try:
                    piece = os.pread(descriptor, min(PIECE_SIZE, end - position), position)
                except OSError as exc:
                    if pieces:
                        break  # they are sound: the next call meets with the error
                    if exc.errno in UNREADABLE:
                        raise BlobDamagedError(
                            f"store {self.store!r} cannot read some of the bytes: {os.strerror(exc.errno or 0)}"
                        ) from exc
                    raise
                if not piece:
                    break
                pieces.append(piece)
                position += len(piece)
        return pieces

    def found(self, area: str, key: BlobKey) -> os.stat_result | None:
        """What is known of the file in one area; ``None`` where there is none."""
        try:
            return self.tree.stat(area, key)
        except FileNotFoundError:
            return None

    def list_image(self, image: str) -> Sequence[StoredBlob]:
        """All that it has of one image; what a killed commit left half done is finished."""
        found: list[StoredBlob] = []
        committed = dict(self.tree.files(COMMITTED, image))
        uncommitted = dict(self.tree.files(UNCOMMITTED, image))
        for area, files in ((COMMITTED, committed), (UNCOMMITTED, uncommitted)):
            for key, state in files.items():
                try:
                    parsed = BlobKey.parse(key)
                except InvalidIdentifierError:
                    continue  # not ours: lost+found, an editor's file
                if area == UNCOMMITTED and key in committed and committed[key].st_ino == state.st_ino:
                    # The writer was killed after its commit, before it removed the other name.
                    with suppress(StoreUnavailableError):  # a store that only reads can be listed
                        self.tree.remove(UNCOMMITTED, parsed, inode=state.st_ino)
                else:
                    is_leased = area == UNCOMMITTED and self.is_locked(parsed)
                    found.append(stored(key, state, is_committed=area == COMMITTED, is_leased=is_leased))
        return found

    def is_locked(self, key: BlobKey) -> bool:
        """Whether a writer that lives has the file; asked without being in anybody's way."""
        try:
            descriptor = self.tree.open_file(UNCOMMITTED, key, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            return is_write_locked(descriptor)
        finally:
            os.close(descriptor)

    def probe(self) -> None:
        """Write, read and remove a file."""
        with self.tree.opened_area(UNCOMMITTED, Purpose.COMMIT) as area:
            probe(area)

    def _lock(self, descriptor: int, key: BlobKey, replace: bool) -> bool:
        """Lock the file; ``False`` if it lost its name meanwhile, and another one has to be opened."""
        try:
            take_write_lock(descriptor)
        except BlockingIOError:
            raise UploadBusyError(f"another writer is at the bytes of image {key.image_id}") from None
        inode = os.fstat(descriptor).st_ino
        named = self.found(UNCOMMITTED, key)
        if named is None or named.st_ino != inode:
            return False
        committed = self.found(COMMITTED, key)
        if committed is None or (replace and committed.st_ino != inode):
            return True
        # Either a writer came too late, or one was killed between the two names of its commit: see `list_image`.
        self.tree.remove(UNCOMMITTED, key, inode=inode)
        if replace:
            return False
        raise AlreadyExistsError(f"bytes of image {key.image_id} are committed under that key")

    def _nothing_to_resume(self, key: BlobKey) -> AlreadyExistsError | BlobNotFoundError:
        if self.found(COMMITTED, key) is not None:
            return AlreadyExistsError(f"bytes of image {key.image_id} are committed under that key")
        return BlobNotFoundError(f"there is no unfinished write of image {key.image_id} to resume")

    def _remove_stale_probes(self) -> None:
        """A check that was killed left its file."""
        with self.tree.opened_area(UNCOMMITTED, Purpose.WRITE) as area:
            for name in os.listdir(area):
                if name.startswith(".check-"):
                    with suppress(OSError):
                        if os.stat(name, dir_fd=area, follow_symlinks=False).st_mtime < time.time() - _STALE_PROBE_S:
                            os.unlink(name, dir_fd=area)


def stored(key: str, state: os.stat_result, *, is_committed: bool, is_leased: bool = False) -> StoredBlob:
    """A file, as the port tells of it."""
    return StoredBlob(key, state.st_size, is_committed, datetime.fromtimestamp(state.st_mtime, UTC), is_leased)
