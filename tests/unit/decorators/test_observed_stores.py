"""What is counted and traced, and what is not told."""

from __future__ import annotations

import pytest
from opentelemetry.trace import Tracer
from prometheus_client import CollectorRegistry, generate_latest

from tests.unit.decorators.failing_store import KEY, FailingStore, put, read
from tintype.adapters.decorators.bandwidth import Bandwidth
from tintype.adapters.decorators.metrics import Metrics, StoreMetrics
from tintype.adapters.decorators.tracing import Tracing
from tintype.domain.errors import StoreBusyError
from tintype.runtime.token_bucket import TokenBucket


async def test_calls_bytes_room_and_mode_are_counted_under_stable_names() -> None:
    registry = CollectorRegistry()
    inner = FailingStore()
    metrics = StoreMetrics(registry)
    store = Metrics(inner, metrics)
    await put(store, b"0123456789abcdef")
    assert await read(store, 0, 10) == b"0123456789"
    inner.failures = [StoreBusyError("slow down")]
    with pytest.raises(StoreBusyError):
        await store.open_write(KEY)
    stream = store.read(KEY)
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]  # a generator
    metrics.retried("main")("read")
    await store.check()

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"store": "main", **labels})

    assert value("tintype_store_operations_total", operation="open_write", outcome="OK") == 1
    assert value("tintype_store_operations_total", operation="open_write", outcome="STORE_BUSY") == 1
    assert value("tintype_store_operations_total", operation="read", outcome="OK") == 1
    assert value("tintype_store_operations_total", operation="read", outcome="CANCELLED") == 1
    assert value("tintype_store_written_bytes_total") == 16
    assert value("tintype_store_read_bytes_total") == 14
    assert value("tintype_store_retries_total", operation="read") == 1
    assert value("tintype_store_operation_seconds_count", operation="commit") == 1
    assert value("tintype_store_mode", mode="read-write") == 1
    assert value("tintype_store_mode", mode="read-only") == 0
    assert value("tintype_store_free_bytes") == (1 << 30) - 16
    await store.aclose()
    assert b"tintype_store_mode{" not in generate_latest(registry)


class Recorded:
    """A tracer's spans, as far as this test asks."""

    def __init__(self) -> None:
        self.spans: list[dict[str, object]] = []

    def start_span(self, name: str, *, kind: object, attributes: dict[str, object]) -> RecordedSpan:
        self.spans.append({"name": name, **attributes})
        return RecordedSpan(self.spans[-1])


class RecordedSpan:
    def __init__(self, told: dict[str, object]) -> None:
        self._told = told

    def is_recording(self) -> bool:
        return "ended" not in self._told

    def set_attribute(self, key: str, value: object) -> None:
        assert self.is_recording()
        self._told[key] = value

    def add_event(self, name: str, attributes: object = None) -> None:
        self._told["event"] = name

    def set_status(self, status: object) -> None:
        assert self.is_recording()

    def end(self) -> None:
        assert self.is_recording()
        self._told["ended"] = True


async def test_each_call_is_one_span_that_ends_and_tells_a_reason_without_its_text() -> None:
    recorded = Recorded()
    tracer: Tracer = recorded  # type: ignore[assignment]
    inner = FailingStore()
    store = Tracing(inner, tracer)
    await put(store, b"0123")
    await read(store)
    inner.failures = [StoreBusyError("/secret")]
    with pytest.raises(StoreBusyError):
        await store.check()
    assert [span["name"] for span in recorded.spans] == ["store write", "store read", "store check"]
    assert all(span["ended"] for span in recorded.spans)
    assert recorded.spans[0]["tintype.bytes"] == recorded.spans[1]["tintype.bytes"] == 4
    assert recorded.spans[2]["error.type"] == "STORE_BUSY"
    assert "/secret" not in str(recorded.spans)


async def test_without_a_collector_spans_are_nothing() -> None:
    store = Tracing(FailingStore())
    await put(store, b"0123")
    assert await read(store) == b"0123"


async def test_writes_and_reads_wait_for_their_turn() -> None:
    slept: list[float] = []

    async def sleep(delay_s: float) -> None:
        slept.append(delay_s)

    writing = TokenBucket(2, monotonic=lambda: 0.0, sleep=sleep)
    reading = TokenBucket(4, monotonic=lambda: 0.0, sleep=sleep)
    store = Bandwidth(FailingStore(), writing=writing, reading=reading)
    await put(store, b"01234567")
    assert slept == [3.0]
    assert await read(store) == b"01234567"
    assert slept == [3.0, 1.0]
