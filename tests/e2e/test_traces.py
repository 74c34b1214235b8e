"""The road of one image is one trace, whichever services it leads through."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from pathlib import Path

from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from tests.backends.collector import Collector, SeenSpan
from tests.e2e.roads import downloaded, imported
from tests.e2e.stack import Stack
from tintype.client import Client

STEPS = {"step stage", "step verify", "step convert", "step attest", "step place", "step publish"}


def of(trace_id: str, spans: Sequence[SeenSpan]) -> list[SeenSpan]:
    return [span for span in spans if span.trace_id == trace_id]


async def test_the_road_of_an_image_is_one_trace_through_all_services(
    stack: Stack, client: Client, traces: Collector, disks: Path, tmp_path: Path
) -> None:
    """A program with a span of its own creates, imports and downloads an image; nothing of it is another trace."""
    own = SpanContext(secrets.randbits(128) | 1, secrets.randbits(64) | 1, False, TraceFlags(TraceFlags.SAMPLED))
    trace_id, root = f"{own.trace_id:032x}", f"{own.span_id:016x}"
    with use_span(NonRecordingSpan(own)):
        image = await imported(client, tmp_path, (disks / "disk.qcow2").read_bytes(), "qcow2")
        await downloaded(client, image, tmp_path)

    last = {"step publish", "tintype.api.importer.v1.ImporterService/Read"}
    traces.wait_for(lambda seen: last <= {span.name for span in of(trace_id, seen)})
    spans = of(trace_id, traces.spans)
    steps = {span.name: span for span in spans if span.name.startswith("step ")}
    assert {"step stage", "step verify", "step convert", "step attest", "step publish"} <= set(steps) <= STEPS
    assert {span.attributes["tintype.image_id"] for span in steps.values()} == {image.id}
    assert {span.attributes["tintype.outcome"] for span in steps.values()} == {"done"}
    assert {span.service for span in spans} == {
        f"tintype-{service}" for service in ("catalog", "importer", "converter", "signer")
    }

    known = {root, *(span.span_id for span in spans)}
    assert {span.parent_id for span in spans} <= known, "a span hangs in the air"
    below = {span.parent_id for span in spans if span.name.startswith("store ")}
    assert {steps["step stage"].span_id, steps["step convert"].span_id} <= below

    carried = {recorded.traceparent.split("-")[1] async for recorded in client.images.history(image.id)}
    assert carried == {trace_id}
    logged = {
        line["service"]
        for path in (stack.data / "logs").glob("*.log")
        for line in map(json.loads, filter(lambda text: trace_id in text, path.read_text().splitlines()))
        if line.get("trace_id") == trace_id
    }
    assert {"importer", "converter", "signer"} <= logged


async def test_requests_of_programs_without_a_trace_begin_one_each(
    client: Client, traces: Collector, disks: Path, tmp_path: Path
) -> None:
    image = await imported(client, tmp_path, (disks / "disk.qcow2").read_bytes(), "qcow2")
    carried = [recorded.traceparent.split("-")[1] async for recorded in client.images.history(image.id)]
    created, asked, *steps = carried
    assert created != asked and set(steps) == {asked}
    begun = traces.wait_for(lambda seen: [span for span in of(asked, seen) if not span.parent_id])
    (root,) = [span for span in of(asked, begun) if not span.parent_id]
    assert (root.name, root.service) == ("tintype.api.catalog.v1.CatalogService/ImportImage", "tintype-catalog")
    # Each service is asked for its health all the time.
    assert not [span for span in begun if "grpc.health" in span.name]
