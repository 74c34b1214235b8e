"""Swift's refusals, and what goes wrong on the way to it, in the domain's words."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

from tintype.domain.errors import (
    StoreAccessDeniedError,
    StoreBusyError,
    StoreFullError,
    StoreMissingError,
    StoreObjectTooLargeError,
    StoreQuotaExceededError,
    StoreTimeoutError,
    StoreUnavailableError,
    TintypeError,
)

FAILURES = (TimeoutError, aiohttp.ClientError, OSError, ValueError)
"""What a request can fail with that was not answered."""


def refusal(store: str, status: int, headers: Mapping[str, str], body: bytes) -> TintypeError:
    """The error that an answer stands for. Of the server's text nothing is told."""
    said = f"store {store!r}: Swift answered {status}"
    match status:
        case 401 | 403:
            return StoreAccessDeniedError(said)
        case 404:
            return StoreMissingError(f"{said}: the container is not there")
        case 408 | 499 | 504:
            return StoreTimeoutError(said)
        case 413:
            # Its quotas and its limit of sizes have the same status; only the sentence tells them apart.
            if b"quota" in body.lower():
                return StoreQuotaExceededError(f"{said}: a quota of the account or the container is reached")
            return StoreObjectTooLargeError(f"{said}: it takes no object of that size")
        case 422:
            return StoreUnavailableError(f"{said}: bytes were changed on their way")
        case 429 | 498:  # 498 is Swift's own limit of rates
            return StoreBusyError(said)
        case 503 if "Retry-After" in headers:
            return StoreBusyError(said)
        case 507:
            return StoreFullError(said)
        case _:
            return StoreUnavailableError(said)


def failure(store: str, exc: BaseException) -> TintypeError:
    """The error of a request that was not answered, or not to its end."""
    if isinstance(exc, TimeoutError):  # aiohttp's own are ones as well
        return StoreTimeoutError(f"store {store!r}: Swift did not answer in time")
    return StoreUnavailableError(f"store {store!r}: Swift does not answer as it should ({type(exc).__name__})")
