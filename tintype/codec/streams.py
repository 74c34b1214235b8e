"""How the streams have to be that keep what is told: for the services that make them, and for a restore that does.

A server silently drops settings that it does not know: what it answers has to be compared with what was wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tintype.codec.subjects import (
    CHECKPOINT_STREAM,
    CHECKPOINT_SUBJECT,
    EVERY_EVENT,
    EVERY_STORE,
    STORE_STREAM,
    STREAM,
)
from tintype.domain.errors import ConfigurationError

MINIMUM_SERVER_VERSION = (2, 12)
"""From here on an expected sequence may be of a filter with wildcards (ADR-50 of NATS)."""

MINIMUM_VERSION_TEXT = ".".join(map(str, MINIMUM_SERVER_VERSION))

NANOSECONDS = 1_000_000_000

# Error codes of JetStream's API.
STREAM_NOT_FOUND = 10059
NO_MESSAGE = 10037
WRONG_LAST_SEQUENCE = (10071, 10164)
"""Something else was appended before; 10164 is the answer of a cluster in which that is still under way."""


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


def wanted_stream(name: str, settings: StreamSettings) -> dict[str, Any]:
    """The configuration of the stream ``name`` of :data:`SUBJECTS`, as JetStream's API takes it."""
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
        "duplicate_window": int(settings.duplicate_window_s * NANOSECONDS),
        "deny_delete": True,
        "deny_purge": True,
        "allow_direct": True,
        "allow_rollup_hdrs": False,
        "allow_msg_ttl": False,
        "no_ack": False,
        "sealed": False,
        **_BOUNDED.get(name, {}),
    }


def require_stream(actual: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Check that a stream is as it has to be.

    Raises:
        ConfigurationError: it is not; the message names the flag.
    """
    for flag, value in wanted.items():
        # The server leaves out what is false or empty.
        if actual.get(flag, False) != value and (value or actual.get(flag)):
            raise ConfigurationError(
                f"stream {wanted['name']} has {flag} = {actual.get(flag)!r} and needs {value!r}: "
                f"change it (nats stream edit), or use a nats-server that knows it ({MINIMUM_VERSION_TEXT} or later)"
            )
