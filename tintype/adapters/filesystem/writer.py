"""A staged write into a file: locked against a second writer, sparse where there are zeros, durable when committed."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from tintype.adapters.filesystem.threads import FileThreads
from tintype.adapters.filesystem.tree import UNCOMMITTED, Tree
from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import BlobDamagedError, StoreUnavailableError

WRITEBACK_SIZE = 64 * 1024 * 1024
"""After so many bytes the kernel is told to begin writing them to the disk, so that the final fsync is short."""

_ZEROS = bytes(1024 * 1024)
_PROBE = 256
_SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h: start the write-out, do not wait for it


class FileWriter:
    """Appends to the uncommitted file that is open, and locked, as ``descriptor``."""

    def __init__(
        self,
        tree: Tree,
        threads: FileThreads,
        key: BlobKey,
        descriptor: int,
        offset: int,
        *,
        replace: bool = False,
    ) -> None:
        self._tree = tree
        self._threads = threads
        self._key = key
        self._descriptor = descriptor
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
        """Write behind what is there; whole zero blocks become holes.

        Raises:
            StoreFullError, StoreUnavailableError: the file system refused.
        """
        self._require_open()
        await self._threads.run(lambda: self._append(data))

    async def commit(self, *, size: int, digests: Mapping[str, str]) -> None:
        """Make the bytes durable and visible. The file system has no digests of its own to compare with.

        Raises:
            BlobDamagedError: the file has another size.
            StoreFullError, StoreUnavailableError: the file system refused, or the file was swept meanwhile.
        """
        self._require_open()
        try:
            await self._threads.run(lambda: self._commit(size))
        except BaseException:
            await self.abort()
            raise
        await self._close()

    async def abort(self) -> None:
        """Remove what was written. Safe to call twice, and after a failed commit."""
        if self._is_open:
            inode = os.fstat(self._descriptor).st_ino
            try:
                await self._threads.run(lambda: self._tree.remove(UNCOMMITTED, self._key, inode=inode))
            finally:
                await self._close()

    async def close(self) -> None:
        """Stop writing, and keep the bytes."""
        await self._close()

    def _append(self, data: bytes | memoryview) -> None:
        view = memoryview(data).cast("B")
        if _is_zero(view):
            os.ftruncate(self._descriptor, self._offset + len(view))
            self._offset += len(view)
        else:
            self._write(view)
        if self._offset - self._written_back >= WRITEBACK_SIZE:
            _begin_writeback(self._descriptor, self._written_back, self._offset - self._written_back)
            self._written_back = self._offset

    def _write(self, view: memoryview) -> None:
        while view:
            written = os.pwrite(self._descriptor, view, self._offset)
            self._offset += written
            view = view[written:]

    def _commit(self, size: int) -> None:
        found = os.fstat(self._descriptor)
        if found.st_size != size:
            raise BlobDamagedError(f"{size} bytes were to be committed, and {found.st_size} are there")
        os.fsync(self._descriptor)
        try:
            self._tree.publish(self._descriptor, self._key, replace=self._replace)
        except FileNotFoundError:
            raise StoreUnavailableError("the bytes were removed from the store while they were written") from None
        self._tree.remove(UNCOMMITTED, self._key, inode=found.st_ino)

    async def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            await self._threads.run(lambda: os.close(self._descriptor))

    def _require_open(self) -> None:
        if not self._is_open:
            raise StoreUnavailableError("the write has ended")


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
