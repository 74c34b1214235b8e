"""A file descriptor that is closed only once no call uses it any more, a hung one included.

A number that was closed too early soon belongs to another file: a write that hung, and goes on later, would land there.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class OpenFile:
    """Owns ``descriptor``."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._users = 0
        self._is_closing = False
        self._is_closed = False

    @contextmanager
    def in_use(self) -> Iterator[int]:
        """The descriptor, which stays open as long as this context.

        Raises:
            OSError: it is closed, or about to be.
        """
        with self._lock:
            if self._is_closing:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            self._users += 1
        try:
            yield self._descriptor
        finally:
            with self._lock:
                self._users -= 1
            self._close_if_unused()

    def close(self) -> None:
        """Close it now, or as soon as the last call that uses it returns. Safe to call twice."""
        with self._lock:
            self._is_closing = True
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        with self._lock:
            if not self._is_closing or self._is_closed or self._users:
                return
            self._is_closed = True
        os.close(self._descriptor)
