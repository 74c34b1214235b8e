"""A program's calls are part of its trace, if it has one."""

from __future__ import annotations

import subprocess
import sys

from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from tintype.client.trace_metadata import trace_metadata


def test_a_call_carries_the_current_span() -> None:
    context = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, False, TraceFlags(1))
    with use_span(NonRecordingSpan(context)):
        assert trace_metadata() == (("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),)


def test_a_call_outside_of_a_trace_carries_none() -> None:
    assert trace_metadata() == ()


def test_the_client_imports_no_telemetry() -> None:
    program = "import sys, tintype.client; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
