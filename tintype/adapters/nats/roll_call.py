"""Who is there: every replica hears the question on one subject, and answers by itself. Nothing of it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog
from google.protobuf.message import DecodeError
from nats.aio.msg import Msg

from tintype.adapters.nats.connection import NatsConnection
from tintype.api.runtime.v1 import runtime_pb2 as pb
from tintype.codec import service_info
from tintype.codec.subjects import ROLL_CALL
from tintype.domain.errors import EventLogUnavailableError, InvalidArgumentError
from tintype.ports.service_info import ServiceInfo

_log = structlog.get_logger()

MAX_ANSWERS = 256
MAX_ANSWER_BYTES = 64 * 1024
_QUESTIONS = 16
"""So many may wait for the same answer; more than that is no use to anybody."""


class NatsRollCall:
    """Asks, and answers, over core NATS: who is away keeps silent."""

    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection

    async def answer(self, info: Callable[[], ServiceInfo]) -> None:
        """Answer whoever asks; see :meth:`tintype.ports.service_info.RollCall.answer`."""
        asked: asyncio.Queue[Msg] = asyncio.Queue(_QUESTIONS)

        def keep(message: Msg) -> None:
            if message.reply and not asked.full():
                asked.put_nowait(message)

        subscription = await self._connection.subscribe(ROLL_CALL, keep)
        try:
            while True:
                question = await asked.get()
                try:
                    payload = service_info.encode(info()).SerializeToString()
                    await self._connection.publish(question.reply, payload)
                except EventLogUnavailableError as exc:
                    if self._connection.is_closed:
                        raise
                    _log.debug("roll call was not answered", error=str(exc))
        finally:
            await self._connection.unsubscribe(subscription)

    async def ask(self, wait_s: float) -> Sequence[ServiceInfo]:
        """Who answers in time; see :meth:`tintype.ports.service_info.RollCall.ask`."""
        if not self._connection.is_connected:
            raise EventLogUnavailableError("there is no connection to NATS")
        answers: list[Msg] = []

        def keep(message: Msg) -> None:
            if len(answers) < MAX_ANSWERS and len(message.data) <= MAX_ANSWER_BYTES:
                answers.append(message)

        inbox = self._connection.new_inbox()
        subscription = await self._connection.subscribe(inbox, keep)
        try:
            await self._connection.publish(ROLL_CALL, reply=inbox)
            await asyncio.sleep(wait_s)  # nobody knows how many there are
        finally:
            await self._connection.unsubscribe(subscription)
        found = [info for message in answers if (info := _decoded(message)) is not None]
        return sorted(found, key=lambda info: (info.service, info.instance))


def _decoded(message: Msg) -> ServiceInfo | None:
    if not message.data:  # the server says so that nobody listens
        return None
    try:
        return service_info.decode(pb.ServiceInfo.FromString(message.data))
    except (DecodeError, InvalidArgumentError) as exc:
        _log.warning("answer to a roll call was not understood", error=str(exc))
        return None
