"""The log of checkpoints in a JetStream stream of its own, in which a checkpoint's number is its sequence."""

from __future__ import annotations

import base64
from typing import Any

from tintype.adapters.nats.connection import NatsConnection, read_json
from tintype.codec.streams import NO_MESSAGE, WRONG_LAST_SEQUENCE
from tintype.codec.subjects import CHECKPOINT_STREAM, CHECKPOINT_SUBJECT
from tintype.domain.errors import (
    CheckpointNotFoundError,
    ConcurrencyConflictError,
    EventLogUnavailableError,
)
from tintype.ports.checkpoints import PublishedCheckpoint


class NatsCheckpointLog:
    """The stream ``TINTYPE_CHECKPOINTS``, which :func:`tintype.adapters.nats.stream.ensure_stream` made.

    Read through its leader and not directly from a replica: what was appended is there.
    """

    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection

    async def append(self, envelope: bytes, *, after: int) -> PublishedCheckpoint:
        """Append; see :meth:`tintype.ports.checkpoints.CheckpointLog.append`."""
        headers = {
            "Nats-Expected-Stream": CHECKPOINT_STREAM,
            # Of this one subject: the stream's own sequence, as it takes no other.
            "Nats-Expected-Last-Subject-Sequence": str(after),
        }
        reply = await self._connection.request(CHECKPOINT_SUBJECT, envelope, headers=headers, waits_for_responder=True)
        answer = read_json(reply.data)
        error = answer.get("error")
        if error is None:
            return PublishedCheckpoint(int(answer["seq"]), envelope)
        if error.get("err_code") in WRONG_LAST_SEQUENCE:
            raise ConcurrencyConflictError(f"checkpoint {after} is not the newest one any more")
        raise EventLogUnavailableError(f"the checkpoint was not appended: {error.get('description')}")

    async def newest(self) -> PublishedCheckpoint | None:
        """The one with the highest number."""
        return await self._get({"last_by_subj": CHECKPOINT_SUBJECT})

    async def get(self, number: int) -> PublishedCheckpoint:
        """The one of that number.

        Raises:
            CheckpointNotFoundError: there is none.
        """
        found = await self._get({"seq": number}) if number > 0 else None
        if found is None:
            raise CheckpointNotFoundError(f"there is no checkpoint {number}")
        return found

    async def _get(self, which: dict[str, Any]) -> PublishedCheckpoint | None:
        answer = await self._connection.api(f"STREAM.MSG.GET.{CHECKPOINT_STREAM}", which)
        if error := answer.get("error"):
            if error.get("err_code") == NO_MESSAGE:
                return None
            raise EventLogUnavailableError(f"stream {CHECKPOINT_STREAM}: {error.get('description')}")
        message = answer["message"]
        return PublishedCheckpoint(int(message["seq"]), base64.b64decode(message.get("data", "")))
