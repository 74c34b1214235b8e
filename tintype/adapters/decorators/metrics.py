"""What a store does, and how it is, as Prometheus counts it.

``StoreMetrics`` owns the names, which dashboards and alert rules use; whoever serves ``/metrics`` gives the registry.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from functools import partial
from typing import TypeVar
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tintype.adapters.decorators.delegation import DelegatingStore, DelegatingWriter, end
from tintype.domain.errors import StoreUnavailableError, TintypeError
from tintype.ports.image_store import BlobWriter, DirectLocation, Finding, ImageStore, StoredBlob, StoreMode, StoreSpace

R = TypeVar("R")

OK = "OK"
CANCELLED = "CANCELLED"
"""The caller wanted no more of it."""

_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300)


class StoreMetrics:
    """The metrics of all stores of one process, in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.operations = Counter(
            "tintype_store_operations",
            "Calls to the store by what became of them: OK, CANCELLED or the reason of the failure.",
            ("store", "operation", "outcome"),
            registry=registry,
        )
        self.seconds = Histogram(
            "tintype_store_operation_seconds",
            "Seconds that calls waited for the store; of a stream, all of its pieces together.",
            ("store", "operation"),
            buckets=_SECONDS,
            registry=registry,
        )
        self.read_bytes = Counter("tintype_store_read_bytes", "Bytes read.", ("store",), registry=registry)
        self.written_bytes = Counter("tintype_store_written_bytes", "Bytes written.", ("store",), registry=registry)
        self.retries = Counter(
            "tintype_store_retries", "Calls that were made again.", ("store", "operation"), registry=registry
        )
        self.mode = Gauge(
            "tintype_store_mode", "1 for the mode that the store is in.", ("store", "mode"), registry=registry
        )
        self.free = Gauge("tintype_store_free_bytes", "Room that is left.", ("store",), registry=registry)
        self.size = Gauge("tintype_store_size_bytes", "Room in all.", ("store",), registry=registry)

    def retried(self, store: str) -> Callable[[str], None]:
        """What counts the repetitions of one store's calls, by the call's name."""
        return lambda call: self.retries.labels(store, call).inc()


_OF_REGISTRIES: WeakKeyDictionary[CollectorRegistry, StoreMetrics] = WeakKeyDictionary()


def store_metrics(registry: CollectorRegistry) -> StoreMetrics:
    """The metrics of all stores in that registry, which takes each name once."""
    metrics = _OF_REGISTRIES.get(registry)
    if metrics is None:
        metrics = _OF_REGISTRIES[registry] = StoreMetrics(registry)
    return metrics


