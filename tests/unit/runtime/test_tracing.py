"""Calls, events and steps are parts of one trace, kept or not; and what is no trace is no part of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, get_current_span, use_span

from tests.unit.runtime.samples import grown, sample
from tintype.domain.access import Caller
from tintype.domain.errors import SignatureInvalidError, StoreUnavailableError, UnauthenticatedError
from tintype.runtime import tracing
from tintype.runtime.grpc_server import serving
from tintype.runtime.step_metrics import Outcome, StepAttempt
from tintype.runtime.tracing import continued, current_traceparent, name_trace, step_traced

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
SERVICE = "tintype.Traced"
DEADLINE_S = 10

Context = grpc.aio.ServicerContext[Any, Any]


class Handlers:
    """Methods that say which trace they are a part of."""

    def __init__(self) -> None:
        self.has_ended = asyncio.Event()

    async def tell(self, request: bytes, context: Context) -> bytes:
        return current_traceparent().encode()

    async def refuse(self, request: bytes, context: Context) -> bytes:
        raise SignatureInvalidError("the password is 1234")

    async def crash(self, request: bytes, context: Context) -> bytes:
        raise ValueError("the password is 1234")

    async def endless(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        try:
            while True:
                yield current_traceparent().encode()
                await asyncio.sleep(0)
        finally:
            self.has_ended.set()

    def register(self, server: grpc.aio.Server) -> None:
        """Add them to a server."""
        unary = {"Tell": self.tell, "Refuse": self.refuse, "Crash": self.crash}
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            **{name: grpc.unary_unary_rpc_method_handler(method) for name, method in unary.items()},
            "Endless": grpc.unary_stream_rpc_method_handler(self.endless),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Spans are kept here."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "TRACER", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
async def channel(handlers: Handlers) -> AsyncIterator[grpc.aio.Channel]:
    async with (
        serving([handlers.register], [], "127.0.0.1:0", drain_s=0) as (address, _),
        grpc.aio.insecure_channel(address) as opened,
    ):
        yield opened


async def ask(channel: grpc.aio.Channel, method: str, *traceparents: str) -> str:
    """What a method says, or its status."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/{method}")
    try:
        answer = await call(b"", timeout=DEADLINE_S, metadata=[("traceparent", each) for each in traceparents])
        return answer.decode()
    except grpc.aio.AioRpcError as exc:
        return exc.code().name


async def the_span(kept: InMemorySpanExporter) -> ReadableSpan:
    """The only span, which ends a moment after its call."""
    async with asyncio.timeout(DEADLINE_S):
        while not (spans := kept.get_finished_spans()):
            await asyncio.sleep(0)
    (span,) = spans
    return span


def ids(span: ReadableSpan) -> tuple[str, str]:
    assert span.context is not None
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


async def test_a_call_is_a_span_of_its_callers_trace(channel: grpc.aio.Channel, kept: InMemorySpanExporter) -> None:
    told = await ask(channel, "Tell", TRACEPARENT)
    span = await the_span(kept)
    assert span.parent is not None and f"{span.parent.span_id:016x}" == SPAN
    assert told == "00-{}-{}-01".format(*ids(span))
    assert (ids(span)[0], span.name, span.kind) == (TRACE, f"{SERVICE}/Tell", SpanKind.SERVER)
    assert span.attributes is not None and span.attributes["rpc.response.status_code"] == "OK"


@pytest.mark.parametrize(
    "traceparent", ["", "nonsense", f"00-{'0' * 32}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01", "00-" * 500]
)
async def test_what_is_no_trace_context_begins_a_trace(
    channel: grpc.aio.Channel, kept: InMemorySpanExporter, traceparent: str
) -> None:
    await ask(channel, "Tell", *([traceparent] if traceparent else []))
    span = await the_span(kept)
    assert span.parent is None and ids(span)[0] != TRACE


async def test_a_trace_is_handed_on_also_where_no_spans_are_kept(channel: grpc.aio.Channel) -> None:
    assert await ask(channel, "Tell", TRACEPARENT) == TRACEPARENT
    assert await ask(channel, "Tell") == ""


async def test_a_callers_decision_to_keep_nothing_is_handed_on(
    channel: grpc.aio.Channel, kept: InMemorySpanExporter
) -> None:
    told = await ask(channel, "Tell", f"00-{TRACE}-{SPAN}-00")
    assert told.startswith(f"00-{TRACE}-") and told.endswith("-00")
    assert not kept.get_finished_spans()


