"""The outcomes that the Ceph process tells of, in the domain's words."""

from __future__ import annotations

from tintype.domain.errors import (
    AlreadyExistsError,
    BlobDamagedError,
    BlobNotFoundError,
    StoreAccessDeniedError,
    StoreFullError,
    StoreMissingError,
    StoreQuotaExceededError,
    StoreTimeoutError,
    StoreUnavailableError,
    TintypeError,
    UploadBusyError,
)


def failure(store: str, kind: str, said: str) -> TintypeError:
    """The error for an outcome; ``said`` names no place and no secret."""
    why = f": {said}" if said else ""
    match kind:
        case "full":
            return StoreFullError(f"store {store!r} has no room left: the cluster is full")
        case "quota":
            return StoreQuotaExceededError(f"store {store!r} has no room left: the pool's quota is used up")
        case "timeout":
            return StoreTimeoutError(f"store {store!r} did not answer in time")
        case "denied":
            return StoreAccessDeniedError(f"store {store!r} was refused by Ceph{why}")
        case "missing":
            return StoreMissingError(f"store {store!r} has no pool: it does not exist, or the user may not see it")
        case "busy":
            return UploadBusyError("another writer is at those bytes")
        case "exists":
            return AlreadyExistsError("bytes are committed under that key")
        case "not-found":
            return BlobNotFoundError(f"store {store!r} has no such bytes")
        case "damaged":
            return BlobDamagedError(f"store {store!r} does not have the bytes as they should be{why}")
        case "swept" | "fenced":
            return StoreUnavailableError("the bytes were removed, or taken over by another writer, while written")
        case _:
            return StoreUnavailableError(f"store {store!r} failed{why}")
