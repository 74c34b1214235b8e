"""A message of the log, wherever it was read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogMessage:
    """A message of a stream, as it lies there; ``time_ns`` is when the server stored it, since 1970."""

    position: int
    subject: str
    headers: Mapping[str, str]
    payload: bytes
    time_ns: int