@pytest.mark.parametrize(
    ("method", "code", "is_error"), [("Refuse", "FAILED_PRECONDITION", False), ("Crash", "INTERNAL", True)]
)
async def test_a_span_tells_the_status_and_no_word_of_the_error(
    channel: grpc.aio.Channel, kept: InMemorySpanExporter, method: str, code: str, is_error: bool
) -> None:
    assert await ask(channel, method) == code
    span = await the_span(kept)
    assert span.attributes is not None and span.attributes["rpc.response.status_code"] == code
    assert span.status.is_ok is not is_error
    assert "1234" not in span.to_json()


async def test_a_stream_that_its_client_leaves_is_a_span_that_ends(
    channel: grpc.aio.Channel, kept: InMemorySpanExporter, handlers: Handlers
) -> None:
    stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(f"/{SERVICE}/Endless")
    call = stream(b"", timeout=DEADLINE_S, metadata=[("traceparent", TRACEPARENT)])
    said = {await call.read() for _ in range(3)}
    call.cancel()
    await handlers.has_ended.wait()
    span = await the_span(kept)
    assert said == {"00-{}-{}-01".format(*ids(span)).encode()}
    assert span.attributes is not None and span.attributes["rpc.response.status_code"] == "CANCELLED"
    assert not get_current_span().get_span_context().is_valid


def attempted(outcome: Outcome, error: Exception | None = None) -> StepAttempt:
    """An attempt at a step whose event carries the trace."""
    attempt = StepAttempt("importer", "stage")
    try:
        with step_traced(attempt, TRACEPARENT, {"tintype.image_id": "an image", "tintype.attempt": 2}):
            assert current_traceparent().startswith(f"00-{TRACE}-")
            attempt.outcome = outcome
            if error:
                raise error
    except StoreUnavailableError:
        pass
    return attempt


async def test_a_step_is_a_span_of_its_events_trace(kept: InMemorySpanExporter) -> None:
    attempted(Outcome.DONE)
    span = await the_span(kept)
    assert span.parent is not None and f"{span.parent.span_id:016x}" == SPAN
    assert (span.name, span.kind, span.status.is_ok) == ("step stage", SpanKind.CONSUMER, True)
    assert dict(span.attributes or {}) == {
        "tintype.worker": "importer",
        "tintype.step": "stage",
        "tintype.image_id": "an image",
        "tintype.attempt": 2,
        "tintype.outcome": "done",
    }
    assert not get_current_span().get_span_context().is_valid


async def test_a_step_that_fails_tells_its_reason_and_no_word_of_the_error(kept: InMemorySpanExporter) -> None:
    attempted(Outcome.DONE, StoreUnavailableError("the password is 1234"))
    span = await the_span(kept)
    assert span.attributes is not None
    assert (span.attributes["tintype.outcome"], span.attributes["error.type"]) == ("retried", "STORE_UNAVAILABLE")
    assert not span.status.is_ok and "1234" not in span.to_json()


async def test_a_step_hands_its_trace_on_also_where_no_spans_are_kept() -> None:
    attempt = StepAttempt("importer", "stage")
    with step_traced(attempt, TRACEPARENT, {}):
        assert current_traceparent() == TRACEPARENT
    with step_traced(attempt, "", {}):
        assert current_traceparent() == ""


def test_a_log_line_names_its_trace_and_span() -> None:
    with use_span(get_current_span(continued(TRACEPARENT))):
        assert name_trace(None, "info", {"event": "x"}) == {"event": "x", "trace_id": TRACE, "span_id": SPAN}
    assert name_trace(None, "info", {"event": "x"}) == {"event": "x"}


async def test_a_caller_who_is_refused_makes_no_span_and_is_counted(
    kept: InMemorySpanExporter, handlers: Handlers
) -> None:
    def nobody(metadata: object) -> Caller:
        raise UnauthenticatedError("the call shows no token")

    labels = {"service": SERVICE, "method": "Tell", "code": "UNAUTHENTICATED"}
    before = sample("tintype_rpc_seconds_count", **labels)
    async with (
        serving([handlers.register], [], "127.0.0.1:0", drain_s=0, authenticate=nobody) as (address, _),
        grpc.aio.insecure_channel(address) as channel,
    ):
        assert await ask(channel, "Tell", TRACEPARENT) == "UNAUTHENTICATED"
    assert grown("tintype_rpc_seconds_count", before, **labels) == 1
    assert not kept.get_finished_spans()
