"""How long a work queue is, as JetStream tells whoever works on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog

from tintype.adapters.nats.connection import NatsConnection
from tintype.codec.subjects import STREAM
from tintype.domain.errors import EventLogUnavailableError
from tintype.runtime.metrics import QUEUE_IN_HAND, QUEUE_PENDING, QUEUE_REDELIVERED

_log = structlog.get_logger()

INTERVAL_S = 10.0
_GAUGES = {"num_pending": QUEUE_PENDING, "num_ack_pending": QUEUE_IN_HAND, "num_redelivered": QUEUE_REDELIVERED}


@asynccontextmanager
async def queue_measured(connection: NatsConnection, queue: str) -> AsyncIterator[None]:
    """Within the context, ask for the queue's length again and again; what is not known is not told."""
    task = asyncio.create_task(_measure(connection, queue), name=f"length of queue {queue}")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        _forget(queue)


async def _measure(connection: NatsConnection, queue: str) -> None:
    while True:
        try:
            await measure_queue(connection, queue)
        except EventLogUnavailableError as exc:
            _forget(queue)
            _log.debug("the length of a queue is not known", queue=queue, error=str(exc))
        await asyncio.sleep(INTERVAL_S)


async def measure_queue(connection: NatsConnection, queue: str) -> None:
    """Ask once.

    Raises:
        EventLogUnavailableError: there is no such queue yet, or no answer.
    """
    answer = await connection.api(f"CONSUMER.INFO.{STREAM}.{queue}")
    if error := answer.get("error"):
        raise EventLogUnavailableError(f"queue {queue}: {error.get('description')}")
    for name, gauge in _GAUGES.items():
        gauge.labels(queue).set(int(answer[name]))


def _forget(queue: str) -> None:
    for gauge in _GAUGES.values():
        with suppress(KeyError):  # was never known
            gauge.remove(queue)
