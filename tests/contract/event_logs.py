"""What the contract suite runs on: an empty log that several participants can open."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Protocol

from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.adapters.nats.connection import NatsConnection, NatsSettings
from tintype.adapters.nats.event_log import NatsEventLog
from tintype.adapters.nats.stream import StreamSettings, ensure_stream
from tintype.codec.subjects import STREAM
from tintype.ports.event_log import EventLog


class EventLogHarness(Protocol):
    """One log."""

    async def open(self) -> EventLog:
        """Another participant's view of it."""
        ...


class MemoryHarness:
    """One log in memory, which all share."""

    def __init__(self) -> None:
        self._log = MemoryEventLog()

    async def open(self) -> EventLog:
        return self._log


class NatsHarness:
    """The stream of one nats-server; every participant has its own connection."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self._url = url
        self._stack = stack

    @classmethod
    async def make(cls, url: str, stack: AsyncExitStack, *, duplicate_window_s: float = 120.0) -> NatsHarness:
        harness = cls(url, stack)
        connection = await harness.connect()
        await connection.api(f"STREAM.DELETE.{STREAM}")
        await ensure_stream(connection, StreamSettings(duplicate_window_s=duplicate_window_s))
        return harness

    async def connect(self) -> NatsConnection:
        connection = await NatsConnection.open(NatsSettings((self._url,)))
        self._stack.push_async_callback(connection.close)
        return connection

    async def open(self) -> EventLog:
        return NatsEventLog(await self.connect())
