"""The event log on NATS JetStream.

Owns appending, histories and progress. Following stands in :mod:`.follow`, work queues in :mod:`.work`, the stream in
:mod:`.stream`; the connection is whoever's opened it.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import structlog
from google.protobuf.message import DecodeError
from nats.aio.msg import Msg

from tintype.adapters.nats.backoff import Backoff
from tintype.adapters.nats.connection import NatsConnection, read_json
from tintype.adapters.nats.direct_get import read_messages
from tintype.adapters.nats.follow import follow_messages
from tintype.adapters.nats.work import NatsDelivery, take_part
from tintype.api.types.v1 import types_pb2
from tintype.codec import cloudevents, subjects, values
from tintype.codec.streams import NO_MESSAGE, WRONG_LAST_SEQUENCE
from tintype.domain.errors import (
    ConcurrencyConflictError,
    EventLogUnavailableError,
    InvalidArgumentError,
    LogCorruptError,
)
from tintype.domain.events import NewEvent, Progress, RecordedEvent
from tintype.domain.hash_chain import require_chain
from tintype.domain.values import ImageId
from tintype.ports.event_log import Selection, WorkQueue
from tintype.runtime.metrics import LOG_APPEND_SECONDS

_log = structlog.get_logger()

_LAST_SEQUENCE = re.compile(r"wrong last sequence: ([0-9]+)")
_REMEMBERED_IMAGES = 4096
_PROGRESS_BUFFER = 256


class NatsEventLog:
    """The log in the stream ``TINTYPE_IMAGES``, which :func:`tintype.adapters.nats.stream.ensure_stream` made.

    ``deadline_s`` bounds every method that answers once. ``is_replicated``: several servers have copies of the stream,
    and one that is behind may answer what a history is.
    """

    def __init__(self, connection: NatsConnection, *, deadline_s: float = 5.0, is_replicated: bool = False) -> None:
        self._connection = connection
        self._deadline_s = deadline_s
        self._is_replicated = is_replicated
        self._newest: OrderedDict[ImageId, int] = OrderedDict()

    async def append(self, event: NewEvent, *, after: RecordedEvent | None) -> RecordedEvent:
        """Append ``event`` behind ``after``; see :meth:`tintype.ports.event_log.EventLog.append`."""
        if after is not None and after.event.command_id == event.command_id:
            return after
        version, previous_hash = (after.version + 1, after.hash) if after else (1, "")
        message = cloudevents.encode(event, version=version, previous_hash=previous_hash)
        with LOG_APPEND_SECONDS.time():
            answer = await self._publish(message, _append_headers(event, after))
        error = answer.get("error")
        if error is None and not answer.get("duplicate"):
            self._remember(event.image_id, answer["seq"])
            return RecordedEvent(event, version, answer["seq"], previous_hash, message.hash)
        if error is not None and error.get("err_code") not in WRONG_LAST_SEQUENCE:
            raise EventLogUnavailableError(f"the event was not appended: {error.get('description')}")
        return await self._appended_before(event, answer)

    async def history(self, image_id: ImageId) -> Sequence[RecordedEvent]:
        """All events of one image; see :meth:`tintype.ports.event_log.EventLog.history`."""
        backoff = Backoff()
        try:
            async with asyncio.timeout(self._deadline_s):
                wanted = await self._at_least(image_id)
                while True:
                    messages = await read_messages(self._connection, subjects.history_filter(image_id))
                    events = [_stored_event(message) for message in messages]
                    if (events[-1].position if events else 0) >= wanted:
                        break
                    await backoff.wait()  # a server answered that is behind
        except TimeoutError as exc:
            raise EventLogUnavailableError(f"the history of image {image_id} was not had in time") from exc
        require_chain(events)
        if events:
            self._remember(image_id, events[-1].position)
        return events

    async def head(self) -> int:
        """The position of the newest event of all."""
        answer = await self._connection.api(f"STREAM.INFO.{subjects.STREAM}")
        if error := answer.get("error"):
            raise EventLogUnavailableError(f"stream {subjects.STREAM}: {error.get('description')}")
        return int(answer["state"]["last_seq"])

    async def follow(self, *, after: int, selection: Selection = Selection()) -> AsyncIterator[RecordedEvent]:  # noqa: B008  # immutable
        """Yield every selected event; see :meth:`tintype.ports.event_log.EventLog.follow`."""
        filters = subjects.event_filters(selection)
        async for position, message in follow_messages(self._connection, filters, after):
            try:
                event = cloudevents.decode(message.subject, message.headers, message.data, position=position)
            except LogCorruptError as exc:
                exc.position = position
                raise
            yield event

    @asynccontextmanager
    async def work(self, queue: WorkQueue) -> AsyncIterator[AsyncIterator[NatsDelivery]]:
        """Take part in a work queue; see :meth:`tintype.ports.event_log.EventLog.work`."""
        async with (
            take_part(self._connection, queue) as deliveries,
            aclosing(self._remembered(deliveries)) as remembered,
        ):
            yield remembered

    async def _remembered(self, deliveries: AsyncIterator[NatsDelivery]) -> AsyncGenerator[NatsDelivery, None]:
        """Whoever is handed an event finds it in its image's history, also where a server answers that is behind."""
        async for delivery in deliveries:
            self._remember(delivery.event.image_id, delivery.event.position)
            yield delivery

    async def tell_progress(self, progress: Progress) -> None:
        """Tell whoever listens how far a step is."""
        payload = values.encode_progress(progress).SerializeToString()
        await self._connection.publish(subjects.progress_subject(progress), payload)

    async def follow_progress(self, selection: Selection = Selection()) -> AsyncIterator[Progress]:  # noqa: B008  # immutable
        """Yield progress as it is told; a reader that is too slow misses the oldest."""
        told: asyncio.Queue[Msg] = asyncio.Queue(_PROGRESS_BUFFER)

        def keep(message: Msg) -> None:
            if told.full():
                told.get_nowait()
            told.put_nowait(message)

        subscription = await self._connection.subscribe(subjects.progress_filter(selection), keep)
        try:
            while True:
                progress = _decode_progress(await told.get())
                if progress is not None:
                    yield progress
        finally:
            await self._connection.unsubscribe(subscription)

    async def _at_least(self, image_id: ImageId) -> int:
        """The position that the newest event of the image's history has, or one behind it."""
        known = self._newest.get(image_id, 0)
        if not self._is_replicated:
            return known
        # Only the leader answers this: also what others have appended a moment ago is there.
        which = {"last_by_subj": subjects.history_filter(image_id)}
        answer = await self._connection.api(f"STREAM.MSG.GET.{subjects.STREAM}", which)
        if error := answer.get("error"):
            if error.get("err_code") == NO_MESSAGE:
                return known
            raise EventLogUnavailableError(f"stream {subjects.STREAM}: {error.get('description')}")
        return max(known, int(answer["message"]["seq"]))

    async def _publish(self, message: cloudevents.EventMessage, headers: Mapping[str, str]) -> dict[str, Any]:
        reply = await self._connection.request(
            message.subject,
            message.payload,
            headers={**message.headers, **headers},
            timeout_s=self._deadline_s,
            waits_for_responder=True,
        )
        return read_json(reply.data)

    async def _appended_before(self, event: NewEvent, answer: Mapping[str, Any]) -> RecordedEvent:
        """The event of the same command, which the server has already: its first acknowledgement was lost.

        Raises:
            ConcurrencyConflictError: the image has gone on with other commands.
        """
        described = _LAST_SEQUENCE.search(answer.get("error", {}).get("description", ""))
        self._remember(event.image_id, int(described[1]) if described else answer.get("seq", 0))
        for recorded in await self.history(event.image_id):
            if recorded.event.command_id == event.command_id:
                return recorded
        raise ConcurrencyConflictError(f"image {event.image_id} was changed by somebody else meanwhile")

    def _remember(self, image_id: ImageId, position: int) -> None:
        self._newest[image_id] = max(position, self._newest.pop(image_id, 0))
        if len(self._newest) > _REMEMBERED_IMAGES:
            self._newest.popitem(last=False)


def _append_headers(event: NewEvent, after: RecordedEvent | None) -> dict[str, str]:
    # The server recognises a message id in the whole stream: the image's id keeps one tenant's commands from another's.
    command = cloudevents.percent_encode("command id", event.command_id)
    return {
        "Nats-Msg-Id": f"{event.image_id}/{command}",
        "Nats-Expected-Stream": subjects.STREAM,
        "Nats-Expected-Last-Subject-Sequence": str(after.position if after else 0),
        "Nats-Expected-Last-Subject-Sequence-Subject": subjects.history_filter(event.image_id),
    }


def _stored_event(message: Msg) -> RecordedEvent:
    headers = message.headers or {}
    position = int(headers["Nats-Sequence"])
    return cloudevents.decode(headers.get("Nats-Subject", ""), headers, message.data, position=position)


def _decode_progress(message: Msg) -> Progress | None:
    try:
        progress = values.decode_progress(types_pb2.Progress.FromString(message.data))
        if message.subject != subjects.progress_subject(progress):
            raise LogCorruptError("it does not belong on its subject")
    except (DecodeError, InvalidArgumentError, LogCorruptError) as exc:
        _log.warning("progress was not understood", subject=message.subject, error=str(exc))
        return None
    return progress
