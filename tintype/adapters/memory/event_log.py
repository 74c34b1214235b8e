"""The event log in memory, with every promise of the port and none of its durability."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

from tintype.codec import cloudevents
from tintype.codec.subjects import event_filters
from tintype.domain.errors import ConcurrencyConflictError
from tintype.domain.events import NewEvent, Progress, RecordedEvent
from tintype.domain.values import ImageId
from tintype.ports.event_log import Selection, WorkQueue
from tintype.ports.log_state import QueueState

_PROGRESS_BUFFER = 256


class MemoryEventLog:
    """One log for all who share the object, in one event loop. Leases run on the loop's time."""

    def __init__(self) -> None:
        self._events: list[RecordedEvent] = []
        self._histories: dict[ImageId, list[RecordedEvent]] = {}
        self._queues: dict[str, _Queue] = {}
        self._listeners: list[tuple[Selection, asyncio.Queue[Progress]]] = []
        self._changed = _Signal()

    async def append(self, event: NewEvent, *, after: RecordedEvent | None) -> RecordedEvent:
        """Append ``event`` behind ``after``; see :meth:`tintype.ports.event_log.EventLog.append`."""
        version, previous_hash = (after.version + 1, after.hash) if after else (1, "")
        # Through the wire's form and back, so that what NATS could not carry is refused here too.
        message = cloudevents.encode(event, version=version, previous_hash=previous_hash)
        history = self._histories.get(event.image_id, [])
        for recorded in history[max(0, version - 2) :]:
            if recorded.event.command_id == event.command_id:
                return recorded
        if (history[-1].position if history else 0) != (after.position if after else 0):
            raise ConcurrencyConflictError(f"image {event.image_id} was changed by somebody else meanwhile")
        position = len(self._events) + 1
        recorded = cloudevents.decode(message.subject, message.headers, message.payload, position=position)
        self._events.append(recorded)
        self._histories.setdefault(event.image_id, []).append(recorded)
        self._changed.notify()
        return recorded

    async def history(self, image_id: ImageId) -> Sequence[RecordedEvent]:
        """All events of one image, oldest first."""
        return tuple(self._histories.get(image_id, ()))

    async def head(self) -> int:
        """The position of the newest event of all."""
        return len(self._events)

    async def follow(self, *, after: int, selection: Selection = Selection()) -> AsyncIterator[RecordedEvent]:  # noqa: B008  # immutable
        """Yield every selected event; see :meth:`tintype.ports.event_log.EventLog.follow`."""
        event_filters(selection)  # a malformed id is refused here as it would be there
        position = after
        while True:
            while position < len(self._events):
                recorded = self._events[position]
                position += 1
                if _selects(selection, recorded):
                    yield recorded
            await self._changed.wait()

    @asynccontextmanager
    async def work(self, queue: WorkQueue) -> AsyncIterator[AsyncIterator[MemoryDelivery]]:
        """Take part in a work queue; see :meth:`tintype.ports.event_log.EventLog.work`."""
        state = self._queues.setdefault(queue.name, _Queue(queue, self._events, self._changed))
        state.settings = queue
        in_hand: list[MemoryDelivery] = []
        try:
            yield self._deliveries(state, in_hand)
        finally:
            for delivery in in_hand:
                if delivery.is_held():
                    await delivery.retry(0)

    async def tell_progress(self, progress: Progress) -> None:
        """Tell whoever listens how far a step is."""
        for selection, queue in self._listeners:
            if selection.project in (None, progress.project) and selection.image_id in (None, progress.image_id):
                if queue.full():
                    queue.get_nowait()
                queue.put_nowait(progress)

    async def follow_progress(self, selection: Selection = Selection()) -> AsyncIterator[Progress]:  # noqa: B008  # immutable
        """Yield progress as it is told; a reader that is too slow misses the oldest."""
        listener = (selection, asyncio.Queue[Progress](_PROGRESS_BUFFER))
        self._listeners.append(listener)
        try:
            while True:
                yield await listener[1].get()
        finally:
            self._listeners.remove(listener)

    def queue_states(self) -> list[QueueState]:
        """All work queues, by name."""
        return [self._queues[name].state() for name in sorted(self._queues)]

    def recorded_at(self, position: int) -> datetime | None:
        """When the event at ``position`` was made; ``None`` where there is none."""
        return self._events[position - 1].event.time if 0 < position <= len(self._events) else None

    async def _deliveries(self, queue: _Queue, in_hand: list[MemoryDelivery]) -> AsyncIterator[MemoryDelivery]:
        while True:
            delivery = queue.take()
            if delivery is None:
                queue.waiting += 1
                try:
                    await self._changed.wait(until=queue.next_change())
                finally:
                    queue.waiting -= 1
            else:
                in_hand[:] = [held for held in in_hand if held.is_held()] + [delivery]
                yield delivery


