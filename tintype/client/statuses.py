"""From a gRPC status to an error of the SDK.

The service's ``google.rpc.ErrorInfo`` decides where there is one: its reason stands in the domain's tree, and so in one
of this side's classes. A reason that this release does not know, and a plain transport error, go by the status code.
"""

from __future__ import annotations

from collections.abc import Mapping

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from tintype.client import errors
from tintype.codec.call_metadata import ERROR_DOMAIN, EVIDENCE_PREFIX, STATUS_TRAILER
from tintype.domain import errors as domain

BY_CATEGORY: Mapping[type[domain.TintypeError], type[errors.ClientError]] = {
    domain.InvalidArgumentError: errors.InvalidRequestError,
    domain.NotFoundError: errors.NotFoundError,
    domain.AlreadyExistsError: errors.AlreadyExistsError,
    domain.PreconditionError: errors.PreconditionError,
    domain.ConflictError: errors.ConflictError,
    domain.RefusedContentError: errors.ContentError,
    domain.SourceError: errors.SourceError,
    domain.NotPermittedError: errors.NotPermittedError,
    domain.ExhaustedError: errors.ExhaustedError,
    domain.UnavailableError: errors.ServiceUnavailableError,
    domain.AbandonedError: errors.CancelledOperationError,
    domain.InternalError: errors.ServiceDefectError,
    # Damage to the service; to whoever wants the bytes it is about them.
    domain.BlobDamagedError: errors.IntegrityError,
}
"""Each category of the domain's tree, and what it is on this side; the nearest one counts."""

BY_CODE: Mapping[grpc.StatusCode, type[errors.ClientError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExistsError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.PreconditionError,
    grpc.StatusCode.ABORTED: errors.ConflictError,
    grpc.StatusCode.PERMISSION_DENIED: errors.NotPermittedError,
    grpc.StatusCode.UNAUTHENTICATED: errors.NotPermittedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ExhaustedError,
    grpc.StatusCode.UNAVAILABLE: errors.ServiceUnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.ServiceUnavailableError,
    grpc.StatusCode.CANCELLED: errors.ServiceUnavailableError,
    # Services say INTERNAL with an ErrorInfo alone. Without one it is what gRPC makes of a stream that was torn off: by
    # a router, when the replica behind it is gone.
    grpc.StatusCode.INTERNAL: errors.ServiceUnavailableError,
    grpc.StatusCode.UNKNOWN: errors.ServiceUnavailableError,
}
"""For a status without an ErrorInfo; any other code is a defect of the service."""

_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
"""What gRPC and OpenSSL say, somewhere in their messages, of a certificate that ``client.ca`` does not prove."""

_UNTRUSTED_HINT = (
    "The service shows a certificate that has expired, is for another name, or is not of the authority in `ca` of "
    "client.toml: is that this deployment's?"
)

_CLASSES: Mapping[str, type[errors.ClientError]] = {
    error.reason: next(BY_CATEGORY[category] for category in error.__mro__ if category in BY_CATEGORY)
    for error in domain.every_error()
    if error is not domain.TintypeError
}


def from_rpc_error(error: grpc.aio.AioRpcError) -> errors.ClientError:
    """What a failed call means."""
    message = (error.details() or "").strip()
    info = error_info(error)
    if info is None:
        kind = BY_CODE.get(error.code(), errors.ServiceDefectError)
        timed_out = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        return kind(
            message or f"the service answered {error.code().name}",
            reason="DEADLINE_EXCEEDED" if timed_out else None,
            hint=hint_of(message),
        )
    kind = _CLASSES.get(info.reason) or BY_CODE.get(error.code(), errors.ServiceDefectError)
    return kind(
        message or info.reason,
        reason=info.reason,
        hint=info.metadata.get("hint", ""),
        retryable=info.metadata.get("retryable") == "true",
        evidence={
            name.removeprefix(EVIDENCE_PREFIX): value
            for name, value in info.metadata.items()
            if name.startswith(EVIDENCE_PREFIX)
        },
    )


def hint_of(message: str) -> str | None:
    """What to do about a connection that failed with that message; ``None`` where it says nothing special."""
    return _UNTRUSTED_HINT if _UNTRUSTED in message else None


def from_domain(error: domain.TintypeError) -> errors.ClientError:
    """What a refusal of the domain's means that arose on this side: verification here is the services' own code."""
    kind = _CLASSES.get(error.reason, errors.ServiceDefectError)
    if isinstance(error, domain.ConfigurationError):
        kind = errors.ConfigurationError
    return kind(error.message, reason=error.reason, hint=error.hint, retryable=error.retryable, evidence=error.evidence)


def error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo | None:
    """The service's own words on an error; ``None`` where it has none, or they cannot be read."""
    for key, value in error.trailing_metadata() or ():
        if key != STATUS_TRAILER or not isinstance(value, bytes):
            continue
        try:
            return _unpacked(status_pb2.Status.FromString(value))
        except DecodeError:
            return None
    return None


def _unpacked(status: status_pb2.Status) -> error_details_pb2.ErrorInfo | None:
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
            return info
    return None
