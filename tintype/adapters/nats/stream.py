"""Making the streams that keep what is told, with the proof that the server made them as they have to be.

How that is stands in :mod:`tintype.codec.streams`. A server silently drops settings that it does not know, so the
configuration is read back and compared at every start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from tintype.adapters.nats.connection import NatsConnection
from tintype.codec.streams import STREAM_NOT_FOUND, StreamSettings, require_stream, wanted_stream
from tintype.codec.subjects import STREAM
from tintype.domain.errors import ConfigurationError, EventLogUnavailableError

__all__ = ["StreamSettings", "ensure_stream"]

_log = structlog.get_logger()

_STREAM_EXISTS_DIFFERENTLY = 10058


async def ensure_stream(
    connection: NatsConnection, settings: StreamSettings | None = None, *, name: str = STREAM
) -> int:
    """Create the stream ``name`` of :data:`tintype.codec.streams.SUBJECTS` if there is none, and check its settings.

    Answers how many copies it has.

    Raises:
        ConfigurationError: the server refused it, or a flag is not what it has to be; the message names the flag.
        EventLogUnavailableError: no answer in time.
    """
    wanted = wanted_stream(name, settings or StreamSettings())
    answer = await connection.api(f"STREAM.INFO.{name}")
    if answer.get("error", {}).get("err_code") == STREAM_NOT_FOUND:
        answer = await connection.api(f"STREAM.CREATE.{name}", wanted)
        if answer.get("error", {}).get("err_code") == _STREAM_EXISTS_DIFFERENTLY:  # another service was faster
            answer = await connection.api(f"STREAM.INFO.{name}")
        elif "error" not in answer:
            _log.info("stream created", stream=name)
    if error := answer.get("error"):
        _refuse(name, error)
    require_stream(answer["config"], wanted)
    return int(answer["config"].get("num_replicas", 1))


def _refuse(name: str, error: Mapping[str, Any]) -> None:
    message = f"stream {name}: {error.get('description', 'unknown error')}"
    if int(error.get("code", 500)) >= 500:
        raise EventLogUnavailableError(message)
    raise ConfigurationError(message)
