"""The promises of ports/store_states.py, asked of every log of stores' states."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from tests.backends.shared_servers import RunningNats
from tintype.adapters.memory.store_states import MemoryStoreStateLog
from tintype.adapters.nats.connection import NatsConnection, NatsSettings
from tintype.adapters.nats.store_states import NatsStoreStateLog
from tintype.adapters.nats.stream import ensure_stream
from tintype.codec.store_states import decode
from tintype.codec.subjects import STORE_STREAM
from tintype.domain.errors import InvalidIdentifierError
from tintype.ports.image_store import StoreMode, StoreState
from tintype.ports.store_states import StoreStateChanged, StoreStateLog

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
Kept = Callable[[], Awaitable[list[StoreStateChanged]]]


def change(number: int, store: str = "main") -> StoreStateChanged:
    state = StoreState(StoreMode.READ_ONLY, NOON + timedelta(seconds=number), "STORE_MOUNT_STALE", "it is stale")
    return StoreStateChanged(store, state, "importer", "host-1")


@pytest_asyncio.fixture(params=["memory", pytest.param("nats", marks=pytest.mark.nats)])
async def log_and_kept(
    request: pytest.FixtureRequest, nats_server: RunningNats
) -> AsyncIterator[tuple[StoreStateLog, Kept]]:
    """An empty log, and what it has kept."""
    if request.param == "memory":
        memory = MemoryStoreStateLog()

        async def in_memory() -> list[StoreStateChanged]:
            return list(memory.changes)

        yield memory, in_memory
        return
    connection = await NatsConnection.open(NatsSettings((nats_server.url,)))
    await connection.api(f"STREAM.DELETE.{STORE_STREAM}")
    await ensure_stream(connection, name=STORE_STREAM)

    async def in_stream() -> list[StoreStateChanged]:
        state = (await connection.api(f"STREAM.INFO.{STORE_STREAM}"))["state"]
        found: list[StoreStateChanged] = []
        for sequence in range(state["first_seq"], state["last_seq"] + 1):
            answer = await connection.api(f"STREAM.MSG.GET.{STORE_STREAM}", {"seq": sequence})
            if message := answer.get("message"):
                found.append(decode(message["subject"], base64.b64decode(message["data"])))
        return found

    yield NatsStoreStateLog(connection), in_stream
    await connection.close()


async def test_changes_are_kept_in_their_order(log_and_kept: tuple[StoreStateLog, Kept]) -> None:
    log, kept = log_and_kept
    assert await kept() == []
    told = [change(1), change(2, "second"), change(3)]
    for each in told:
        await log.append(each)
    assert await kept() == told


async def test_old_changes_of_one_store_make_room_and_none_of_another(
    log_and_kept: tuple[StoreStateLog, Kept],
) -> None:
    log, kept = log_and_kept
    await log.append(change(0, "second"))
    for number in range(300):
        await log.append(change(number))
    assert await kept() == [change(0, "second"), *(change(number) for number in range(300 - 256, 300))]


@pytest.mark.parametrize("name", ["", "a.b", "*", ">", "a b", "A", "../x", "a" * 64])
async def test_a_name_that_could_be_another_subject_is_refused(
    log_and_kept: tuple[StoreStateLog, Kept], name: str
) -> None:
    log, kept = log_and_kept
    with pytest.raises(InvalidIdentifierError):
        await log.append(change(1, name))
    assert await kept() == []
