"""Services that ask callers for certificates, and that show their own to NATS: today's, at every connection."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tintype.adapters.event_log import open_event_log
from tintype.adapters.nats.server import NatsServer, ServerTls
from tintype.domain.errors import EventLogUnavailableError
from tintype.embedded.authority import Authority, open_authority
from tintype.runtime import reloading
from tintype.runtime.child_process import start_child
from tintype.runtime.grpc_server import serving
from tintype.runtime.settings import NatsSettings, TlsSettings
from tintype.runtime.tls import server_credentials

pytestmark = pytest.mark.nats

NAMES = ("localhost", "127.0.0.1")
DEADLINE_S = 20


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return open_authority(tmp_path / "ca")


def issued(authority: Authority, directory: Path) -> TlsSettings:
    authority.issue(directory, NAMES)
    return TlsSettings(certificate=directory / "tls.crt", key=directory / "tls.key", ca=directory / "ca.crt")


async def is_answered(address: str, ca: Path, shown: TlsSettings | None) -> bool:
    """Whether a service answers a caller who shows that certificate."""
    credentials = grpc.ssl_channel_credentials(
        ca.read_bytes(),
        shown.key.read_bytes() if shown and shown.key else None,
        shown.certificate.read_bytes() if shown and shown.certificate else None,
    )
    async with grpc.aio.secure_channel(address, credentials, (("grpc.enable_http_proxy", 0),)) as channel:
        try:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as exc:
            if exc.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
    return True


async def test_only_callers_with_a_certificate_of_the_ca_get_through(authority: Authority, tmp_path: Path) -> None:
    settings = issued(authority, tmp_path / "service")
    assert settings.ca
    mutual = settings.model_copy(update={"client_ca": settings.ca})
    stranger = issued(open_authority(tmp_path / "other"), tmp_path / "stranger")
    async with serving([], [], "127.0.0.1:0", 0, credentials=server_credentials(mutual)) as (address, _):
        assert await is_answered(address, settings.ca, issued(authority, tmp_path / "router"))
        assert not await is_answered(address, settings.ca, None)
        assert not await is_answered(address, settings.ca, stranger)


@pytest.fixture
async def nats(authority: Authority, tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A server that asks for certificates."""
    own = issued(authority, tmp_path / "nats-tls")
    assert own.certificate and own.key and own.ca
    server = NatsServer(tmp_path / "nats", start_child, tls=ServerTls(own.certificate, own.key, own.ca))
    await server.start()
    yield server
    await server.stop()


async def test_nats_lets_nobody_in_without_a_certificate(
    nats: NatsServer, authority: Authority, tmp_path: Path
) -> None:
    settings = issued(authority, tmp_path / "service")
    async with open_event_log(NatsSettings(url=nats.url), settings, client_name="test") as opened:
        assert await opened.log.head() == 0
    nameless = settings.model_copy(update={"certificate": None, "key": None})
    with pytest.raises(EventLogUnavailableError):
        async with open_event_log(NatsSettings(url=nats.url), nameless, client_name="test"):
            pass


async def test_a_reconnect_shows_the_certificate_of_today(
    nats: NatsServer, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CA is exchanged while a service is connected: server first, then the service's files."""
    monkeypatch.setattr(reloading, "LOOK_INTERVAL_S", 0.0)
    settings = issued(authority, tmp_path / "service")
    async with open_event_log(NatsSettings(url=nats.url), settings, client_name="test") as opened:
        await nats.kill()
        newer = open_authority(tmp_path / "newer")
        for directory in ("nats-tls", "service"):
            newer.issue(tmp_path / "made", NAMES)
            for name in ("tls.crt", "tls.key", "ca.crt"):
                os.replace(tmp_path / "made" / name, tmp_path / directory / name)
        await nats.start()
        while True:
            try:
                await opened.check()
                break
            except EventLogUnavailableError:
                pass
            await asyncio.sleep(0.02)
        assert await opened.log.head() == 0
