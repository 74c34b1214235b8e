"""The streams that keep what is told: how they have to be, and the proof that the server made them so.

A server silently drops settings that it does not know, so the configuration is read back and compared at every start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from tintype.adapters.nats.connection import MINIMUM_VERSION_TEXT, NatsConnection
from tintype.codec.subjects import (
    CHECKPOINT_STREAM,
    CHECKPOINT_SUBJECT,
    EVERY_EVENT,
    EVERY_STORE,
    STORE_STREAM,
    STREAM,
)
from tintype.domain.errors import ConfigurationError, EventLogUnavailableError

_log = structlog.get_logger()

STREAM_NOT_FOUND = 10059
_STREAM_EXISTS_DIFFERENTLY = 10058
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """``replicas`` is 3 in a cluster. Within ``duplicate_window_s`` the server itself recognises a repeated command."""

    replicas: int = 1
    duplicate_window_s: float = 120.0


SUBJECTS: Mapping[str, str] = {
    STREAM: EVERY_EVENT,
    CHECKPOINT_STREAM: CHECKPOINT_SUBJECT,
    STORE_STREAM: EVERY_STORE,
}
"""The streams, and what each takes in."""

_BOUNDED: Mapping[str, Mapping[str, Any]] = {STORE_STREAM: {"max_msgs_per_subject": 256, "discard": "old"}}
"""Streams whose oldest messages make room for new ones."""


async def ensure_stream(
    connection: NatsConnection, settings: StreamSettings | None = None, *, name: str = STREAM
) -> None:
    """Create the stream ``name`` of :data:`SUBJECTS` if there is none, and check that it is as it has to be.

    Raises:
        ConfigurationError: the server refused it, or a flag is not what it has to be; the message names the flag.
        EventLogUnavailableError: no answer in time.
    """
    wanted = _wanted(name, settings or StreamSettings())
    answer = await connection.api(f"STREAM.INFO.{name}")
    if answer.get("error", {}).get("err_code") == STREAM_NOT_FOUND:
        answer = await connection.api(f"STREAM.CREATE.{name}", wanted)
        if answer.get("error", {}).get("err_code") == _STREAM_EXISTS_DIFFERENTLY:  # another service was faster
            answer = await connection.api(f"STREAM.INFO.{name}")
        elif "error" not in answer:
            _log.info("stream created", stream=name)
    if error := answer.get("error"):
        _refuse(name, error)
    _require_flags(answer["config"], wanted)


def _wanted(name: str, settings: StreamSettings) -> dict[str, Any]:
    return {
        "name": name,
        "subjects": [SUBJECTS[name]],
        "storage": "file",
        "retention": "limits",
        # Should an operator set a limit all the same: refuse the new rather than drop the old.
        "discard": "new",
        "max_age": 0,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msgs_per_subject": -1,
        "max_msg_size": -1,
        "num_replicas": settings.replicas,
        "duplicate_window": int(settings.duplicate_window_s * _NANOSECONDS),
        "deny_delete": True,
        "deny_purge": True,
        "allow_direct": True,
        "allow_rollup_hdrs": False,
        "allow_msg_ttl": False,
        "no_ack": False,
        "sealed": False,
        **_BOUNDED.get(name, {}),
    }


def _require_flags(actual: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for flag, value in wanted.items():
        # The server leaves out what is false or empty.
        if actual.get(flag, False) != value and (value or actual.get(flag)):
            raise ConfigurationError(
                f"stream {wanted['name']} has {flag} = {actual.get(flag)!r} and needs {value!r}: change it "
                f"(nats stream edit), or use a nats-server that knows it ({MINIMUM_VERSION_TEXT} or later)"
            )


def _refuse(name: str, error: Mapping[str, Any]) -> None:
    message = f"stream {name}: {error.get('description', 'unknown error')}"
    if int(error.get("code", 500)) >= 500:
        raise EventLogUnavailableError(message)
    raise ConfigurationError(message)
