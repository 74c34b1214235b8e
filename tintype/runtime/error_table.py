"""The gRPC status of every error, in one table, and how an error travels: google.rpc.Status with an ErrorInfo."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc import code_pb2, error_details_pb2, status_pb2

from tintype.codec.call_metadata import ERROR_DOMAIN, EVIDENCE_PREFIX
from tintype.domain import errors

STATUS: Mapping[type[errors.TintypeError], grpc.StatusCode] = {
    errors.InvalidArgumentError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.WrongOffsetError: grpc.StatusCode.OUT_OF_RANGE,
    errors.RangeNotSatisfiableError: grpc.StatusCode.OUT_OF_RANGE,
    errors.NotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExistsError: grpc.StatusCode.ALREADY_EXISTS,
    errors.PreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ConflictError: grpc.StatusCode.ABORTED,
    errors.RefusedContentError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.SourceError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotPermittedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    errors.ExhaustedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.UnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.AbandonedError: grpc.StatusCode.CANCELLED,
    errors.InternalError: grpc.StatusCode.INTERNAL,
    errors.BlobDamagedError: grpc.StatusCode.DATA_LOSS,
    errors.LogCorruptError: grpc.StatusCode.DATA_LOSS,
    errors.TintypeError: grpc.StatusCode.INTERNAL,
}
"""A class that is not here has the status of its nearest parent."""

MAX_MESSAGE_CHARACTERS = 500
"""A status travels in the trailers, twice, and percent-encoded: with 16 KiB of metadata a client would drop it all."""


MAX_EVIDENCE = 6
MAX_EVIDENCE_BYTES = 160


def status_code(error: type[errors.TintypeError]) -> grpc.StatusCode:
    """The gRPC status of an error's class."""
    return next(STATUS[cls] for cls in error.__mro__ if cls in STATUS)


def to_rpc_status(error: errors.TintypeError) -> status_pb2.Status:
    """The error as google.rpc.Status: reason, hint, retryability and evidence are in its ErrorInfo."""
    info = error_details_pb2.ErrorInfo(
        reason=error.reason,
        domain=ERROR_DOMAIN,
        metadata={"hint": error.hint, "retryable": str(error.retryable).lower(), **_evidence(error)},
    )
    detail = Any()
    detail.Pack(info)
    code = code_pb2.Code.Value(status_code(type(error)).name)
    return status_pb2.Status(code=code, message=error.message[:MAX_MESSAGE_CHARACTERS], details=[detail])


def _evidence(error: errors.TintypeError) -> Mapping[str, str]:
    kept = sorted(error.evidence.items())[:MAX_EVIDENCE]
    return {
        f"{EVIDENCE_PREFIX}{name}": value.encode()[:MAX_EVIDENCE_BYTES].decode(errors="ignore") for name, value in kept
    }
