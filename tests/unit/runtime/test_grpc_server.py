"""Errors, health and limits as a client sees them, over a real connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from tintype.api.signer.v1 import signer_pb2 as pb
from tintype.api.signer.v1 import signer_pb2_grpc
from tintype.domain.access import Caller
from tintype.domain.errors import ConfigurationError, SignatureInvalidError, UnauthenticatedError
from tintype.runtime import auth, interception
from tintype.runtime.auth import Metadata, current_caller
from tintype.runtime.checks import CheckBoard
from tintype.runtime.grpc_server import MAX_MESSAGE_BYTES, Health, serving
from tintype.runtime.service import _watch_health
from tintype.testing.clock import FakeClock

SERVICE = "tintype.api.signer.v1.SignerService"
DEADLINE_S = 10


class Refusing(signer_pb2_grpc.SignerServiceServicer):
    """Does what the digest says."""

    async def VerifyDigest(
        self, request: pb.VerifyDigestRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.VerifyDigestResponse:
        """Refuse, crash, abort, or answer who asked."""
        match request.digest:
            case "refuse":
                raise SignatureInvalidError("böse " * 1000)
            case "crash":
                raise ValueError("the password is 1234")
            case "abort":
                await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")
        caller = current_caller()
        response = pb.VerifyDigestResponse()
        response.verification.certificate_id = f"{caller.project}/{caller.actor}"
        return response


class Server:
    """A server and a client of it."""

    def __init__(self, address: str, health: Health, channel: grpc.aio.Channel) -> None:
        self.address = address
        self.health = health
        self.signer = signer_pb2_grpc.SignerServiceStub(channel)
        self.health_stub = health_pb2_grpc.HealthStub(channel)

    async def fails(self, digest: str, **options: Any) -> grpc.aio.AioRpcError:
        """The error that a call ends with."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.signer.VerifyDigest(pb.VerifyDigestRequest(digest=digest), timeout=DEADLINE_S, **options)
        return caught.value

    async def health_of(self, name: str) -> int:
        """What the health service says."""
        answer = await self.health_stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=DEADLINE_S)
        return int(answer.status)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """One that refuses."""
    register = partial(signer_pb2_grpc.add_SignerServiceServicer_to_server, Refusing())  # type: ignore[abstract]  # one will do
    async with (
        serving([register], [SERVICE], "127.0.0.1:0", drain_s=0) as (address, health),
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield Server(address, health, channel)


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The reason in an error's details."""
    status = rpc_status.from_call(error)
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info.reason


async def test_own_error_becomes_its_status_with_its_reason(server: Server) -> None:
    error = await server.fails("refuse")
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(error) == "SIGNATURE_INVALID"
    assert (error.details() or "").startswith("böse")


async def test_unknown_error_becomes_internal_without_a_word_of_what_it_was(server: Server) -> None:
    error = await server.fails("crash")
    assert error.code() is grpc.StatusCode.INTERNAL
    assert reason_of(error) == "INTERNAL"
    assert "1234" not in (error.details() or "")


async def test_status_that_a_handler_chose_is_left_alone(server: Server) -> None:
    error = await server.fails("abort")
    assert (error.code(), error.details()) == (grpc.StatusCode.UNIMPLEMENTED, "not here")


async def test_unknown_method_is_unimplemented(server: Server) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/tintype.Nothing/Nothing")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"", timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_caller_is_what_the_metadata_says(server: Server) -> None:
    answer = await server.signer.VerifyDigest(
        pb.VerifyDigestRequest(), metadata=(("tintype-project", "acme"), ("tintype-actor", "ann")), timeout=DEADLINE_S
    )
    assert answer.verification.certificate_id == "acme/ann"


async def test_malformed_caller_is_refused(server: Server) -> None:
    error = await server.fails("", metadata=(("tintype-project", "../acme"),))
    assert reason_of(error) == "INVALID_IDENTIFIER"


async def test_message_over_the_limit_is_refused(server: Server) -> None:
    error = await server.fails("x" * (MAX_MESSAGE_BYTES + 1))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_health_serves_only_once_ready(server: Server) -> None:
    assert await server.health_of(SERVICE) == health_pb2.HealthCheckResponse.NOT_SERVING
    await server.health.set(True)
    assert await server.health_of(SERVICE) == health_pb2.HealthCheckResponse.SERVING
    assert await server.health_of("") == health_pb2.HealthCheckResponse.SERVING


async def test_port_that_is_taken_is_a_configuration_error(server: Server) -> None:
    with pytest.raises(ConfigurationError, match="cannot be listened on"):
        async with serving([], [], server.address, drain_s=0):
            pass


async def test_stream_is_closed_at_once_when_the_client_goes_away() -> None:
    closed = asyncio.Event()

    async def endless(request: bytes, context: object) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"more"
                await asyncio.sleep(0)
        finally:
            closed.set()

    def register(server: grpc.aio.Server) -> None:
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Endless": grpc.unary_stream_rpc_method_handler(endless)
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tintype.Test", handlers),))

    async with (
        serving([register], [], "127.0.0.1:0", drain_s=0) as (address, _),
        grpc.aio.insecure_channel(address) as channel,
    ):
        stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/tintype.Test/Endless")
        call = stream(b"")
        async for message in call:
            assert message == b"more"
            break
        call.cancel()
        async with asyncio.timeout(DEADLINE_S):
            await closed.wait()


async def test_error_in_the_middle_of_a_stream_has_its_reason() -> None:
    async def breaking(request: bytes, context: object) -> AsyncIterator[bytes]:
        yield b"first"
        raise SignatureInvalidError("no more")

    def register(server: grpc.aio.Server) -> None:
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Breaking": grpc.unary_stream_rpc_method_handler(breaking)
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tintype.Test", handlers),))

    async with (
        serving([register], [], "127.0.0.1:0", drain_s=0) as (address, _),
        grpc.aio.insecure_channel(address) as channel,
    ):
        stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/tintype.Test/Breaking")
        call = stream(b"", timeout=DEADLINE_S)
        assert await call.read() == b"first"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert reason_of(caught.value) == "SIGNATURE_INVALID"


async def test_a_part_that_fails_leaves_the_server_as_a_whole_serving(server: Server) -> None:
    await server.health.set(True)
    await server.health.set_part("tintype.part", False)
    not_serving, serving_ = health_pb2.HealthCheckResponse.NOT_SERVING, health_pb2.HealthCheckResponse.SERVING
    assert [await server.health_of(name) for name in ("tintype.part", "", SERVICE)] == [
        not_serving,
        serving_,
        serving_,
    ]

    await server.health.set_part("tintype.part", True)
    assert await server.health_of("tintype.part") == serving_


async def test_a_services_parts_are_watched_beside_its_health(server: Server) -> None:
    async def well() -> None:
        """Raise nothing."""

    async def broken() -> None:
        raise ConfigurationError("no more")

    ready = asyncio.Event()
    parts = {"tintype.part": broken, "tintype.other": well}
    board = CheckBoard("signer", FakeClock(), {"log": well}, parts)
    watching = asyncio.create_task(_watch_health(board, server.health, ready.set))
    try:
        async with asyncio.timeout(DEADLINE_S):
            await ready.wait()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    names = ("", "tintype.part", "tintype.other")
    statuses = [health_pb2.HealthCheckResponse.ServingStatus.Name(await server.health_of(name)) for name in names]
    assert statuses == ["SERVING", "NOT_SERVING", "SERVING"]


def nobody(_: Metadata) -> Caller:
    """Knows no caller."""
    raise UnauthenticatedError("the call shows no token")


@asynccontextmanager
async def guarded() -> AsyncIterator[grpc.aio.Channel]:
    """A server that knows nobody, with few places."""
    register = partial(signer_pb2_grpc.add_SignerServiceServicer_to_server, Refusing())  # type: ignore[abstract]  # one will do
    async with (
        serving([register], [SERVICE], "127.0.0.1:0", drain_s=0, authenticate=nobody) as (address, _),
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield channel


def without_request(channel: grpc.aio.Channel, method: str) -> grpc.aio.StreamUnaryCall[Any, Any]:
    """A call of a method with one request, which never comes."""

    async def nothing() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    call: grpc.aio.StreamUnaryMultiCallable[bytes, Any] = channel.stream_unary(method)
    return call(nothing(), timeout=DEADLINE_S)


async def test_who_is_not_known_is_refused_before_a_request_has_come() -> None:
    async with guarded() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await without_request(channel, f"/{SERVICE}/VerifyDigest")
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_who_is_not_known_cannot_watch_health() -> None:
    async with guarded() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S).read()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_request_that_does_not_come_in_time_ends_its_call(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interception, "REQUEST_TIMEOUT_S", 0.01)
    async with grpc.aio.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await without_request(channel, f"/{SERVICE}/VerifyDigest")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_those_who_are_not_known_hold_few_of_the_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "MAX_OPEN_CALLS", 1)
    async with guarded() as channel:
        held = [without_request(channel, "/grpc.health.v1.Health/Check") for _ in range(2)]
        done, waiting = await asyncio.wait(
            [asyncio.ensure_future(call.code()) for call in held], return_when=asyncio.FIRST_COMPLETED
        )
        assert [task.result() for task in done] == [grpc.StatusCode.UNAVAILABLE]
        assert len(waiting) == 1
        for call in held:
            call.cancel()
        await asyncio.gather(*waiting)


async def test_bytes_that_are_no_request_are_an_invalid_argument(server: Server) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/VerifyDigest")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"\xff\xff", timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
