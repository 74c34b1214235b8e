"""Every call is counted once, under the status that its client sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from prometheus_client import REGISTRY

from tests.unit.runtime.samples import grown, sample
from tintype.api.signer.v1 import signer_pb2
from tintype.domain.errors import SignatureInvalidError
from tintype.runtime.grpc_server import serving
from tintype.runtime.rpc_metrics import expect_calls, split_method

SERVICE = "tintype.Counted"
COUNT, IN_PROGRESS = "tintype_rpc_seconds_count", "tintype_rpc_in_progress"
DEADLINE_S = 10

Context = grpc.aio.ServicerContext[Any, Any]


class Handlers:
    """One method for each way in which a call ends."""

    def __init__(self) -> None:
        self.is_entered, self.has_ended = asyncio.Event(), asyncio.Event()

    async def well(self, request: bytes, context: Context) -> bytes:
        return b""

    async def refused(self, request: bytes, context: Context) -> bytes:
        raise SignatureInvalidError("no")

    async def crashed(self, request: bytes, context: Context) -> bytes:
        raise ValueError("no")

    async def chosen(self, request: bytes, context: Context) -> bytes:
        context.set_code(grpc.StatusCode.NOT_FOUND)
        return b""

    async def endless(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        try:
            while True:
                self.is_entered.set()
                yield b"more"
                await asyncio.sleep(0)
        finally:
            self.has_ended.set()

    def register(self, server: grpc.aio.Server) -> None:
        """Add them to a server."""
        unary = {"Well": self.well, "Refused": self.refused, "Crashed": self.crashed, "Chosen": self.chosen}
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            **{name: grpc.unary_unary_rpc_method_handler(method) for name, method in unary.items()},
            "Endless": grpc.unary_stream_rpc_method_handler(self.endless),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
async def channel(handlers: Handlers) -> AsyncIterator[grpc.aio.Channel]:
    async with (
        serving([handlers.register], [], "127.0.0.1:0", drain_s=0) as (address, _),
        grpc.aio.insecure_channel(address) as opened,
    ):
        yield opened


@pytest.mark.parametrize(
    ("method", "code"),
    [("Well", "OK"), ("Refused", "FAILED_PRECONDITION"), ("Crashed", "INTERNAL"), ("Chosen", "NOT_FOUND")],
)
async def test_a_call_is_counted_under_the_status_that_its_client_sees(
    channel: grpc.aio.Channel, method: str, code: str
) -> None:
    labels = {"service": SERVICE, "method": method, "code": code}
    before = sample(COUNT, **labels)
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/{method}")
    seen = "OK"
    try:
        await call(b"", timeout=DEADLINE_S)
    except grpc.aio.AioRpcError as exc:
        seen = exc.code().name
    assert (seen, grown(COUNT, before, **labels)) == (code, 1)


async def test_a_stream_is_in_progress_until_its_client_goes_away(
    channel: grpc.aio.Channel, handlers: Handlers
) -> None:
    labels = {"service": SERVICE, "method": "Endless"}
    before = sample(COUNT, **labels, code="CANCELLED")
    stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(f"/{SERVICE}/Endless")
    call = stream(b"", timeout=DEADLINE_S)
    await handlers.is_entered.wait()
    assert sample(IN_PROGRESS, **labels) == 1
    call.cancel()
    await handlers.has_ended.wait()
    while sample(IN_PROGRESS, **labels):
        await asyncio.sleep(0)
    assert grown(COUNT, before, **labels, code="CANCELLED") == 1


async def test_names_that_a_caller_invents_make_no_series(channel: grpc.aio.Channel) -> None:
    labels = {"service": "other", "method": "other", "code": "UNIMPLEMENTED"}
    before = sample(COUNT, **labels)
    for name in ("/invented.by.a.Caller/Method", f"/{SERVICE}/Invented"):
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(name)
        with pytest.raises(grpc.aio.AioRpcError):
            await call(b"", timeout=DEADLINE_S)
    assert grown(COUNT, before, **labels) == 2
    assert sample(COUNT, service="invented.by.a.Caller", method="Method", code="UNIMPLEMENTED") == 0


def test_a_methods_name_is_split_into_service_and_method() -> None:
    assert split_method("/tintype.api.catalog.v1.CatalogService/GetImage") == (
        "tintype.api.catalog.v1.CatalogService",
        "GetImage",
    )


def test_the_calls_of_a_service_are_there_before_anybody_makes_one() -> None:
    service = signer_pb2.DESCRIPTOR.services_by_name["SignerService"]
    expect_calls([service.full_name, "made.by.Hand"])
    for method in service.methods:
        labels = {"service": service.full_name, "method": method.name, "code": "OK"}
        assert REGISTRY.get_sample_value(COUNT, labels) is not None
