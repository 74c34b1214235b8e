"""The probe's exit code is the service's health."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tintype.runtime import probe

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize(("status", "exit_code"), [(SERVING, 0), (NOT_SERVING, 1)])
async def test_exit_code_tells_whether_it_serves(status: int, exit_code: int) -> None:
    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    await servicer.set("", status)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        assert await asyncio.to_thread(probe.main, [f"127.0.0.1:{port}"]) == exit_code
        assert await asyncio.to_thread(probe.main, [f"127.0.0.1:{port}", "unknown"]) == 1
    finally:
        await server.stop(None)


def test_nobody_listening_is_unhealthy(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(probe, "TIMEOUT_S", 0.1)
    assert probe.main(["127.0.0.1:1"]) == 1
    assert "127.0.0.1:1 did not answer" in capsys.readouterr().err


def test_without_an_address_it_says_how_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    assert probe.main([]) == 2
    assert "usage" in capsys.readouterr().err
