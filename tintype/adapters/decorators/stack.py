"""All decorators of a store, in their order.

From the store outwards; a call passes them from the last to the first:

1. :class:`Deadlines`: each attempt ends in time.
2. :class:`Retry`: what passes by itself is tried again.
3. :class:`Bandwidth`, where a rate is set: waiting for its turn is no time of the store's, and nothing waits twice.
4. :class:`CircuitBreaker`: counts what failed for good, and refuses at once before anything waits.
5. :class:`ReadOnly`, where it is set.
6. :class:`CheckedState`: what checks find is the store's state.
7. :class:`Metrics` and 8. :class:`Tracing`: what users of the store meet with, refusals included.
9. :class:`StateWatch`: sees the state that all of the others make.

Reads are verified by :class:`~tintype.adapters.decorators.verified_reads.VerifiedReads`, around all of these.
"""

from __future__ import annotations

from tintype.adapters.decorators.bandwidth import Bandwidth
from tintype.adapters.decorators.checked_state import CheckedState
from tintype.adapters.decorators.circuit_breaker import CircuitBreaker
from tintype.adapters.decorators.deadlines import Deadlines
from tintype.adapters.decorators.metrics import Metrics, StoreMetrics
from tintype.adapters.decorators.read_only import ReadOnly
from tintype.adapters.decorators.retry import Patience, Retry
from tintype.adapters.decorators.state_watch import OnState, StateWatch, tell_nobody
from tintype.adapters.decorators.tracing import Tracing
from tintype.adapters.store_section import StoreSection
from tintype.ports.clock import Clock
from tintype.ports.image_store import ImageStore
from tintype.runtime.token_bucket import TokenBucket


def decorated(
    store: ImageStore,
    settings: StoreSection,
    clock: Clock,
    metrics: StoreMetrics,
    on_state: OnState = tell_nobody,
) -> ImageStore:
    """The store with everything around it that its settings ask for."""
    store = Deadlines(store, settings.timeout_s)
    store = Retry(store, Patience(settings.attempts, on_retry=metrics.retried(store.name)))
    if settings.write_bytes_s or settings.read_bytes_s:
        writing, reading = TokenBucket(settings.write_bytes_s), TokenBucket(settings.read_bytes_s)
        store = Bandwidth(store, writing=writing, reading=reading)
    store = CircuitBreaker(store, clock)
    if settings.read_only:
        store = ReadOnly(store, clock.now())
    store = CheckedState(store, clock)
    return StateWatch(Tracing(Metrics(store, metrics)), on_state)
