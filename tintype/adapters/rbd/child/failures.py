"""What Ceph's errors mean, as words that the service knows: see ``tintype/adapters/rbd/failures.py``."""

from __future__ import annotations

import errno

import rados
import rbd

FULL, QUOTA, TIMEOUT, DENIED, MISSING = "full", "quota", "timeout", "denied", "missing"
BUSY, EXISTS, NOT_FOUND, DAMAGED, SWEPT, FENCED, FAILED = (
    "busy",
    "exists",
    "not-found",
    "damaged",
    "swept",
    "fenced",
    "failed",
)

_BY_NUMBER = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: QUOTA,
    errno.ETIMEDOUT: TIMEOUT,
    errno.EACCES: DENIED,
    errno.EPERM: DENIED,
    errno.ENOENT: NOT_FOUND,
    errno.ESHUTDOWN: FENCED,  # Ceph's EBLOCKLISTED
    errno.EROFS: SWEPT,  # the exclusive lock was taken away
}

CephError = (rados.Error, rbd.Error)
"""The roots of the two bindings' errors."""


class FailureError(Exception):
    """An outcome that the service is told of; ``said`` is a short sentence without names or paths."""

    def __init__(self, kind: str, said: str = "") -> None:
        super().__init__(kind, said)
        self.kind = kind
        self.said = said


def translated(exc: Exception) -> FailureError:
    """Ceph's error as an outcome."""
    if isinstance(exc, FailureError):
        return exc
    number = abs(getattr(exc, "errno", None) or 0)
    said = errno.errorcode.get(number, str(number)) if number else type(exc).__name__
    return FailureError(_BY_NUMBER.get(number, FAILED), said)
