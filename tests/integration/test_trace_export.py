"""Spans go to a collector by the real protocol, and what is wrong with the collector is no concern of the service."""

from __future__ import annotations

import http.server
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from structlog.testing import capture_logs

from tests.backends.collector import Collector, collector
from tintype.domain.errors import ConfigurationError
from tintype.runtime import trace_export
from tintype.runtime.settings import TelemetrySettings
from tintype.runtime.trace_export import flush, tracer_provider, traces_exported


@contextmanager
def http_collector() -> Iterator[Collector]:
    """One that takes OTLP over HTTP."""
    collecting = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collecting.take(pb.ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        collecting.endpoint = f"http://127.0.0.1:{server.server_port}/v1/traces"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield collecting
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("kind", [collector, http_collector])
async def test_what_is_left_at_the_end_is_sent(kind: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody is there
    with kind() as collecting:  # type: ignore[operator]
        provider = tracer_provider(TelemetrySettings(traces_endpoint=collecting.endpoint), "importer")
        provider.get_tracer("test").start_span("the last", attributes={"text": "x" * 5000}).end()
        await flush(provider)
        (span,) = collecting.spans
    assert (span.name, span.service) == ("the last", "tintype-importer")
    assert span.attributes["text"] == "x" * trace_export.MAX_ATTRIBUTE_LENGTH


async def test_of_traces_that_begin_here_a_share_is_kept() -> None:
    with collector() as collecting:
        settings = TelemetrySettings(traces_endpoint=collecting.endpoint, traces_sample_ratio=0)
        provider = tracer_provider(settings, "importer")
        provider.get_tracer("test").start_span("not kept").end()
        await flush(provider)
        assert not collecting.spans


async def test_a_collector_that_hangs_keeps_no_service_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_export, "FLUSH_TIMEOUT_S", 0.1)
    monkeypatch.setattr(trace_export, "EXPORT_TIMEOUT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent, capture_logs() as logs:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        provider = tracer_provider(TelemetrySettings(traces_endpoint=endpoint), "importer")
        provider.get_tracer("test").start_span("lost").end()
        await flush(provider)
    assert [line["event"] for line in logs] == ["the last spans were not sent in time"]


async def test_a_collector_that_is_away_costs_spans_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_export, "FLUSH_TIMEOUT_S", 0.1)
    monkeypatch.setattr(trace_export, "EXPORT_TIMEOUT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
    provider = tracer_provider(TelemetrySettings(traces_endpoint=endpoint), "importer")
    for _ in range(5000):  # more than are kept
        provider.get_tracer("test").start_span("lost").end()
    await flush(provider)


@pytest.mark.parametrize(
    "missing", ["opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.grpc", "opentelemetry.sdk.resources"]
)
async def test_a_package_that_is_missing_is_named_with_its_extra(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigurationError, match=r"telemetry\.traces_endpoint needs the extra tintype\[telemetry\]"):
        async with traces_exported(TelemetrySettings(traces_endpoint="http://127.0.0.1:4317"), "importer"):
            pass


async def test_nothing_is_needed_where_no_traces_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    async with traces_exported(TelemetrySettings(), "importer"):
        pass
