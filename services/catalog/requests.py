"""What every call brings along: its caller, its request id, its trace, and how long it waits."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import grpc
from google.protobuf.message import Message

from services.catalog.commands import Request, checked_request_id
from services.catalog.reading import Freshness
from services.catalog.watermark import MAX_WAIT_S
from tintype.codec import values
from tintype.domain.errors import InvalidArgumentError
from tintype.runtime.auth import current_caller
from tintype.runtime.tracing import current_traceparent

Context = grpc.aio.ServicerContext[Any, Any]


def request_of(context: Context, request_id: str, *, is_validate_only: bool = False) -> Request:
    """Who asks for a change, and under which id.

    Raises:
        InvalidIdentifierError: the project, the actor or the id is malformed.
    """
    return Request(current_caller(), checked_request_id(request_id), current_traceparent(), is_validate_only)


def freshness_of(context: Context, min_position: int) -> Freshness:
    """How new the answer has to be, and how long the call can wait for that: a little less than its deadline.

    Raises:
        InvalidArgumentError: a negative position.
    """
    if min_position < 0:
        raise InvalidArgumentError("min_position must not be negative")
    remaining_s: float | None = context.time_remaining()  # the stubs know only calls with a deadline
    timeout_s = MAX_WAIT_S if remaining_s is None else min(remaining_s * 0.9, MAX_WAIT_S)
    return Freshness(min_position, max(timeout_s, 0.0))


def as_of(request: Message) -> datetime | None:
    """The time that a request names in ``as_of``; ``None`` for now.

    Raises:
        InvalidArgumentError: beyond the years 1 to 9999.
    """
    return values.decode_time(getattr(request, "as_of")) if request.HasField("as_of") else None  # noqa: B009
