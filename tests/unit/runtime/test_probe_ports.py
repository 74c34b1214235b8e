"""The ports beside a service's own tell how it is, to anybody, and can be held up by nobody."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import closing

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry, Gauge

from tintype.domain.errors import ConfigurationError
from tintype.runtime import metrics_port as metrics_module
from tintype.runtime.grpc_server import Health
from tintype.runtime.health_port import Readiness, health_port
from tintype.runtime.metrics_port import MAX_REQUESTS, metrics_port
from tintype.runtime.probe_ports import probe_ports
from tintype.runtime.settings import ServiceSettings

DEADLINE_S = 10


def fetch(address: str, path: str, method: str = "GET") -> tuple[int, str]:
    """Status and body."""
    with closing(http.client.HTTPConnection(address, timeout=DEADLINE_S)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


@pytest.fixture
async def readiness() -> Readiness:
    return Readiness()


@pytest.fixture
async def health(readiness: Readiness) -> Health:
    health = Health(["tintype.Service"])
    await health.set(False)
    readiness.follow(health)
    return health


@pytest.fixture
async def metrics(readiness: Readiness) -> AsyncIterator[str]:
    registry = CollectorRegistry()
    Gauge("tintype_answer", "Of everything.", registry=registry).set(42)
    async with metrics_port("127.0.0.1:0", readiness, registry) as address:
        yield address


async def status_of(address: str, name: str) -> int:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=DEADLINE_S)
        return int(answer.status)


async def test_metrics_are_served_as_text(metrics: str) -> None:
    status, body = await asyncio.to_thread(fetch, metrics, "/metrics")
    assert (status, "tintype_answer 42.0" in body) == (200, True)


async def test_a_service_is_ready_when_its_health_says_so(metrics: str, readiness: Readiness, health: Health) -> None:
    assert await asyncio.to_thread(fetch, metrics, "/readyz") == (503, "service unavailable\n")
    await health.set(True)
    assert await asyncio.to_thread(fetch, metrics, "/readyz") == (200, "ok\n")


async def test_a_service_is_not_ready_before_it_is_built(metrics: str) -> None:
    assert (await asyncio.to_thread(fetch, metrics, "/readyz"))[0] == 503
    assert await asyncio.to_thread(fetch, metrics, "/livez") == (200, "ok\n")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/livez/../metrics", "/favicon.ico", "/admin"])
async def test_nothing_else_is_served(metrics: str, path: str) -> None:
    assert await asyncio.to_thread(fetch, metrics, path) == (404, "not found\n")


async def test_metrics_are_only_read(metrics: str) -> None:
    assert (await asyncio.to_thread(fetch, metrics, "/metrics", "POST"))[0] == 405


async def test_a_service_whose_loop_stands_still_is_not_alive(metrics: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_module, "LOOP_TIMEOUT_S", 0.05)
    found: list[tuple[int, str]] = []
    asking = threading.Thread(target=lambda: found.append(fetch(metrics, "/livez")))
    asking.start()
    asking.join()  # the loop runs this line, and nothing else meanwhile
    assert found == [(503, "service unavailable\n")]


async def test_who_holds_all_places_is_cut_off(metrics: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_module, "REQUEST_TIMEOUT_S", 0.2)
    host, _, port = metrics.rpartition(":")

    def hold_up() -> tuple[int, str]:
        held = [socket.create_connection((host, int(port)), timeout=DEADLINE_S) for _ in range(MAX_REQUESTS + 4)]
        try:
            for each in held:  # each ends: those without a place at once, the others when their time is over
                assert not _rest_of(each)
        finally:
            for each in held:
                each.close()
        return fetch_at_last(metrics, "/livez")

    assert await asyncio.to_thread(hold_up) == (200, "ok\n")


def fetch_at_last(address: str, path: str) -> tuple[int, str]:
    """Ask until there is a place: one is given back a moment after its holder was cut off."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return fetch(address, path)
        except ConnectionError:
            assert time.monotonic() < deadline


def _rest_of(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1)
    except ConnectionResetError:
        return b""


async def test_a_metric_that_cannot_be_told_ends_nothing(readiness: Readiness) -> None:
    registry = CollectorRegistry()
    broken = Gauge("tintype_broken", "It cannot be told.", registry=registry)
    broken.set_function(lambda: 1 / 0)
    async with metrics_port("127.0.0.1:0", readiness, registry) as address:
        assert await asyncio.to_thread(fetch, address, "/metrics") == (500, "internal server error\n")
        assert await asyncio.to_thread(fetch, address, "/livez") == (200, "ok\n")


async def test_a_request_that_is_none_ends_nothing(metrics: str) -> None:
    host, _, port = metrics.rpartition(":")

    def garble() -> tuple[int, str]:
        with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as connection:
            connection.sendall(b"\x16\x03\x01 not HTTP at all\r\n\r\n")
            while connection.recv(4096):
                pass
        return fetch(metrics, "/livez")

    assert await asyncio.to_thread(garble) == (200, "ok\n")


async def test_health_has_a_port_that_says_what_the_services_own_says(readiness: Readiness) -> None:
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    async with health_port("127.0.0.1:0", readiness) as address:
        assert await status_of(address, "") == not_serving
        health = Health(["tintype.Service"])
        await health.set(True)
        await health.set_part("store main", False)
        readiness.follow(health)
        assert [await status_of(address, name) for name in ("", "tintype.Service", "store main")] == [
            serving,
            serving,
            not_serving,
        ]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await status_of(address, "nothing")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_the_port_for_health_lets_nobody_wait(readiness: Readiness, health: Health) -> None:
    async with (
        health_port("127.0.0.1:0", readiness) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watching.read()
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("setting", ["health_listen", "metrics_listen"])
async def test_a_port_that_is_taken_names_its_setting(setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = ServiceSettings.model_validate({setting: f"127.0.0.1:{taken.getsockname()[1]}"})
        with pytest.raises(ConfigurationError, match=setting):
            async with probe_ports(settings):
                pass


async def test_ports_that_are_not_set_are_not_opened() -> None:
    async with probe_ports(ServiceSettings()) as probes:
        assert probes.addresses == {}


async def test_ports_that_are_set_are_told() -> None:
    settings = ServiceSettings(health_listen="127.0.0.1:0", metrics_listen="127.0.0.1:0")
    async with probe_ports(settings) as probes:
        assert (await asyncio.to_thread(fetch, probes.addresses["metrics"], "/livez"))[0] == 200
        assert await status_of(probes.addresses["health"], "") == health_pb2.HealthCheckResponse.NOT_SERVING