class Metrics(DelegatingStore):
    """A store that is counted."""

    def __init__(self, inner: ImageStore, metrics: StoreMetrics) -> None:
        super().__init__(inner)
        self._metrics = metrics
        for mode in StoreMode:
            metrics.mode.labels(self.name, mode).set_function(partial(_is_in, inner, mode))

    async def open_write(self, key: str, *, resume: bool = False, replace: bool = False) -> BlobWriter:
        """Begin a staged write, or go on with an interrupted one."""
        with self.counted("open_write"):
            writer = await self._inner.open_write(key, resume=resume, replace=replace)
        return _Writer(writer, self, self._metrics.written_bytes.labels(self.name))

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield committed bytes from ``offset``, ``length`` at most."""
        return self._read("read", self._inner.read(key, offset=offset, length=length))

    def read_uncommitted(self, key: str) -> AsyncIterator[bytes]:
        """Yield the bytes of an unfinished write from the beginning."""
        return self._read("read_uncommitted", self._inner.read_uncommitted(key))

    async def stat(self, key: str) -> StoredBlob:
        """What is under ``key``, committed or not."""
        return await self._count("stat", self._inner.stat(key))

    async def delete(self, key: str) -> None:
        """Remove the bytes of ``key``, committed or not."""
        await self._count("delete", self._inner.delete(key))

    def list(self, prefix: str = "") -> AsyncIterator[StoredBlob]:
        """Yield all that is stored under an image's id, or under everything."""
        return self._stream("list", self._inner.list(prefix))

    async def check(self) -> None:
        """Find out whether the store can be written and read; how much room it has is looked at, too."""
        await self._count("check", self._inner.check())
        with suppress(StoreUnavailableError):
            await self.space()

    async def examine(self) -> Sequence[Finding]:
        """Look at everything that an operator should know before the store is trusted."""
        return await self._count("examine", self._inner.examine())

    async def space(self) -> StoreSpace | None:
        """How much room there is; ``None`` where there is no such thing."""
        space = await self._count("space", self._inner.space())
        if space is not None:
            self._metrics.free.labels(self.name).set(space.free)
            self._metrics.size.labels(self.name).set(space.total)
        return space

    async def locate(self, key: str, *, expires_in_s: float) -> DirectLocation | None:
        """Where a compute service fetches or clones committed bytes by itself."""
        return await self._count("locate", self._inner.locate(key, expires_in_s=expires_in_s))

    async def aclose(self) -> None:
        """End its threads, connections and leases; its gauges are no longer told."""
        for mode in StoreMode:
            with suppress(KeyError):
                self._metrics.mode.remove(self.name, mode)
        await self._inner.aclose()

    @contextmanager
    def counted(self, operation: str) -> Iterator[None]:
        """Count one call, and the time that it takes."""
        begin = time.perf_counter()
        outcome = OK
        try:
            yield
        except BaseException as exc:
            outcome = _outcome(exc)
            raise
        finally:
            self._tell(operation, outcome, time.perf_counter() - begin)

    async def _count(self, operation: str, call: Awaitable[R]) -> R:
        with self.counted(operation):
            return await call

    async def _read(self, operation: str, reading: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        read_bytes = self._metrics.read_bytes.labels(self.name)
        async with aclosing(self._stream(operation, reading)) as pieces:
            async for piece in pieces:
                read_bytes.inc(len(piece))
                yield piece

    async def _stream(self, operation: str, things: AsyncIterator[R]) -> AsyncGenerator[R, None]:
        waited_s = 0.0
        outcome = OK
        try:
            while True:
                begin = time.perf_counter()
                try:
                    thing = await anext(things)
                except StopAsyncIteration:
                    return
                finally:
                    waited_s += time.perf_counter() - begin
                yield thing
        except BaseException as exc:
            outcome = _outcome(exc)
            raise
        finally:
            self._tell(operation, outcome, waited_s)
            await end(things)

    def _tell(self, operation: str, outcome: str, seconds: float) -> None:
        self._metrics.operations.labels(self.name, operation, outcome).inc()
        self._metrics.seconds.labels(self.name, operation).observe(seconds)


class _Writer(DelegatingWriter):
    def __init__(self, inner: BlobWriter, store: Metrics, written: Counter) -> None:
        super().__init__(inner)
        self._store = store
        self._written = written

    async def append(self, data: bytes | memoryview) -> None:
        """Write behind what is there."""
        with self._store.counted("append"):
            await self._inner.append(data)
        self._written.inc(len(data))

    async def commit(self, *, size: int, digests: Mapping[str, str]) -> None:
        """Make the bytes durable and visible."""
        with self._store.counted("commit"):
            await self._inner.commit(size=size, digests=digests)

    async def abort(self) -> None:
        """Remove what was written."""
        with self._store.counted("abort"):
            await self._inner.abort()

    async def close(self) -> None:
        """Stop writing, and keep the bytes."""
        with self._store.counted("close"):
            await self._inner.close()


def _is_in(store: ImageStore, mode: StoreMode) -> float:
    return float(store.state.mode is mode)


def _outcome(error: BaseException) -> str:
    if isinstance(error, TintypeError):
        return error.reason
    return CANCELLED if isinstance(error, asyncio.CancelledError | GeneratorExit) else TintypeError.reason
