"""A staged write into a file: locked against a second writer, sparse where there are zeros, durable when committed."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import structlog

from tintype.adapters.filesystem.directory import StoreDirectory
from tintype.adapters.filesystem.open_file import OpenFile
from tintype.adapters.filesystem.tree import UNCOMMITTED
from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import BlobDamagedError, StoreFullError, StoreTimeoutError, StoreUnavailableError

WRITEBACK_SIZE = 16 * 1024 * 1024
"""After so many bytes the kernel is told to begin writing them to the disk, so that the final fsync is short."""

SLOWEST_BYTES_S = 8 * 1024 * 1024
"""A commit may take as long as its bytes take at this speed: its fsync waits for all of them."""

log = structlog.get_logger(__name__)

_ZEROS = bytes(1024 * 1024)
_PROBE = 256
_SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h: start the write-out, do not wait for it


class FileWriter:
    """Appends to the uncommitted file that is open, and locked, as ``file``."""

    def __init__(
        self, directory: StoreDirectory, key: BlobKey, file: OpenFile, offset: int, *, replace: bool = False
    ) -> None:
        self._directory = directory
        self._tree = directory.tree
        self._key = key
        self._file = file
        self._offset = offset
        self._written_back = offset
        self._replace = replace
        self._is_open = True

    @property
    def key(self) -> str:
        """What the bytes will be called."""
        return str(self._key)

    @property
    def offset(self) -> int:
        """How many bytes have been appended."""
        return self._offset

    @property
    def local_path(self) -> Path | None:
        """The file that is being written."""
        return self._tree.path(UNCOMMITTED, self._key)

    async def append(self, data: bytes | memoryview) -> None:
        """Write behind what is there; whole zero blocks become holes. After an error nothing is appended.

        Raises:
            StoreFullError, StoreUnavailableError: the file system refused.
            StoreTimeoutError: it did not answer; the write can be closed, and resumed once the call has returned.
        """
        self._require_open()
        offset = self._offset
        try:
            self._offset = await self._directory.run(lambda: self._append(data, offset))
        except StoreTimeoutError:
            await self._close()
            raise

    async def commit(self, *, size: int, digests: Mapping[str, str]) -> None:
        """Make the bytes durable and visible. The file system has no digests of its own to compare with.

        Raises:
            BlobDamagedError: the file has another size.
            StoreFullError, StoreUnavailableError: the file system refused, or the file was swept meanwhile.
        """
        self._require_open()
        patience_s = self._directory.timeout_s + size / SLOWEST_BYTES_S
        try:
            inode = await self._directory.run(lambda: self._commit(size), timeout_s=patience_s)
        except BaseException:
            with suppress(StoreUnavailableError):  # then a list finds them, once the store is back
                await self.abort()
            raise
        # Closed first: over NFS a file that is removed while it is open stays, under a hidden name.
        await self._close()
        try:
            await self._directory.run(lambda: self._tree.remove(UNCOMMITTED, self._key, inode=inode))
        except (StoreUnavailableError, StoreFullError) as exc:
            # What is committed is durable; the next list removes the name that is left.
            log.warning("the spare name of committed bytes stays", store=self._directory.store, reason=exc.reason)

    async def abort(self) -> None:
        """Remove what was written. Safe to call twice, and after a failed commit."""
        if self._is_open:
            try:
                await self._directory.run(self._remove)
            finally:
                await self._close()
            await self._directory.run(lambda: self._tree.remove_empty(UNCOMMITTED, self._key))

    async def close(self) -> None:
        """Stop writing, and keep the bytes."""
        await self._close()

    def _append(self, data: bytes | memoryview, offset: int) -> int:
        view = memoryview(data).cast("B")
        with self._file.in_use() as descriptor:
            self._directory.admit_open(descriptor)
            if _is_zero(view):
                self._directory.room.require(0, offset + len(view))
                os.ftruncate(descriptor, offset + len(view))
                offset += len(view)
            else:
                self._directory.room.require(len(view), offset)
                offset = _write(descriptor, view, offset)
            if offset - self._written_back >= WRITEBACK_SIZE:
                _begin_writeback(descriptor, self._written_back, offset - self._written_back)
                self._written_back = offset
        return offset

    def _commit(self, size: int) -> int:
        with self._file.in_use() as descriptor:
            found = os.fstat(descriptor)
            if found.st_size != size:
                raise BlobDamagedError(f"{size} bytes were to be committed, and {found.st_size} are there")
            self._directory.admit_open(descriptor)
            os.fsync(descriptor)
            try:
                self._tree.publish(descriptor, self._key, replace=self._replace)
            except FileNotFoundError:
                raise StoreUnavailableError("the bytes were removed from the store while they were written") from None
            return found.st_ino

    def _remove(self) -> None:
        with self._file.in_use() as descriptor:
            self._tree.remove(UNCOMMITTED, self._key, inode=os.fstat(descriptor).st_ino)

    async def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            await self._directory.run(self._file.close)

    def _require_open(self) -> None:
        if not self._is_open:
            raise StoreUnavailableError("the write has ended")


def _write(descriptor: int, view: memoryview, offset: int) -> int:
    while view:
        written = os.pwrite(descriptor, view, offset)
        offset += written
        view = view[written:]
    return offset


def _is_zero(view: memoryview) -> bool:
    if len(view) < 4096 or len(view) > len(_ZEROS) or view[:_PROBE] != _ZEROS[:_PROBE]:
        return False
    return bytes(view) == _ZEROS[: len(view)]  # bytes compare with memcmp, views byte by byte


def _find_sync_file_range() -> Callable[[int, int, int, int], int] | None:
    try:
        function = ctypes.CDLL(None, use_errno=True).sync_file_range
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    function.restype = ctypes.c_int
    return function


_sync_file_range = _find_sync_file_range()


def _begin_writeback(descriptor: int, offset: int, length: int) -> None:
    """Let the disk work meanwhile; only speed depends on it, so its outcome is not looked at: fsync reports errors."""
    if _sync_file_range is not None:
        _sync_file_range(descriptor, offset, length, _SYNC_FILE_RANGE_WRITE)
