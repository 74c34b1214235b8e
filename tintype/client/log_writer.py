"""Writing messages to the log as they stood in it once: for a restore, and for nothing else.

Each message names the sequence that it follows, so that none is written twice, in another order, or among what somebody
else writes meanwhile.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import nats.errors
from nats.aio.msg import Msg

from tintype.client.errors import ConfigurationError, PreconditionError, ServiceUnavailableError
from tintype.client.log_reader import NATS_ERRORS, LogReader, unavailable
from tintype.codec.log_backup import StoredMessage, own_headers
from tintype.codec.streams import (
    STREAM_NOT_FOUND,
    WRONG_LAST_SEQUENCE,
    StreamSettings,
    require_stream,
    wanted_stream,
)
from tintype.domain.errors import ConfigurationError as WrongStreamError
from tintype.domain.errors import LogInUseError

_REQUEST_TIMEOUT_S = 5.0
_ACK_TIMEOUT_S = 20.0
_WINDOW = 256
"""Messages whose acknowledgements may be outstanding."""

_WILL_NOT_HELP = (10074,)
"""What the server calls an error of its own, and would refuse again: more replicas than it is servers."""

_AGAIN = "Run the same restore again: it goes on where this one ended."
_BEGIN_ANEW = "Stop every service, delete both streams (what is in them now is no whole log), and restore again."


class LogWriter:
    """Makes streams and appends to them, over a reader's connection."""

    def __init__(self, log: LogReader) -> None:
        self._client = log.client

    async def require_stream(self, name: str) -> bool:
        """Whether the stream is there; if it is, it is as it has to be, whatever its replicas.

        Raises:
            ConfigurationError: it is not.
            ServiceUnavailableError: NATS does not answer.
        """
        answer = await self._api(f"STREAM.INFO.{name}")
        if answer.get("error", {}).get("err_code") == STREAM_NOT_FOUND:
            return False
        config = _accepted(answer, name)["config"]
        window_s = config.get("duplicate_window", 0) / 1e9
        _require(config, wanted_stream(name, StreamSettings(config.get("num_replicas", 1), window_s)))
        return True

    async def create_stream(self, name: str, settings: StreamSettings) -> None:
        """Make a stream that is not there, and see that the server made it as it has to be.

        Raises:
            ConfigurationError: the server refuses it, or does not know a flag.
            ServiceUnavailableError: NATS does not answer.
        """
        wanted = wanted_stream(name, settings)
        _require(_accepted(await self._api(f"STREAM.CREATE.{name}", wanted), name)["config"], wanted)

    async def require_idle(self, name: str) -> None:
        """Check that no service waits for messages of the stream.

        Raises:
            PreconditionError: one does.
            ServiceUnavailableError: NATS does not answer.
        """
        offset, total = 0, 1
        while offset < total:
            answer = _accepted(await self._api(f"CONSUMER.LIST.{name}", {"offset": offset}), name)
            found = answer.get("consumers") or []
            for consumer in found:
                if consumer.get("num_waiting"):
                    raise _in_use(f"{consumer.get('name')} waits for messages of {name}")
            total, offset = int(answer.get("total", 0)), offset + max(1, len(found))

    async def append(self, stream: str, messages: AsyncIterator[list[StoredMessage]]) -> AsyncGenerator[int, None]:
        """Append the messages to a stream that ends right before the first of them; yield how many are in it.

        Raises:
            PreconditionError: somebody else wrote to the stream.
            ServiceUnavailableError: NATS does not answer; messages in flight may have been written.
            ConfigurationError: the server takes no message of that size.
        """
        acknowledgements = _Acknowledgements(stream)
        inbox = self._client.new_inbox()
        subscription = await self._client.subscribe(f"{inbox}.*", cb=acknowledgements.take)
        try:
            async for batch in messages:
                for message in batch:
                    await acknowledgements.wait_for(_WINDOW - 1)
                    acknowledgements.expect(message.sequence)
                    await self._send(message, f"{inbox}.{message.sequence}")
                yield acknowledgements.last
            await acknowledgements.wait_for(0)
            yield acknowledgements.last
        finally:
            if not self._client.is_closed:
                await subscription.unsubscribe()

    async def _send(self, message: StoredMessage, reply: str) -> None:
        headers = {
            **own_headers(message.headers),
            "Nats-Expected-Stream": message.stream,
            "Nats-Expected-Last-Sequence": str(message.sequence - 1),
        }
        try:
            await self._client.publish(message.subject, message.payload, reply=reply, headers=headers)
        except nats.errors.MaxPayloadError as exc:
            raise ConfigurationError(
                f"message {message.sequence} of {message.stream} is larger than nats-server takes: "
                f"raise its max_payload",
                hint=_AGAIN,
            ) from exc
        except NATS_ERRORS as exc:
            raise unavailable(exc) from exc

    async def _api(self, call: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            reply = await self._client.request(
                f"$JS.API.{call}", json.dumps(body).encode() if body else b"", timeout=_REQUEST_TIMEOUT_S
            )
            answer: dict[str, Any] = json.loads(reply.data)
        except (*NATS_ERRORS, ValueError) as exc:
            raise unavailable(exc) from exc
        return answer


class _Acknowledgements:
    """What the server says of messages that were sent, each in its order."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._sent = self.last = 0
        self._error: Exception | None = None
        self._changed = asyncio.Event()

    def expect(self, sequence: int) -> None:
        """Say that the message of this sequence is about to be sent."""
        if not self._sent:
            self.last = sequence - 1
        self._sent = sequence

    async def take(self, answer: Msg) -> None:
        """Look at an answer, as the subscription's callback."""
        sequence = int(answer.subject.rpartition(".")[2])
        self._error = self._error or self._error_of(answer, sequence)
        if self._error is None:
            self.last = sequence
        self._changed.set()

    async def wait_for(self, outstanding: int) -> None:
        """Wait until at most ``outstanding`` messages are without an answer.

        Raises:
            PreconditionError, ServiceUnavailableError: a message was not taken.
        """
        while self._error is None and self._sent - self.last > outstanding:
            self._changed.clear()
            try:
                async with asyncio.timeout(_ACK_TIMEOUT_S):
                    await self._changed.wait()
            except TimeoutError as exc:
                raise _interrupted(f"NATS says nothing of message {self.last + 1} of {self._stream}") from exc
        if self._error is not None:
            raise self._error

    def _error_of(self, answer: Msg, sequence: int) -> Exception | None:
        if (answer.headers or {}).get("Status"):
            return _interrupted(f"nobody takes messages of {self._stream}")
        try:
            told = json.loads(answer.data)
            error = told.get("error")
            if error is None and (told["stream"], told["seq"], told.get("duplicate")) == (self._stream, sequence, None):
                return None if sequence == self.last + 1 else _interrupted("an acknowledgement is missing")
            code, text = (error or {}).get("err_code"), (error or {}).get("description", "another place in the stream")
        except (ValueError, KeyError, AttributeError) as exc:
            return unavailable(exc)
        if error is None or code in WRONG_LAST_SEQUENCE:
            message = f"message {sequence} of {self._stream} was not taken ({text}): something else was written"
            return _in_use(message, hint=_BEGIN_ANEW)
        return _interrupted(f"message {sequence} of {self._stream} was not taken: {text}")


def _accepted(answer: dict[str, Any], name: str) -> dict[str, Any]:
    error = answer.get("error")
    if not error:
        return answer
    message = f"stream {name}: {error.get('description', 'unknown error')}"
    if error.get("err_code") in _WILL_NOT_HELP or int(error.get("code", 500)) < 500:
        raise ConfigurationError(message, hint="Look at the server's JetStream limits, its cluster and its version.")
    raise ServiceUnavailableError(message, reason="EVENT_LOG_UNAVAILABLE")


def _require(config: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    try:
        require_stream(config, wanted)
    except WrongStreamError as exc:
        raise ConfigurationError(exc.message, hint=exc.hint) from exc


def _in_use(message: str, hint: str = LogInUseError.hint) -> PreconditionError:
    return PreconditionError(message, reason=LogInUseError.reason, hint=hint)


def _interrupted(message: str) -> ServiceUnavailableError:
    return ServiceUnavailableError(message, reason="EVENT_LOG_UNAVAILABLE", hint=_AGAIN)
