"""Blocking file work in a bounded pool of threads, with the errors of the operating system translated."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tintype.domain.errors import StoreFullError, StoreUnavailableError, TintypeError

R = TypeVar("R")

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FileThreads:
    """The threads of one store."""

    def __init__(self, store: str, *, count: int) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=f"store-{store}")

    async def run(self, work: Callable[[], R], *, undo: Callable[[R], None] | None = None) -> R:
        """Do ``work`` in a thread. A cancelled caller waits for it to end, because it may be using a descriptor.

        What it made, such as an open file, then belongs to nobody: ``undo`` takes it back.

        Raises:
            StoreFullError: no room.
            StoreUnavailableError: any other error of the operating system.
        """
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            # Looking at the error is also what marks it as seen: the caller is gone.
            if not future.cancelled() and future.exception() is None and undo is not None:
                await asyncio.wait([loop.run_in_executor(self._pool, undo, future.result())])
            raise
        except OSError as exc:
            raise self.translated(exc) from exc

    def translated(self, error: OSError) -> TintypeError:
        """The error in the domain's words, without the paths that it may name."""
        if error.errno in _NO_ROOM:
            return StoreFullError(f"store {self._store!r} has no room left")
        said = os.strerror(error.errno) if error.errno else "unknown error"
        return StoreUnavailableError(f"store {self._store!r} failed: {said}")

    def close(self) -> None:
        """End the threads once their work is done."""
        self._pool.shutdown(wait=True, cancel_futures=True)
