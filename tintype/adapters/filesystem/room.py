"""How much may still be written into one directory: refused before the file system itself is full.

A write that the file system refuses half-way leaves it without room for everybody; a full disk beneath a thin volume is
told of by ``fsync`` alone. All of this blocks.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from dataclasses import dataclass

from tintype.adapters.filesystem.tree import COMMITTED, UNCOMMITTED, Purpose, Tree
from tintype.domain.errors import StoreFullError, StoreObjectTooLargeError
from tintype.ports.image_store import StoreSpace

_STEP = 64 * 1024 * 1024
"""So many bytes are written, at most, between two looks at the file system."""

_COUNT_AGAIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Hard caps in bytes; 0 is none. ``reserve_bytes`` are left free, ``max_bytes`` hold all images together."""

    max_bytes: int = 0
    reserve_bytes: int = 0
    max_object_bytes: int = 0


class Room:
    """The room of one directory; what other processes write counts from the next look on."""

    def __init__(self, store: str, tree: Tree, limits: Limits) -> None:
        self._store = store
        self._tree = tree
        self._limits = limits
        self._lock = threading.Lock()
        self._granted = 0
        self._used = 0
        self._counted_at = float("-inf")

    def space(self, purpose: Purpose = Purpose.READ) -> StoreSpace:
        """What there is for the service's user, within the caps; asked on behalf of a read or a write.

        Raises:
            OSError: the file system does not say.
        """
        with self._tree.opened_root(purpose) as root:
            found = os.fstatvfs(root)
        free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        free = max(0, free - self._limits.reserve_bytes)
        if self._limits.max_bytes:
            total = min(total, self._limits.max_bytes) if total else self._limits.max_bytes
            free = min(free, max(0, self._limits.max_bytes - self._usage()))
        return StoreSpace(min(free, total), total)

    def require(self, length: int, offset: int) -> None:
        """Take ``length`` bytes of room for a file that has ``offset`` bytes.

        Raises:
            StoreObjectTooLargeError: the file would become larger than the store takes.
            StoreFullError: there is no such room.
            StoreReadOnlyError: the directory takes no bytes now.
        """
        most = self._limits.max_object_bytes
        if most and offset + length > most:
            raise StoreObjectTooLargeError(f"store {self._store!r} takes no more than {most} bytes in one piece")
        with self._lock:
            if length <= self._granted:
                self._granted -= length
                self._used += length
                return
        space = self.space(Purpose.WRITE)
        if space.total and length > space.free:  # some file systems tell of no blocks at all
            raise StoreFullError(f"store {self._store!r} has no room left")
        with self._lock:
            self._granted = min(_STEP, max(0, space.free - length) // 2)
            self._used += length

    def _usage(self) -> int:
        with self._lock:
            if time.monotonic() - self._counted_at < _COUNT_AGAIN_S:
                return self._used
        counted = count_bytes(self._tree)
        with self._lock:
            self._used, self._counted_at = counted, time.monotonic()
        return counted


def count_bytes(tree: Tree) -> int:
    """What all images take on the disk, holes not counted."""
    return sum(
        state.st_blocks * 512
        for area in (COMMITTED, UNCOMMITTED)
        for image in tree.images()
        for state in _of(tree, area, image)
    )


def _of(tree: Tree, area: str, image: str) -> list[os.stat_result]:
    return [state for _, state in tree.files(area, image) if stat.S_ISREG(state.st_mode)]
