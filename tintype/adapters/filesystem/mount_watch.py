"""The background look at a guarded mount: it notices what no call has noticed yet, and that the share is back.

It has threads of its own. Where a look hangs, so do the following ones, up to a bound; from then on the mount table,
which never hangs, says when there is something else to look at.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable
from contextlib import suppress

from tintype.adapters.filesystem.mount_guard import MountGuard
from tintype.adapters.filesystem.mount_table import MountTable
from tintype.adapters.filesystem.threads import FileThreads
from tintype.adapters.filesystem.tree import COMMITTED, UNCOMMITTED, Purpose, Tree
from tintype.domain.errors import StoreTimeoutError, TintypeError

INTERVAL_S = 5.0
_MAX_HUNG = 8


class _Verifying:
    """The guard's look without its memory: what it is known not to be good for may have changed."""

    def __init__(self, guard: MountGuard) -> None:
        self._guard = guard

    def require(self, purpose: Purpose) -> None:
        """Nothing is known beforehand."""

    def admit(self, root: int, purpose: Purpose) -> None:
        self._guard.verify(root)


class MountWatch:
    """Looks every ``interval_s``, and at once when the guard has a doubt."""

    def __init__(
        self,
        store: str,
        tree: Tree,
        guard: MountGuard,
        *,
        interval_s: float = INTERVAL_S,
        timeout_s: float = INTERVAL_S,
    ) -> None:
        self._store = store
        self._tree = tree.checked_by(_Verifying(guard))
        self._guard = guard
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._threads = self._fresh_threads()
        self._table: object = None
        self._doubt = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look once, then go on in the background."""
        loop = asyncio.get_running_loop()

        def doubt() -> None:
            with suppress(RuntimeError):  # the loop has ended, and so has the watch
                loop.call_soon_threadsafe(self._doubt.set)

        self._guard.on_doubt = doubt
        await self.look()
        self._task = asyncio.create_task(self._go_on())

    @property
    def is_running(self) -> bool:
        """Whether it goes on looking: it was started, and neither closed nor ended by a failure of its own."""
        return self._task is not None and not self._task.done()

    async def aclose(self) -> None:
        """End it; a look that hangs is left behind."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await asyncio.get_running_loop().run_in_executor(None, self._threads.close)

    async def look(self) -> None:
        """Look now, and have the guard take over what is found."""
        reading, writing = await self._outcome(self._read), None
        if reading is None:
            writing = await self._outcome(self._write)
        self._guard.looked(reading, writing)

    async def _go_on(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await self._doubt.wait()
            self._doubt.clear()
            if self._can_look():
                await self.look()

    def _can_look(self) -> bool:
        if self._threads.hung < _MAX_HUNG:
            return True
        table = self._mounts()
        if table == self._table:
            return False
        self._table = table
        self._threads = self._fresh_threads()  # the old ones hang on what was mounted before
        return True

    def _fresh_threads(self) -> FileThreads:
        self._table = self._mounts()
        return FileThreads(self._store, count=1, timeout_s=self._timeout_s, max_hung=_MAX_HUNG)

    @staticmethod
    def _mounts() -> object:
        return MountTable.of_this_process().identities

    async def _outcome(self, look: Callable[[], None]) -> TintypeError | None:
        try:
            await self._threads.run(look)
        except StoreTimeoutError:  # in the words of a state
            return StoreTimeoutError(f"store {self._store!r}: its mount does not answer")
        except TintypeError as exc:
            return exc
        return None

    def _read(self) -> None:
        self._guard.look_above()
        with self._tree.opened_root(Purpose.COMMIT) as root:
            for area in (COMMITTED, UNCOMMITTED):
                with suppress(FileNotFoundError):
                    os.stat(area, dir_fd=root, follow_symlinks=False)

    def _write(self) -> None:
        self._tree.prepare(make_root=False)
        with self._tree.opened_area(UNCOMMITTED, Purpose.WRITE) as area:
            probe(area)


def probe(area: int) -> None:
    """Write a file, have it on the disk, read it back and remove it.

    Raises:
        OSError: one of these is refused.
    """
    name = f".check-{uuid.uuid4().hex}"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=area)
    try:
        os.write(descriptor, b"tintype")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
        os.unlink(name, dir_fd=area)
