"""Traces: a call continues its caller's, an event carries the trace that led to it, and a step continues its event's.

W3C Trace Context is how a trace travels: ``traceparent`` in a call's metadata, ``ce-traceparent`` on an event. What is
not of that form is left out, as the specification asks. It travels as well where no spans are kept: without an SDK
(:mod:`tintype.runtime.trace_export`) the caller's trace is handed on as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
from opentelemetry.context import Context, attach
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    get_tracer,
    set_span_in_context,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from structlog.typing import EventDict, WrappedLogger

from tintype.codec.call_metadata import TRACEPARENT_KEY
from tintype.domain.errors import InternalError, TintypeError
from tintype.runtime.error_table import status_code
from tintype.runtime.rpc_metrics import code_of, split_method
from tintype.runtime.step_metrics import Outcome, StepAttempt

TRACER = get_tracer("tintype")

UNTRACED = frozenset({"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"})
"""Services that are asked all day long, about nothing that anybody would follow."""

IMAGE_ID = "tintype.image_id"
OPERATION_ID = "tintype.operation_id"
STEP = "tintype.step"
WORKER = "tintype.worker"
ATTEMPT = "tintype.attempt"
OUTCOME = "tintype.outcome"
ERROR = "error.type"
RPC_SERVICE, RPC_METHOD, RPC_CODE = "rpc.service", "rpc.method", "rpc.response.status_code"

_PROPAGATOR = TraceContextTextMapPropagator()
_SERVER_ERRORS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""What the semantic conventions count as an error of the server; others are the caller's."""


def current_traceparent() -> str:
    """The trace that this is a part of, as an event carries it; empty if it is part of none."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get(TRACEPARENT_KEY, "")


def continued(traceparent: str) -> Context:
    """The context whose spans continue a trace; a new trace begins where there is none."""
    return _PROPAGATOR.extract({TRACEPARENT_KEY: traceparent} if traceparent else {}, context=Context())


@asynccontextmanager
async def rpc_traced(method: str, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """Make a call a span of its caller's trace; within all that refuses callers, of whom nobody needs to hear."""
    service, name = split_method(method)
    if service in UNTRACED:
        yield
        return
    metadata = context.invocation_metadata() or ()
    parent = continued(next((str(value) for key, value in metadata if key == TRACEPARENT_KEY), ""))
    attributes = {"rpc.system.name": "grpc", RPC_SERVICE: service, RPC_METHOD: name}
    span = TRACER.start_span(f"{service}/{name}", parent, SpanKind.SERVER, attributes)
    # Never detached: a call has a task of its own, and a generator that a client has left may end in another one.
    attach(set_span_in_context(span, parent))
    code = "UNKNOWN"
    try:
        yield
        code = code_of(context)
    except (asyncio.CancelledError, GeneratorExit):
        code = "CANCELLED"
        raise
    except grpc.aio.AbortError:
        code = code_of(context)
        raise
    except Exception as exc:
        error = type(exc) if isinstance(exc, TintypeError) else InternalError
        code = status_code(error).name
        span.set_attribute(ERROR, exc.reason if isinstance(exc, TintypeError) else error.reason)
        raise
    finally:
        span.set_attribute(RPC_CODE, code)
        if code in _SERVER_ERRORS:
            span.set_status(Status(StatusCode.ERROR, code))
        span.end()


@contextmanager
def step_traced(attempt: StepAttempt, traceparent: str, ids: Mapping[str, str | int]) -> Iterator[None]:
    """Make an attempt at a step a span of its event's trace; ``ids`` say of which image, and so on."""
    attributes = {WORKER: attempt.worker, STEP: attempt.step, **ids}
    span = TRACER.start_span(f"step {attempt.step}", continued(traceparent), SpanKind.CONSUMER, attributes)
    with use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False):
        try:
            yield
        except BaseException as exc:
            attempt.left_with(exc)
            raise
        finally:
            _end_step(span, attempt)


def _end_step(span: Span, attempt: StepAttempt) -> None:
    """An error's reason is told, and not its text, which may name what a trace should not."""
    span.set_attribute(OUTCOME, attempt.outcome.value)
    if attempt.reason:
        span.set_attribute(ERROR, attempt.reason)
        if attempt.outcome is not Outcome.OVERTAKEN:
            span.set_status(Status(StatusCode.ERROR, attempt.reason))
    span.end()


def name_trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Put the trace and the span that a log line belongs to on it."""
    context = get_current_span().get_span_context()
    if context.is_valid:
        event.setdefault("trace_id", f"{context.trace_id:032x}")
        event.setdefault("span_id", f"{context.span_id:016x}")
    return event
