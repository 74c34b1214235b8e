"""Reading the log straight from NATS: in order, without a gap, from any position.

An ordered consumer as NATS describes it (ADR-17): it keeps no state on the server that matters, every message's place
in its sequence is checked, and after a gap or a silence a new one begins behind the last message that was read. Flow
control bounds what waits on this side.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress

import nats.errors
import nats.js.errors
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamInfo

from tintype.client.channels import nats_context
from tintype.client.config import ClientConfig
from tintype.client.errors import ConfigurationError, ServiceUnavailableError
from tintype.client.log_message import LogMessage
from tintype.client.statuses import hint_of
from tintype.client.transport import Transport
from tintype.codec.subjects import STREAM

_CONNECT_TIMEOUT_S = 5.0
_REQUEST_TIMEOUT_S = 5.0
_HEARTBEAT_S = 2.0
_SILENCE_S = 2.5 * _HEARTBEAT_S
_INACTIVE_S = 30.0

NATS_ERRORS = (OSError, nats.errors.Error, nats.js.errors.Error)


class _ReadingBrokenError(Exception):
    """A message is missing, or nothing is heard of the server."""


class LogReader:
    """Reads the stream over one connection; use :func:`open_log`."""

    def __init__(self, client: NatsClient, transport: Transport) -> None:
        self._client = client
        self._transport = transport
        self._inbox: _Inbox | None = None

    @property
    def client(self) -> NatsClient:
        """The connection, for what else is to be done over it."""
        return self._client

    async def reconnected(self) -> None:
        """Begin anew behind the last message: what was sent meanwhile is lost, and the consumer perhaps with it."""
        if self._inbox is not None:
            self._inbox.interrupt()

    async def state(self, stream: str = STREAM) -> StreamInfo:
        """What the stream says of itself.

        Raises:
            ServiceUnavailableError: NATS does not answer, or has no such stream.
        """
        try:
            return await self._client.jetstream(timeout=_REQUEST_TIMEOUT_S).stream_info(stream)
        except NATS_ERRORS as exc:
            raise unavailable(exc) from exc

    async def last_position(self, stream: str, subject: str) -> int:
        """The position of the stream's newest message that is there; 0 where there is none, or no such stream.

        It is not what the stream counts: where the newest messages were removed, nothing will come from their places.

        Raises:
            ServiceUnavailableError: NATS does not answer.
        """
        try:
            found = await self._client.jetstream(timeout=_REQUEST_TIMEOUT_S).get_last_msg(stream, subject)
        except nats.js.errors.NotFoundError:
            return 0
        except NATS_ERRORS as exc:
            raise unavailable(exc) from exc
        return found.seq or 0

    async def read(self, stream: str, subject: str, head: int, *, after: int = 0) -> AsyncGenerator[LogMessage, None]:
        """Yield every message of the stream behind ``after`` and up to ``head``, which has to be that of a message.

        Raises:
            ServiceUnavailableError: NATS does not answer within ``config.retry_s``.
        """
        if head <= after:
            return
        async with aclosing(self.follow([subject], after, stream=stream)) as messages:
            async for message in messages:
                if message.position <= head:
                    yield message
                if message.position >= head:
                    return

    async def follow(
        self, filters: Sequence[str], after: int | None, *, stream: str = STREAM
    ) -> AsyncGenerator[LogMessage, None]:
        """Yield every message of ``filters`` behind position ``after`` (``None``: from now on), and go on for ever.

        Raises:
            ServiceUnavailableError: NATS does not answer within ``config.retry_s``.
        """
        if after is None:
            after = (await self.state(stream)).state.last_seq
        backoff = self._transport.backoff()
        while True:
            try:
                async with self._consumer(stream, filters, after) as messages:
                    expected = 1
                    while True:
                        message, sequence = await messages.next()
                        if sequence != expected:
                            raise _ReadingBrokenError(f"message {expected} of the consumer did not come")
                        expected += 1
                        after = message.position
                        backoff = self._transport.backoff()
                        yield message
            except (*NATS_ERRORS, _ReadingBrokenError) as exc:
                if not await backoff.pause():
                    raise unavailable(exc) from exc

    @asynccontextmanager
    async def _consumer(self, stream: str, filters: Sequence[str], after: int) -> AsyncIterator[_Inbox]:
        inbox = self._inbox = _Inbox(self._client)
        subject = self._client.new_inbox()
        subscription = await self._client.subscribe(subject, cb=inbox.take)
        try:
            config = ConsumerConfig(
                deliver_subject=subject,
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=after + 1,
                filter_subjects=list(filters),
                ack_policy=AckPolicy.NONE,
                max_deliver=1,
                flow_control=True,
                idle_heartbeat=_HEARTBEAT_S,
                inactive_threshold=_INACTIVE_S,
                mem_storage=True,
                num_replicas=1,
            )
            await self._client.jetstream(timeout=_REQUEST_TIMEOUT_S).add_consumer(stream, config)
            yield inbox
        finally:
            if not self._client.is_closed:
                # The consumer itself goes when nobody listens any more.
                await subscription.unsubscribe()


class _Inbox:
    """What a consumer has sent and nobody has read; NATS's flow control keeps it short."""

    def __init__(self, client: NatsClient) -> None:
        self._client = client
        self._messages: asyncio.Queue[Msg | None] = asyncio.Queue()

    async def take(self, message: Msg) -> None:
        """Keep a message, as the subscription's callback."""
        self._messages.put_nowait(message)

    def interrupt(self) -> None:
        """Have the reader stop here."""
        self._messages.put_nowait(None)

    async def next(self) -> tuple[LogMessage, int]:
        """The next message, and its place in the consumer's sequence.

        Raises:
            _ReadingBrokenError: not even a heartbeat came, or the connection was lost.
        """
        while True:
            try:
                async with asyncio.timeout(_SILENCE_S):
                    message = await self._messages.get()
            except TimeoutError as exc:
                raise _ReadingBrokenError("the server is silent") from exc
            if message is None:
                raise _ReadingBrokenError("the connection was lost for a moment")
            headers = message.headers or {}
            if message.reply.startswith("$JS.ACK."):  # whatever headers a message itself has
                place = message.metadata.sequence
                stored = LogMessage(place.stream, message.subject, headers, message.data, _stored_at(message))
                return stored, place.consumer
            # Status 100: a heartbeat, or the request to say that all before it has been read.
            answer = message.reply or headers.get("Nats-Consumer-Stalled")
            if answer:
                await self._client.publish(answer)


