"""The configured event log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from tintype.adapters.nats.checkpoints import NatsCheckpointLog
from tintype.adapters.nats.connection import NatsConnection, NatsSettings
from tintype.adapters.nats.event_log import NatsEventLog
from tintype.adapters.nats.log_state import NatsLogState
from tintype.adapters.nats.roll_call import NatsRollCall
from tintype.adapters.nats.store_states import NatsStoreStateLog
from tintype.adapters.nats.stream import StreamSettings, ensure_stream
from tintype.codec.subjects import CHECKPOINT_STREAM, STORE_STREAM
from tintype.domain.errors import EventLogUnavailableError
from tintype.ports.checkpoints import CheckpointLog
from tintype.ports.event_log import EventLog
from tintype.ports.log_state import LogStateSource
from tintype.ports.service_info import RollCall
from tintype.ports.store_states import StoreStateLog
from tintype.runtime.metrics import LOG_CONNECTED
from tintype.runtime.settings import TlsSettings
from tintype.runtime.tls import ClientTls


class EventLogConfiguration(Protocol):
    """What a deployment says about its log."""

    @property
    def url(self) -> str:
        """URLs of one NATS cluster, comma-separated."""
        ...

    @property
    def connect_timeout_s(self) -> float:
        """Seconds to wait for the first connection."""
        ...

    @property
    def replicas(self) -> int:
        """Copies of the stream."""
        ...

    @property
    def credentials_file(self) -> Path | None:
        """The user's NATS credentials."""
        ...


class OpenEventLog:
    """The log, and whether it can be reached."""

    def __init__(self, connection: NatsConnection, replicas: int, *, is_replicated: bool) -> None:
        self._connection = connection
        self.log: EventLog = NatsEventLog(connection, is_replicated=is_replicated)
        self.state: LogStateSource = NatsLogState(connection)
        self.roll_call: RollCall = NatsRollCall(connection)
        self._replicas = replicas

    async def checkpoints(self) -> CheckpointLog:
        """The log of checkpoints, whose stream is made where it is missing.

        Raises:
            ConfigurationError: the stream is not what Tintype needs.
            EventLogUnavailableError: no answer in time.
        """
        await ensure_stream(self._connection, StreamSettings(replicas=self._replicas), name=CHECKPOINT_STREAM)
        return NatsCheckpointLog(self._connection)

    async def store_states(self) -> StoreStateLog:
        """Where changes of stores' states are told; the stream is made where it is missing.

        Raises:
            ConfigurationError: the stream is not what Tintype needs.
            EventLogUnavailableError: no answer in time.
        """
        await ensure_stream(self._connection, StreamSettings(replicas=self._replicas), name=STORE_STREAM)
        return NatsStoreStateLog(self._connection)

    async def check(self) -> None:
        """Find out whether the log answers.

        Raises:
            EventLogUnavailableError: there is no connection, and it is being tried again.
        """
        if not self._connection.is_connected:
            raise EventLogUnavailableError("there is no connection to NATS")


@asynccontextmanager
async def open_event_log(
    configuration: EventLogConfiguration, tls: TlsSettings, *, client_name: str
) -> AsyncIterator[OpenEventLog]:
    """Connect, make the stream where it is missing, and check that it is as it has to be.

    Raises:
        ConfigurationError: the server or the stream is not what Tintype needs.
        EventLogUnavailableError: no answer in time.
    """
    urls = tuple(url.strip() for url in configuration.url.split(","))
    is_encrypted = any(url.startswith("tls://") for url in urls)
    connection = await NatsConnection.open(
        NatsSettings(
            urls=urls,
            name=client_name,
            connect_timeout_s=configuration.connect_timeout_s,
            tls=ClientTls(tls).context if is_encrypted else None,
            credentials_file=configuration.credentials_file,
        )
    )
    try:
        LOG_CONNECTED.set_function(lambda: connection.is_connected)
        copies = await ensure_stream(connection, StreamSettings(replicas=configuration.replicas))
        yield OpenEventLog(connection, configuration.replicas, is_replicated=copies > 1)
    finally:
        await connection.close()
