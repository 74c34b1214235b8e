"""Work queues: durable consumers that replicas share, with leases.

A message is pulled only when somebody asks for it, so that no lease runs while it waits in a buffer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from nats.aio.msg import Msg

from tintype.adapters.nats.backoff import Backoff
from tintype.adapters.nats.connection import NatsConnection
from tintype.adapters.nats.follow import create_consumer
from tintype.adapters.nats.pull import DeliveryMetadata, PullInterruptedError, PullReader, open_reader
from tintype.adapters.nats.queue_metrics import queue_measured
from tintype.codec import cloudevents
from tintype.codec.subjects import type_filters
from tintype.domain.errors import EventLogUnavailableError, LogCorruptError
from tintype.domain.events import RecordedEvent
from tintype.ports.event_log import WorkQueue
from tintype.runtime.metrics import EVENTS_UNDECODABLE

_log = structlog.get_logger()

_NANOSECONDS = 1_000_000_000
_PARKED_S = 60.0
_GIVE_BACK_DEADLINE_S = 2.0
_ACK, _IN_PROGRESS = b"+ACK", b"+WPI"


@dataclass(slots=True, eq=False)
class NatsDelivery:
    """One event in the hands of one consumer; each call waits until the server has taken note."""

    event: RecordedEvent
    attempt: int
    _connection: NatsConnection
    _reply: str
    _settled: Callable[[NatsDelivery], None]

    async def acknowledge(self) -> None:
        """The work is done: never hand it out again."""
        await self._connection.request(self._reply, _ACK)
        self._settled(self)

    async def retry(self, delay_s: float) -> None:
        """Hand it out again after ``delay_s`` seconds."""
        await self._connection.request(self._reply, _nak(delay_s))
        self._settled(self)

    async def extend(self) -> None:
        """The work goes on: begin the lease anew."""
        await self._connection.request(self._reply, _IN_PROGRESS)


class NatsWork:
    """One participant in a work queue; use :func:`take_part`."""

    def __init__(self, connection: NatsConnection, queue: WorkQueue) -> None:
        self._connection = connection
        self._queue = queue
        self._in_hand: set[NatsDelivery] = set()
        self._reader: PullReader | None = None

    async def deliveries(self) -> AsyncIterator[NatsDelivery]:
        """Yield one event after the other, through reconnects and restarts.

        Raises:
            EventLogUnavailableError: the connection is closed for good.
        """
        backoff = Backoff()
        while True:
            try:
                await self._create_consumer()
                async with open_reader(self._connection, self._queue.name, batch=1) as self._reader:
                    while True:
                        message = await self._reader.next()
                        backoff.reset()
                        if delivery := await self._delivery(message):
                            yield delivery
            except (PullInterruptedError, EventLogUnavailableError) as exc:
                if self._connection.is_closed:
                    raise EventLogUnavailableError("the connection to NATS is closed") from exc
                _log.warning("work was interrupted", queue=self._queue.name, error=str(exc))
            finally:
                await self._give_back_unread()
            await backoff.wait()

    async def close(self) -> None:
        """Hand everything that is in hand to others at once."""
        await self._give_back(delivery._reply for delivery in self._in_hand)
        self._in_hand.clear()

    async def _delivery(self, message: Msg) -> NatsDelivery | None:
        metadata = DeliveryMetadata.of(message)
        try:
            event = cloudevents.decode(message.subject, message.headers, message.data, position=metadata.position)
        except LogCorruptError as exc:
            EVENTS_UNDECODABLE.inc()
            # Kept back rather than ended: another release may know it, and somebody should be told until then.
            _log.error(
                "event could not be decoded, and is kept back",
                queue=self._queue.name,
                position=metadata.position,
                subject=message.subject,
                reason=exc.reason,
                error=str(exc),
            )
            await self._connection.publish(message.reply, _nak(_PARKED_S))
            return None
        delivery = NatsDelivery(event, metadata.attempt, self._connection, message.reply, self._in_hand.discard)
        self._in_hand.add(delivery)
        return delivery

    async def _create_consumer(self) -> None:
        queue = self._queue
        await create_consumer(
            self._connection,
            queue.name,
            {
                "durable_name": queue.name,
                "deliver_policy": "all",
                "filter_subjects": list(type_filters(queue.types)),
                "ack_policy": "explicit",
                "ack_wait": int(queue.lease_s * _NANOSECONDS),
                "max_ack_pending": queue.max_in_flight,
                "max_deliver": -1,
            },
        )

    async def _give_back_unread(self) -> None:
        if self._reader is not None:
            await self._give_back(message.reply for message in self._reader.take_unread())

    async def _give_back(self, replies: Iterable[str]) -> None:
        try:
            async with asyncio.timeout(_GIVE_BACK_DEADLINE_S):
                await asyncio.gather(*(self._connection.request(reply, _nak(0)) for reply in replies))
        except (EventLogUnavailableError, TimeoutError) as exc:
            _log.warning("events stay leased until their lease lapses", queue=self._queue.name, error=str(exc))


@asynccontextmanager
async def take_part(connection: NatsConnection, queue: WorkQueue) -> AsyncIterator[AsyncIterator[NatsDelivery]]:
    """Take part in a work queue until the context ends."""
    work = NatsWork(connection, queue)
    deliveries = work.deliveries()
    try:
        async with queue_measured(connection, queue.name):
            yield deliveries
    finally:
        await deliveries.aclose()  # type: ignore[attr-defined]  # it is a generator
        await work.close()


def _nak(delay_s: float) -> bytes:
    if delay_s <= 0:
        return b"-NAK"
    return b"-NAK " + json.dumps({"delay": int(delay_s * _NANOSECONDS)}).encode()
