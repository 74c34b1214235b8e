"""Whether the share that a store is in is the one that is mounted, asked before every write and commit.

Nothing mounts for the service, and nothing tells it when a mount is gone: its directory is still there, bare, on the
local disk. So the open root is compared with the mount table, its device with the one seen before, and its marker with
the share's id; what is created afterwards relative to that root lies on that share, whatever happens to the mount.
:mod:`.mount_watch` looks in the background. All of this blocks, but for :attr:`MountGuard.state`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import structlog

from tintype.adapters.filesystem.file_errors import translated
from tintype.adapters.filesystem.mount_marker import MarkerUnreadableError, read_marker, require_mounted
from tintype.adapters.filesystem.mount_table import MountTable, mount_id_of
from tintype.adapters.filesystem.tree import Purpose
from tintype.domain.errors import (
    ConfigurationError,
    StoreDeviceError,
    StoreFullError,
    StoreMissingError,
    StoreMountStaleError,
    StoreReadOnlyError,
    StoreTimeoutError,
    StoreUnavailableError,
    TintypeError,
)
from tintype.ports.image_store import StoreMode, StoreState

log = structlog.get_logger(__name__)

StateObserver = Callable[[StoreState], None]
"""Told of every change, from whichever thread saw it: it must not block."""

MOUNT_LOST = "STORE_MOUNT_LOST"
SHARE_UNMARKED = "STORE_SHARE_UNMARKED"
SHARE_OTHER = "STORE_SHARE_OTHER"

_STATE = "state"

_FRESH_S = 1.0
"""A root whose marker was read so recently is not asked for it again before a write; a commit always asks."""


class MountGuard:
    """The :class:`~tintype.adapters.filesystem.tree.RootCheck` of a directory that a share is mounted at, or above.

    ``share_id`` is the id that the share must have; without one it is that of the first share seen that is marked as
    this store's.
    """

    def __init__(
        self,
        store: str,
        root: Path,
        *,
        share_id: str | None = None,
        mount_point: Path | None = None,
        observer: StateObserver | None = None,
        fresh_s: float = _FRESH_S,
    ) -> None:
        self._store = store
        self._root = root
        self._share_id = share_id
        self._mount_point = mount_point
        self._observer = observer
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._state = StoreState(StoreMode.READ_WRITE, datetime.now(UTC))
        self._seen: tuple[int, int] = (-1, -1)  # mount id and device
        self._seen_at = float("-inf")
        self.on_doubt: Callable[[], None] = lambda: None
        """Called when something failed that the watch should look at now."""

    @property
    def state(self) -> StoreState:
        """What is known of the mount, without asking it."""
        return self._state

    @property
    def share_id(self) -> str | None:
        """The id that the share must have, once it is known."""
        return self._share_id

    def admit(self, root: int, purpose: Purpose) -> None:
        """Let an open root pass if the share is there, and may be used for ``purpose``.

        Raises:
            StoreReadOnlyError: no writes now.
            StoreMissingError, StoreTimeoutError, StoreMountStaleError: no reads either.
        """
        self.require(purpose)
        try:
            self.verify(root, is_fresh_enough=self._fresh_s if purpose is not Purpose.COMMIT else 0.0)
        except StoreUnavailableError as exc:
            self.on_doubt()
            raise self._refusal(purpose) if self._state.mode is StoreMode.AWAY else exc from None

    def admit_open(self, descriptor: int) -> None:
        """Let a file that is open be written to: it must have been opened through what is mounted now.

        Asks the kernel's table alone, so that it costs nothing of a server.

        Raises:
            StoreReadOnlyError: no writes now.
        """
        self.require(Purpose.WRITE)
        if MountTable.of_this_process().of(descriptor) is None:
            self.enter(StoreMode.AWAY, MOUNT_LOST, f"store {self._store!r}: its share is not mounted any more")
            self.on_doubt()
            raise self._refusal(Purpose.WRITE)

    def require(self, purpose: Purpose) -> None:
        """Refuse at once, without touching the mount, what it is known not to be good for.

        Raises:
            StoreUnavailableError: as :meth:`admit`.
        """
        mode = self._state.mode
        if mode is StoreMode.AWAY or (mode is StoreMode.READ_ONLY and purpose is not Purpose.READ):
            raise self._refusal(purpose)

    def verify(self, root: int, *, is_fresh_enough: float = 0.0) -> None:
        """Compare an open root with the mount table and its marker with the share's id; what differs is the new state.

        Raises:
            StoreUnavailableError: it is not the share, or cannot be looked at.
        """
        seen = (mount_id_of(root), os.fstat(root).st_dev)
        self._require_mounted(root)
        if seen == self._seen and time.monotonic() - self._seen_at < is_fresh_enough:
            return
        self._require_marker(root)
        with self._lock:
            self._seen, self._seen_at = seen, time.monotonic()

    def look_above(self) -> None:
        """Whether a share is there, where the root may not be: a directory on a share that is lost is lost with it.

        Raises:
            StoreMissingError: the share is not mounted.
        """
        for path in (self._root, *self._root.parents):
            with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
                try:
                    return self._require_mounted(descriptor)
                finally:
                    os.close(descriptor)

    def failed(self, error: TintypeError) -> None:
        """A call to the mount ended so: some errors mean that the next one need not be tried."""
        if self._note(error):
            self.on_doubt()

    def _note(self, error: TintypeError) -> bool:
        match error:
            case StoreMountStaleError():
                self.enter(StoreMode.AWAY, error.reason, error.message)
            case StoreReadOnlyError():
                if self._state.mode is StoreMode.READ_WRITE:
                    self.enter(StoreMode.READ_ONLY, error.reason, error.message)
            case StoreDeviceError() | StoreTimeoutError() | StoreMissingError():
                pass  # one call's, or the mount's: the watch finds out
            case _:
                return False
        return True

    def looked(self, reading: TintypeError | None, writing: TintypeError | None) -> None:
        """Take over what the watch found: how a look and a write ended."""
        if reading is not None:
            if self._state.mode is not StoreMode.AWAY or self._state.message != reading.message:
                self.enter(StoreMode.AWAY, _reason_of(reading), reading.message)
        elif writing is not None and not isinstance(writing, StoreFullError):
            self.enter(StoreMode.READ_ONLY, writing.reason, writing.message)
        else:
            self.enter(StoreMode.READ_WRITE, "", "")

    def enter(self, mode: StoreMode, reason: str, message: str) -> None:
        """Be in another mode from now on; told to the log and to the observer, once."""
        with self._lock:
            before = self._state
            if (before.mode, before.reason) == (mode, reason):
                return
            self._state = state = StoreState(mode, datetime.now(UTC), reason, message)
            self._seen_at = float("-inf")
        told = log.info if mode is StoreMode.READ_WRITE else log.error
        told("store changed its mode", store=self._store, mode=mode.value, was=before.mode.value, reason=reason)
        if self._observer is not None:
            self._observer(state)

    def _require_mounted(self, root: int) -> None:
        try:
            require_mounted(self._store, self._root, MountTable.of_this_process().of(root), self._mount_point)
        except ConfigurationError:
            self._lose(MOUNT_LOST, "its share is not mounted; mount it again, and the store goes on by itself")

    def _require_marker(self, root: int) -> None:
        try:
            marker = read_marker(root)
        except OSError as exc:
            error = translated(self._store, exc)
            self._note(error)
            raise error from exc
        except MarkerUnreadableError:
            marker = None
        if marker is None:
            self._lose(
                SHARE_UNMARKED,
                f"what is mounted is not marked: `python -m services.importer.mark_share {self._store}` does it",
            )
        elif marker.store != self._store or marker.share_id != (self._share_id or marker.share_id):
            self._lose(SHARE_OTHER, "another share is mounted in the place of its own")
        else:
            self._share_id = marker.share_id

    def _lose(self, reason: str, said: str) -> None:
        self.enter(StoreMode.AWAY, reason, f"store {self._store!r}: {said}")
        raise StoreMissingError(f"store {self._store!r}: {said}", evidence={_STATE: reason})

    def _refusal(self, purpose: Purpose) -> StoreUnavailableError:
        state = self._state
        if purpose is not Purpose.READ:
            stale = state.reason == StoreMountStaleError.reason
            return (StoreMountStaleError if stale else StoreReadOnlyError)(state.message)
        for kind in (StoreMountStaleError, StoreTimeoutError, StoreDeviceError):
            if state.reason == kind.reason:
                return kind(state.message)
        return StoreMissingError(state.message)


def _reason_of(error: TintypeError) -> str:
    return error.evidence.get(_STATE, error.reason)
