"""What a service tells of itself is what it saw when it looked last."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import grpc
import pytest

from tintype import __version__
from tintype.api.runtime.v1 import runtime_pb2 as pb
from tintype.api.runtime.v1 import runtime_pb2_grpc
from tintype.domain.errors import EventLogUnavailableError, StoreMissingError
from tintype.runtime import checks
from tintype.runtime.checks import RUNTIME_SERVICE, CheckBoard, RuntimeServicer
from tintype.runtime.grpc_server import serving
from tintype.testing.clock import START, FakeClock

DEADLINE_S = 10


class Part:
    """Works until told otherwise."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    async def check(self) -> None:
        if self.error:
            raise self.error


@pytest.fixture
def log() -> Part:
    return Part()


@pytest.fixture
def store() -> Part:
    return Part()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def board(log: Part, store: Part, clock: FakeClock) -> CheckBoard:
    return CheckBoard("importer", clock, {"event log": log.check}, {"store main": store.check})


def test_who_has_not_looked_is_not_ready(board: CheckBoard) -> None:
    info = board.info()

    assert (info.service, info.version, info.started_at) == ("importer", __version__, START)
    assert info.instance.endswith(f"/{os.getpid()}")
    assert (info.ready, info.checks) == (False, ())


async def test_a_failing_part_makes_nothing_unready_and_comes_first(board: CheckBoard, store: Part) -> None:
    store.error = StoreMissingError("it is gone")
    assert await board.look() == ""
    assert await board.look_at_parts() == {"store main": False}

    info = board.info()
    assert info.ready
    assert [(check.name, check.ok, check.required) for check in info.checks] == [
        ("store main", False, False),
        ("event log", True, True),
    ]
    failure = info.checks[0].failure
    assert failure is not None
    assert (failure.reason, failure.message) == ("STORE_MISSING", "it is gone")


async def test_a_required_check_that_fails_is_the_complaint(board: CheckBoard, log: Part) -> None:
    log.error = EventLogUnavailableError("away")

    assert await board.look() == "event log: away"
    assert not board.info().ready


async def test_a_check_tells_since_when_it_is_as_it_is(board: CheckBoard, log: Part, clock: FakeClock) -> None:
    await board.look()
    clock.advance(5)
    await board.look()
    assert board.info().checks[0].since == START
    log.error = EventLogUnavailableError("away")
    await board.look()
    clock.advance(5)
    log.error = EventLogUnavailableError("still away")
    await board.look()

    (check,) = board.info().checks
    assert check.since == START + timedelta(seconds=5)
    assert check.failure is not None
    assert check.failure.message == "still away"


async def test_a_check_that_does_not_end_fails(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    monkeypatch.setattr(checks, "CHECK_TIMEOUT_S", 0.01)

    async def stuck() -> None:
        await asyncio.Event().wait()

    assert await CheckBoard("signer", clock, {"keys": stuck}, {}).look() == "keys: no answer in time"


@asynccontextmanager
async def asked(board: CheckBoard) -> AsyncIterator[Any]:
    register = partial(runtime_pb2_grpc.add_RuntimeServiceServicer_to_server, RuntimeServicer(board.info))
    async with (
        serving([register], [RUNTIME_SERVICE], "127.0.0.1:0", drain_s=0) as (address, _),
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield runtime_pb2_grpc.RuntimeServiceStub(channel)


async def test_only_administrators_are_told(board: CheckBoard) -> None:
    async with asked(board) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.GetServiceInfo(pb.GetServiceInfoRequest(), timeout=DEADLINE_S)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        await board.look()
        info = await stub.GetServiceInfo(
            pb.GetServiceInfoRequest(), timeout=DEADLINE_S, metadata=(("tintype-admin", "true"),)
        )

    assert (info.service, info.ready, [check.name for check in info.checks]) == ("importer", True, ["event log"])