@asynccontextmanager
async def open_log(transport: Transport) -> AsyncIterator[LogReader]:
    """Connect to the NATS server that the configuration names.

    Raises:
        ConfigurationError: it names none.
        ServiceUnavailableError: it does not answer.
    """
    if not transport.config.nats:
        raise ConfigurationError("client.nats is missing in the configuration: the log cannot be read")
    client = NatsClient()
    reader = LogReader(client, transport)

    async def close() -> None:
        # What was still to be sent to a server that is gone is wanted no more.
        with suppress(*NATS_ERRORS):
            await client.close()

    transport.on_close.add(close)
    try:
        await _connect(client, transport.config, reader)
        yield reader
    finally:
        transport.on_close.discard(close)
        await close()


async def _connect(client: NatsClient, config: ClientConfig, reader: LogReader) -> None:
    async def disconnected() -> None:
        """The next connection shows the certificate of that day."""
        with suppress(ConfigurationError):  # half of a rotation: the one before is tried
            client.options["tls"] = nats_context(config)

    tls = nats_context(config)
    newest: list[Exception] = []

    async def heard(error: Exception) -> None:
        # What a broken connection means later is seen where it is read from.
        newest[:] = [error]

    try:
        # The client would try for ever, at the start as later.
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            await client.connect(
                [url.strip() for url in config.nats.split(",")],
                name="tintype-client",
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.25,  # type: ignore[arg-type]  # fractions are fine
                error_cb=heard,
                reconnected_cb=reader.reconnected,
                disconnected_cb=disconnected,
                tls=tls,
                user_credentials=config.nats_credentials or None,
            )
    except TimeoutError as exc:
        raise unavailable(newest[-1] if newest else exc) from exc
    except NATS_ERRORS as exc:
        raise unavailable(exc) from exc


def _stored_at(message: Msg) -> int:
    """``$JS.ACK.[domain.account.]stream.consumer.attempt.position.sequence.time.pending[.token]``."""
    tokens = message.reply.split(".")
    return int(tokens[7 if len(tokens) == 9 else 9])


def unavailable(error: BaseException) -> ServiceUnavailableError:
    """What a failure of the connection means to the user."""
    why = str(error) or type(error).__name__
    return ServiceUnavailableError(f"the log does not answer: {why}", reason="EVENT_LOG_UNAVAILABLE", hint=hint_of(why))
