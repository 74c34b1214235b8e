"""Where spans go: to a collector, by OTLP, from a thread of its own.

A collector that is slow, or away, costs spans and a line in the log, and nothing else: what is ended waits in a bounded
queue, and what does not fit is dropped.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog
from opentelemetry import trace

import tintype
from tintype.domain.errors import ConfigurationError
from tintype.runtime.settings import TelemetrySettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

log = structlog.get_logger(__name__)

EXPORT_TIMEOUT_S = 5.0
"""For one batch, repetitions included."""

FLUSH_TIMEOUT_S = 3.0
"""For all that is left when the service ends."""

MAX_ATTRIBUTE_LENGTH = 1024


@asynccontextmanager
async def traces_exported(settings: TelemetrySettings, service: str) -> AsyncIterator[None]:
    """Within the context spans are kept and sent; at its end what is left is sent, in limited time.

    Raises:
        ConfigurationError: the packages for it are not installed.
    """
    if not settings.traces_endpoint:
        yield
        return
    provider = tracer_provider(settings, service)
    trace.set_tracer_provider(provider)
    log.info("traces are sent", endpoint=settings.traces_endpoint, sample_ratio=settings.traces_sample_ratio)
    try:
        yield
    finally:
        await flush(provider)


def tracer_provider(settings: TelemetrySettings, service: str) -> TracerProvider:
    """What keeps spans and sends them; a caller's decision whether a trace is kept is followed.

    Raises:
        ConfigurationError: the packages for it are not installed.
    """
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import SpanLimits, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

        exporter = _exporter(settings.traces_endpoint)
    except ImportError as exc:
        raise ConfigurationError(
            f"telemetry.traces_endpoint needs the extra tintype[telemetry]: {exc.name} is missing"
        ) from exc
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.traces_sample_ratio)),
        resource=Resource.create(
            {
                "service.namespace": "tintype",
                "service.name": f"tintype-{service}",
                "service.version": tintype.__version__,
                "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
            }
        ),
        span_limits=SpanLimits(max_span_attribute_length=MAX_ATTRIBUTE_LENGTH),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


async def flush(provider: TracerProvider) -> None:
    """Send what is left, and end, in limited time."""
    # A thread that the interpreter does not wait for: a collector that hangs must not keep the service.
    flushing = threading.Thread(target=provider.shutdown, name="traces", daemon=True)
    flushing.start()
    await asyncio.to_thread(flushing.join, FLUSH_TIMEOUT_S)
    if flushing.is_alive():
        log.warning("the last spans were not sent in time")


def _exporter(endpoint: str) -> SpanExporter:
    """By gRPC, unless the endpoint has a path, as OTLP over HTTP has; never over a proxy that the environment names."""
    if urlsplit(endpoint).path.strip("/"):
        import requests
        from opentelemetry.exporter.otlp.proto.http import trace_exporter as http

        session = requests.Session()
        session.trust_env = False
        return http.OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT_S, session=session)
    from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc

    options: tuple[Any] = (("grpc.enable_http_proxy", 0),)
    return grpc.OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT_S, channel_options=options)
