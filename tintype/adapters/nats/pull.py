"""Messages of one JetStream consumer, pulled in batches so that a slow reader holds a bounded number of them.

Owns pull requests, their statuses and heartbeats (ADR-37 of NATS). Does not own the consumer, and does not go on after
an interruption: whoever reads makes a new consumer where needed, and a new reader.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from nats.aio.msg import Msg

from tintype.adapters.nats.connection import NatsConnection
from tintype.codec.subjects import STREAM

_EXPIRES_S = 30.0
_HEARTBEAT_S = 2.0
_SILENCE_S = 2.5 * _HEARTBEAT_S
_MAX_BYTES = 4 * 1024 * 1024
_NANOSECONDS = 1_000_000_000
_ACK_PREFIX = "$JS.ACK."

# A request ends with one of these in the normal course of things; the next one goes on from there.
_ENDS = ("408", "404")
_ENDS_409 = ("message size exceeds maxbytes", "batch completed")


class PullInterruptedError(Exception):
    """The consumer, its server or the connection is gone, or was for a moment."""


@dataclass(frozen=True, slots=True)
class DeliveryMetadata:
    """What JetStream says of a message, in the subject that acknowledges it."""

    attempt: int
    position: int
    consumer_sequence: int

    @classmethod
    def of(cls, message: Msg) -> DeliveryMetadata:
        """Read ``$JS.ACK.[domain.account.]stream.consumer.attempt.position.sequence.time.pending[.token]``."""
        tokens = message.reply.split(".")
        first = 4 if len(tokens) == 9 else 6
        return cls(*map(int, tokens[first : first + 3]))


class PullReader:
    """Reads a consumer; use :func:`open_reader`."""

    def __init__(self, connection: NatsConnection, consumer: str, batch: int) -> None:
        self._connection = connection
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{consumer}"
        self._batch = batch
        self._inbox = connection.new_inbox()
        self._request = 0
        self._outstanding = 0
        self._messages: deque[Msg] = deque()
        self._unread_bytes = 0
        self._interruption = ""
        self._heard_at = 0.0
        self._waiter: asyncio.Future[None] | None = None

    async def next(self) -> Msg:
        """The next message, however long it takes to come. To cancel this loses no message.

        Raises:
            PullInterruptedError: and all messages that came before have been returned.
            EventLogUnavailableError: there is no connection.
        """
        while True:
            if self._outstanding == 0 and self._has_room and not self._interruption:
                await self._pull()
            if self._messages:
                message = self._messages.popleft()
                self._unread_bytes -= len(message.data)
                return message
            if self._interruption:
                raise PullInterruptedError(self._interruption)
            await self._wait()

    def take_unread(self) -> list[Msg]:
        """All messages that have come and were not returned."""
        unread = list(self._messages)
        self._messages.clear()
        self._unread_bytes = 0
        return unread

    def interrupt(self, why: str = "the connection was lost") -> None:
        """End it: the next read that finds no message fails."""
        self._interruption = self._interruption or why
        self._wake()

    def on_message(self, message: Msg) -> None:
        """Take what came to the inbox."""
        self._heard_at = asyncio.get_running_loop().time()
        if message.reply.startswith(_ACK_PREFIX):
            self._messages.append(message)
            self._unread_bytes += len(message.data)
            self._outstanding = max(0, self._outstanding - 1)
        elif message.subject == f"{self._inbox}.{self._request}":
            self._on_status((message.headers or {}).get("Status", ""), (message.headers or {}).get("Description", ""))
        self._wake()

    @property
    def _has_room(self) -> bool:
        return len(self._messages) <= self._batch // 2 and self._unread_bytes <= _MAX_BYTES // 2

    @property
    def inbox_filter(self) -> str:
        """Where the messages and the statuses of all requests come to."""
        return f"{self._inbox}.*"

    def _on_status(self, status: str, description: str) -> None:
        if status == "100":
            return
        self._outstanding = 0
        if status not in _ENDS and not any(end in description.lower() for end in _ENDS_409):
            self.interrupt(f"{status} {description}".strip())

    async def _pull(self) -> None:
        self._request += 1
        self._outstanding = self._batch
        self._heard_at = asyncio.get_running_loop().time()
        request = {
            "batch": self._batch,
            "expires": int(_EXPIRES_S * _NANOSECONDS),
            "idle_heartbeat": int(_HEARTBEAT_S * _NANOSECONDS),
            "max_bytes": _MAX_BYTES,
        }
        reply = f"{self._inbox}.{self._request}"
        await self._connection.publish(self._subject, json.dumps(request).encode(), reply=reply)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout_at(self._heard_at + _SILENCE_S):
                await self._waiter
        except TimeoutError:
            self.interrupt("nothing was heard from the server")
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@asynccontextmanager
async def open_reader(connection: NatsConnection, consumer: str, *, batch: int) -> AsyncIterator[PullReader]:
    """Read a consumer in batches of ``batch`` messages, and at most 4 MiB; a reconnect interrupts it.

    When the context has ended, :meth:`PullReader.take_unread` has every message that the server has handed out.

    Raises:
        EventLogUnavailableError: there is no connection.
    """
    reader = PullReader(connection, consumer, batch)
    subscription = await connection.subscribe(reader.inbox_filter, reader.on_message)
    forget = connection.call_on_reconnect(reader.interrupt)
    try:
        yield reader
    finally:
        forget()
        await connection.drain(subscription)
