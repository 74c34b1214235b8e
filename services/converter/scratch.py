"""The scratch directory of one process, and the end of those whose process was killed.

Each process has a directory of its own within the configured one, which replicas may share, and holds a lock in it for
as long as it lives: the kernel lets go of that however the process ends. What nobody holds belongs to nobody.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from tintype.domain.errors import ConfigurationError

log = structlog.get_logger(__name__)

PREFIX = "tintype-converter-"
LOCK = "lock"
YOUNG_S = 60.0
"""A directory that was touched since may be one whose lock is just about to be taken."""


@contextmanager
def own_scratch(directory: Path) -> Iterator[Path]:
    """A directory within ``directory`` that is gone when the context ends; what killed processes left goes first.

    Raises:
        ConfigurationError: ``directory`` cannot be used.
    """
    try:
        remove_abandoned(directory)
        own = Path(tempfile.mkdtemp(prefix=PREFIX, dir=directory))
        descriptor = _opened(own / LOCK, os.O_CREAT)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as exc:
        raise ConfigurationError(f"converter.scratch_dir {directory} cannot be used: {exc.strerror}") from exc
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        os.close(descriptor)


def remove_abandoned(directory: Path) -> None:
    """Remove what processes of this user left that do not live any more."""
    for path in directory.glob(f"{PREFIX}*"):
        try:
            if _is_abandoned(path):
                shutil.rmtree(path)
                log.info("scratch files of a killed process were removed", directory=str(path))
        except OSError as exc:
            log.warning("abandoned scratch files were not removed", directory=str(path), error=exc.strerror)


def _is_abandoned(path: Path) -> bool:
    found = path.lstat()
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    if not is_ours or time.time() - found.st_mtime < YOUNG_S:
        return False
    try:
        descriptor = _opened(path / LOCK)
    except FileNotFoundError:
        return True  # killed before it had a lock
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _opened(path: Path, flags: int = 0) -> int:
    return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
