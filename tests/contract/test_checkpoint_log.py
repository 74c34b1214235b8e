"""The promises of ports/checkpoints.py, asked of every log of checkpoints."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tests.backends.frozen import freeze
from tests.backends.shared_servers import RunningNats
from tintype.adapters.memory.checkpoints import MemoryCheckpointLog
from tintype.adapters.nats.checkpoints import NatsCheckpointLog
from tintype.adapters.nats.connection import NatsConnection, NatsSettings
from tintype.adapters.nats.server import NatsServer
from tintype.adapters.nats.stream import ensure_stream
from tintype.codec.subjects import CHECKPOINT_STREAM, CHECKPOINT_SUBJECT
from tintype.domain.errors import (
    CheckpointNotFoundError,
    ConcurrencyConflictError,
    ConfigurationError,
    EventLogUnavailableError,
)
from tintype.ports.checkpoints import CheckpointLog, PublishedCheckpoint

Open = Callable[[], Awaitable[CheckpointLog]]


@pytest_asyncio.fixture(params=["memory", pytest.param("nats", marks=pytest.mark.nats)])
async def open_log(request: pytest.FixtureRequest, nats_server: RunningNats) -> AsyncIterator[Open]:
    """Opens another participant's view of one empty log."""
    if request.param == "memory":
        shared = MemoryCheckpointLog()

        async def same() -> CheckpointLog:
            return shared

        yield same
        return
    async with AsyncExitStack() as stack:

        async def connect() -> NatsConnection:
            connection = await NatsConnection.open(NatsSettings((nats_server.url,)))
            stack.push_async_callback(connection.close)
            return connection

        async def open_it() -> CheckpointLog:
            return NatsCheckpointLog(await connect())

        connection = await connect()
        await connection.api(f"STREAM.DELETE.{CHECKPOINT_STREAM}")
        await ensure_stream(connection, name=CHECKPOINT_STREAM)
        yield open_it


async def test_an_empty_log_has_no_newest(open_log: Open) -> None:
    log = await open_log()

    assert await log.newest() is None
    for number in (0, 1, -1):
        with pytest.raises(CheckpointNotFoundError):
            await log.get(number)


async def test_numbers_rise_without_a_gap_and_find_what_was_appended(open_log: Open) -> None:
    log = await open_log()

    for number, envelope in enumerate((b"one", b"\x00two", b"three"), 1):
        assert await log.append(envelope, after=number - 1) == PublishedCheckpoint(number, envelope)

    other = await open_log()
    assert await other.newest() == PublishedCheckpoint(3, b"three")
    assert await other.get(2) == PublishedCheckpoint(2, b"\x00two")
    with pytest.raises(CheckpointNotFoundError):
        await other.get(4)


@pytest.mark.parametrize("after", [0, 2])
async def test_a_checkpoint_that_follows_another_than_the_newest_is_refused(open_log: Open, after: int) -> None:
    log = await open_log()
    await log.append(b"one", after=0)

    with pytest.raises(ConcurrencyConflictError):
        await log.append(b"other", after=after)
    assert await log.newest() == PublishedCheckpoint(1, b"one")


async def test_of_several_replicas_one_wins(open_log: Open) -> None:
    replicas = [await open_log() for _ in range(4)]

    outcomes = await asyncio.gather(
        *(log.append(b"%d" % index, after=0) for index, log in enumerate(replicas)), return_exceptions=True
    )

    won = [outcome for outcome in outcomes if isinstance(outcome, PublishedCheckpoint)]
    assert len(won) == 1
    assert sum(isinstance(outcome, ConcurrencyConflictError) for outcome in outcomes) == 3
    assert await replicas[0].newest() == won[0]


@pytest.mark.nats
async def test_no_checkpoint_can_be_deleted_from_the_stream(nats_server: RunningNats) -> None:
    connection = await NatsConnection.open(NatsSettings((nats_server.url,)))
    try:
        await ensure_stream(connection, name=CHECKPOINT_STREAM)
        await connection.request(CHECKPOINT_SUBJECT, b"kept")
        for call, body in (
            (f"STREAM.PURGE.{CHECKPOINT_STREAM}", {}),
            (f"STREAM.MSG.DELETE.{CHECKPOINT_STREAM}", {"seq": 1}),
        ):
            assert "error" in await connection.api(call, body)
    finally:
        await connection.close()


@pytest.mark.nats
async def test_a_stream_that_forgets_is_refused(nats_server: RunningNats) -> None:
    connection = await NatsConnection.open(NatsSettings((nats_server.url,)))
    try:
        await connection.api(f"STREAM.DELETE.{CHECKPOINT_STREAM}")
        forgetful = {"name": CHECKPOINT_STREAM, "subjects": [CHECKPOINT_SUBJECT], "max_msgs": 1}
        assert "error" not in await connection.api(f"STREAM.CREATE.{CHECKPOINT_STREAM}", forgetful)

        with pytest.raises(ConfigurationError, match=r"TINTYPE_CHECKPOINTS has .* and needs"):
            await ensure_stream(connection, name=CHECKPOINT_STREAM)
    finally:
        await connection.api(f"STREAM.DELETE.{CHECKPOINT_STREAM}")
        await connection.close()


@pytest.mark.nats
async def test_a_server_that_does_not_answer_is_unavailable(own_nats_server: NatsServer) -> None:
    connection = await NatsConnection.open(NatsSettings((own_nats_server.url,), request_timeout_s=0.2))
    process = own_nats_server.process
    assert process is not None
    try:
        await ensure_stream(connection, name=CHECKPOINT_STREAM)
        log = NatsCheckpointLog(connection)
        freeze(process.pid)
        with pytest.raises(EventLogUnavailableError):
            await log.newest()
        with pytest.raises(EventLogUnavailableError):
            await log.append(b"one", after=0)
    finally:
        process.send_signal(signal.SIGCONT)
        await connection.close()