@dataclass(slots=True)
class _Lease:
    """When an event may be handed out again, and how often it has been."""

    free_at: float
    attempt: int
    is_in_flight: bool = True


@dataclass(slots=True)
class _Queue:
    settings: WorkQueue
    events: list[RecordedEvent]
    changed: _Signal
    scanned: int = 0
    leases: dict[int, _Lease] = field(default_factory=dict)
    """Of every event, by position, that was handed out and is not acknowledged."""
    waiting: int = 0

    def state(self) -> QueueState:
        pending = sum(type(event.payload) in self.settings.types for event in self.events[self.scanned :])
        again = sum(lease.attempt > 1 for lease in self.leases.values())
        return QueueState(self.settings.name, pending, len(self.leases), again, self.waiting)

    def take(self) -> MemoryDelivery | None:
        now = _now()
        lapsed = min((position for position, lease in self.leases.items() if lease.free_at <= now), default=None)
        if lapsed is not None:
            return self._hand_out(lapsed, self.leases[lapsed].attempt + 1)
        if len(self.leases) >= self.settings.max_in_flight:
            return None
        for position in self._unscanned():
            if type(self.events[position - 1].payload) in self.settings.types:
                return self._hand_out(position, 1)
        return None

    def next_change(self) -> float | None:
        return min((lease.free_at for lease in self.leases.values()), default=None)

    def _unscanned(self) -> Iterator[int]:
        while self.scanned < len(self.events):
            self.scanned += 1
            yield self.scanned

    def _hand_out(self, position: int, attempt: int) -> MemoryDelivery:
        self.leases[position] = _Lease(_now() + self.settings.lease_s, attempt)
        return MemoryDelivery(self.events[position - 1], attempt, self)


@dataclass(slots=True, eq=False)
class MemoryDelivery:
    """One event in the hands of one consumer."""

    event: RecordedEvent
    attempt: int
    _queue: _Queue

    def is_held(self) -> bool:
        """Whether it is still this consumer's: not settled, and not handed to another."""
        lease = self._queue.leases.get(self.event.position)
        return lease is not None and lease.attempt == self.attempt and lease.is_in_flight

    async def acknowledge(self) -> None:
        """The work is done: never hand it out again."""
        self._queue.leases.pop(self.event.position, None)
        self._queue.changed.notify()

    async def retry(self, delay_s: float) -> None:
        """Hand it out again after ``delay_s`` seconds."""
        if self.is_held():
            self._queue.leases[self.event.position] = _Lease(_now() + delay_s, self.attempt, is_in_flight=False)
            self._queue.changed.notify()

    async def extend(self) -> None:
        """The work goes on: begin the lease anew."""
        if self.is_held():
            self._queue.leases[self.event.position].free_at = _now() + self._queue.settings.lease_s


class _Signal:
    """Wakes all who wait."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, *, until: float | None = None) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout_at(until):
                await waiter
        except TimeoutError:
            return
        finally:
            self._waiters.discard(waiter)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _selects(selection: Selection, recorded: RecordedEvent) -> bool:
    return (
        selection.project in (None, recorded.event.project)
        and selection.image_id in (None, recorded.image_id)
        and (not selection.types or type(recorded.payload) in selection.types)
    )
