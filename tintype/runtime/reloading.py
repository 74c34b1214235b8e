"""What is read from files, and read again when they change: certificates, tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from tintype.domain.errors import ConfigurationError
from tintype.runtime.metrics import RELOAD_FAILURES, RELOAD_OK

log = structlog.get_logger(__name__)

LOOK_INTERVAL_S = 1.0

T = TypeVar("T")
_State = tuple[tuple[int, int, int], ...]


class Reloading(Generic[T]):
    """A value made of files. :meth:`current` looks at them at most once a second, and costs nothing in between.

    What cannot be used is told once, and the value before it holds on: half of a rotation is seen as that.
    """

    def __init__(
        self,
        what: str,
        paths: Sequence[Path],
        read: Callable[[], T],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read for the first time; ``read`` makes the value, and ``what`` is what it is called in the log.

        Raises:
            ConfigurationError: by ``read``, which says what is wrong.
        """
        self._what = what
        self._paths = tuple(paths)
        self._read = read
        self._monotonic = monotonic
        self._seen = _state_of(self._paths)
        self._value = read()
        RELOAD_OK.labels(what).set(1)
        self._looked_at = monotonic()

    def current(self) -> T:
        """The value, as the files are now."""
        now = self._monotonic()
        if now - self._looked_at >= LOOK_INTERVAL_S:
            self._looked_at = now
            state = _state_of(self._paths)
            if state != self._seen:
                self._seen = state
                self._reload()
        return self._value

    def _reload(self) -> None:
        try:
            self._value = self._read()
            RELOAD_OK.labels(self._what).set(1)
            log.info("files were read again", what=self._what)
        except ConfigurationError as exc:
            RELOAD_OK.labels(self._what).set(0)
            RELOAD_FAILURES.labels(self._what).inc()
            log.error("changed files cannot be used: what was read before holds on", what=self._what, error=str(exc))


def _state_of(paths: Sequence[Path]) -> _State:
    return tuple(_state(path) for path in paths)


def _state(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, -1)
    return (found.st_ino, found.st_mtime_ns, found.st_size)
