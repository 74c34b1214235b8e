"""Calls as part of their caller's trace, for programs that use OpenTelemetry; nothing is imported for it."""

from __future__ import annotations

import sys

from tintype.codec.call_metadata import TRACEPARENT_KEY


def trace_metadata() -> tuple[tuple[str, str], ...]:
    """The current span as W3C Trace Context; nothing where there is none, or no OpenTelemetry."""
    opentelemetry = sys.modules.get("opentelemetry.trace")  # who has a span has imported it
    if opentelemetry is None:
        return ()
    span = opentelemetry.get_current_span().get_span_context()
    if not span.is_valid:
        return ()
    return ((TRACEPARENT_KEY, f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags & 0xFF:02x}"),)
