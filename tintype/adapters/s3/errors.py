"""What an S3 server and its client library say, in the domain's words: no texts of the server, which it may choose."""

from __future__ import annotations

import re
from http.client import HTTPException

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as TransportTimeoutError

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

FAILURES = (BotoCoreError, ClientError, HTTPError, HTTPException, OSError)
"""All that a call raises which is not a defect of its caller."""

_CODE = re.compile(r"[A-Za-z0-9._-]{1,64}")

_BUSY = frozenset({"SlowDown", "TooManyRequests", "Throttling", "ThrottlingException", "RequestLimitExceeded"})
_DENIED = frozenset(
    {
        "AccessDenied",
        "AllAccessDisabled",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
_FULL = frozenset({"InsufficientStorage", "StorageFull", "XMinioStorageFull"})
_QUOTA = frozenset({"QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "LimitExceeded"})
_DAMAGED = frozenset(
    {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody"}
)


def code_of(error: BaseException) -> str:
    """The code of a server's answer (``NoSuchKey``; ``404`` where there was no body), or nothing."""
    if not isinstance(error, ClientError):
        return ""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return code if _CODE.fullmatch(code) else "unknown"


def status_of(error: BaseException) -> int:
    """The HTTP status of a server's answer, or 0."""
    if not isinstance(error, ClientError):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_missing(error: BaseException) -> bool:
    """Whether there is no such object. A missing bucket is something else, where the server says which."""
    return status_of(error) == 404 and code_of(error) not in ("NoSuchBucket", "NoSuchUpload")


def is_no_upload(error: BaseException) -> bool:
    """Whether there is no such multipart upload (any more)."""
    return code_of(error) == "NoSuchUpload"


def is_refused_condition(error: BaseException) -> bool:
    """Whether the condition of a write did not hold, or another write was faster (409)."""
    return status_of(error) == 412 or code_of(error) == "ConditionalRequestConflict"


def translated(store: str, error: BaseException) -> TintypeError:
    """The error in the domain's words."""
    if isinstance(error, ClientError):
        return _of_answer(f"store {store!r}", code_of(error), status_of(error))
    if isinstance(error, (ConnectTimeoutError, ReadTimeoutError, TransportTimeoutError, TimeoutError)):
        return StoreTimeoutError(f"store {store!r} did not answer in time")
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return StoreAccessDeniedError(f"store {store!r} has no credentials")
    if isinstance(error, SSLError):
        return StoreUnavailableError(f"store {store!r} cannot be reached: its TLS certificate was refused")
    if isinstance(error, HTTPClientError) and isinstance(error.kwargs.get("error"), TimeoutError):
        return StoreTimeoutError(f"store {store!r} did not take the bytes in time")
    return StoreUnavailableError(f"store {store!r} cannot be reached, or broke off ({type(error).__name__})")


def _of_answer(store: str, code: str, status: int) -> TintypeError:
    if code in _BUSY or status == 429:
        return StoreBusyError(f"{store} asks to be called less often")
    if code == "RequestTimeTooSkewed":
        return StoreAccessDeniedError(f"{store} refuses requests: its clock and this machine's differ too much")
    if code == "NoSuchBucket":
        return StoreMissingError(f"{store}: there is no such bucket")
    if code in _QUOTA:
        return StoreQuotaExceededError(f"{store} has no room left: its quota is used up")
    if code in _FULL or status == 507:
        return StoreFullError(f"{store} has no room left")
    if code == "EntityTooLarge" or status == 413:
        return StoreObjectTooLargeError(f"{store} takes no objects of that size")
    if code in _DENIED or status in (401, 403):
        return StoreAccessDeniedError(f"{store} does not let the service do this ({code})")
    if code in _DAMAGED:
        return StoreUnavailableError(f"{store} got other bytes than were sent ({code})")
    return StoreUnavailableError(f"{store} answered {status} ({code})")
