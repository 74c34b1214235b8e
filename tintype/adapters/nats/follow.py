"""Following the log in order, through reconnects and restarts of the server, without a gap or a repetition.

An *ordered consumer*: it lives in the server's memory, is never acknowledged, and is made anew behind the last event
that was seen whenever anything is wrong with it.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog
from nats.aio.msg import Msg

from tintype.adapters.nats.backoff import Backoff
from tintype.adapters.nats.connection import NatsConnection
from tintype.adapters.nats.pull import DeliveryMetadata, PullInterruptedError, PullReader, open_reader
from tintype.codec.subjects import STREAM
from tintype.domain.errors import EventLogUnavailableError

_log = structlog.get_logger()

_BATCH = 512
_INACTIVE_S = 300
_NANOSECONDS = 1_000_000_000


async def follow_messages(
    connection: NatsConnection, filters: Sequence[str], after: int
) -> AsyncIterator[tuple[int, Msg]]:
    """Yield each message of the filters behind a position, with its own position, for ever.

    Raises:
        EventLogUnavailableError: the connection is closed for good.
    """
    backoff = Backoff()
    while True:
        try:
            async with _ordered_consumer(connection, filters, after + 1) as reader:
                expected = 1
                while True:
                    message = await reader.next()
                    metadata = DeliveryMetadata.of(message)
                    if metadata.consumer_sequence != expected:
                        raise PullInterruptedError("a message was lost on its way")
                    expected += 1
                    after = metadata.position
                    backoff.reset()
                    yield after, message
        except (PullInterruptedError, EventLogUnavailableError) as exc:
            if connection.is_closed:
                raise EventLogUnavailableError("the connection to NATS is closed") from exc
            _log.warning("following was interrupted", after=after, error=str(exc))
        await backoff.wait()


@asynccontextmanager
async def _ordered_consumer(
    connection: NatsConnection, filters: Sequence[str], start: int
) -> AsyncIterator[PullReader]:
    name = f"follow-{uuid.uuid4().hex}"
    config = {
        "name": name,
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": start,
        **_filter_config(filters),
        "ack_policy": "none",
        "max_deliver": 1,
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": _INACTIVE_S * _NANOSECONDS,
    }
    await create_consumer(connection, name, config)
    try:
        async with open_reader(connection, name, batch=_BATCH) as reader:
            yield reader
    finally:
        if connection.is_connected:
            # Nobody waits for the answer: what is not deleted now lapses.
            await connection.publish(f"$JS.API.CONSUMER.DELETE.{STREAM}.{name}")


def _filter_config(filters: Sequence[str]) -> dict[str, object]:
    return {"filter_subject": filters[0]} if len(filters) == 1 else {"filter_subjects": list(filters)}


async def create_consumer(connection: NatsConnection, name: str, config: dict[str, object]) -> None:
    """Create a consumer, or bring the one of that name to this configuration.

    Raises:
        EventLogUnavailableError: the server refuses it, or does not answer in time.
    """
    # A single filter stands in the subject of the call too, by which NATS permissions can confine a tenant to it.
    suffix = f".{config['filter_subject']}" if "filter_subject" in config else ""
    body = {"stream_name": STREAM, "config": config, "action": ""}
    answer = await connection.api(f"CONSUMER.CREATE.{STREAM}.{name}{suffix}", body)
    if error := answer.get("error"):
        raise EventLogUnavailableError(f"consumer {name} could not be made: {error.get('description')}")
