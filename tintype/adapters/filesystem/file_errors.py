"""What the operating system says of a file, in the domain's words: each cause has its own class, none names a path."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from tintype.domain.errors import (
    StoreAccessDeniedError,
    StoreDeviceError,
    StoreFullError,
    StoreMissingError,
    StoreMountStaleError,
    StoreObjectTooLargeError,
    StoreQuotaExceededError,
    StoreReadOnlyError,
    StoreTimeoutError,
    StoreUnavailableError,
    TintypeError,
)

UNREADABLE = (errno.EIO, errno.EBADMSG, errno.EUCLEAN)
"""A bad sector, and what file systems say whose own checksums do not fit."""

_CLASSES: Mapping[int, tuple[type[TintypeError], str]] = {
    errno.ENOSPC: (StoreFullError, "has no room left"),
    errno.EDQUOT: (StoreQuotaExceededError, "has no room left within the quota of the service's user"),
    errno.EFBIG: (StoreObjectTooLargeError, "takes no file of that size"),
    errno.EROFS: (StoreReadOnlyError, "is on a file system that is mounted read-only"),
    errno.ESTALE: (StoreMountStaleError, "is on a share that its server no longer knows (stale file handle)"),
    errno.EXDEV: (StoreMountStaleError, "was mounted anew while the bytes were written"),
    errno.ENOTCONN: (StoreMountStaleError, "is on a mount whose server is gone"),
    errno.EACCES: (StoreAccessDeniedError, "does not let the service's user do this"),
    errno.EPERM: (StoreAccessDeniedError, "does not let the service's user do this"),
    errno.EIO: (StoreDeviceError, "has a disk that fails (EIO)"),
    errno.ENXIO: (StoreDeviceError, "has a disk that is gone"),
    errno.ENODEV: (StoreDeviceError, "has a disk that is gone"),
    errno.ESHUTDOWN: (StoreDeviceError, "has a file system that was shut down after an error"),
    errno.EBADMSG: (StoreDeviceError, "has a file system whose checksums do not fit"),
    errno.EUCLEAN: (StoreDeviceError, "has a file system that is damaged"),
    errno.ENOENT: (StoreMissingError, "lacks its directory"),
    errno.ETIMEDOUT: (StoreTimeoutError, "did not answer in time"),
    errno.EHOSTDOWN: (StoreTimeoutError, "has a server that is down"),
    errno.EHOSTUNREACH: (StoreTimeoutError, "has a server that cannot be reached"),
}


class PlaceMissingError(OSError):
    """The store's own directory is not there: unlike a ``FileNotFoundError`` it says nothing of any bytes."""

    def __init__(self) -> None:
        super().__init__(errno.ENOENT, os.strerror(errno.ENOENT))


def translated(store: str, error: OSError) -> TintypeError:
    """The error for the user of ``store``; what has no class of its own is a :class:`StoreUnavailableError`."""
    kind, said = _CLASSES.get(error.errno or 0, (StoreUnavailableError, ""))
    if not said:
        return kind(f"store {store!r} failed: {os.strerror(error.errno) if error.errno else 'unknown error'}")
    return kind(f"store {store!r} {said}")
