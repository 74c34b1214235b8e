"""A collector of traces: the OTLP service over gRPC, with the spans that came to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import KeyValue


@dataclass(frozen=True)
class SeenSpan:
    """A span as it came over the wire."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    service: str
    attributes: dict[str, object]
    is_error: bool


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps all spans."""

    def __init__(self) -> None:
        self.endpoint = ""
        self._spans: list[SeenSpan] = []
        self._lock = threading.Lock()

    def Export(
        self, request: pb.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> pb.ExportTraceServiceResponse:
        """Take some."""
        self.take(request)
        return pb.ExportTraceServiceResponse()

    def take(self, request: pb.ExportTraceServiceRequest) -> None:
        """Keep what a request brings."""
        found = [
            SeenSpan(
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                span.name,
                str(_attributes(resource.resource.attributes)["service.name"]),
                _attributes(span.attributes),
                span.status.code == span.status.STATUS_CODE_ERROR,
            )
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self._spans += found

    @property
    def spans(self) -> list[SeenSpan]:
        """What has come so far."""
        with self._lock:
            return list(self._spans)

    def wait_for(self, select: Callable[[Sequence[SeenSpan]], object], timeout_s: float = 30) -> list[SeenSpan]:
        """All spans, once ``select`` finds in them what it looks for."""
        deadline = time.monotonic() + timeout_s
        while not select(spans := self.spans):
            if time.monotonic() > deadline:
                raise AssertionError(f"it did not come; of {len(spans)} spans: {sorted({s.name for s in spans})}")
            time.sleep(0.02)
        return spans


def _attributes(pairs: Sequence[KeyValue]) -> dict[str, object]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in pairs}


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector that listens on loopback."""
    collecting = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collecting, server)  # type: ignore[no-untyped-call]
    collecting.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collecting
    finally:
        server.stop(None).wait()
