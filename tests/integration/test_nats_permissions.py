"""What deploy/nats/nats.conf lets the holder of each certificate do."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import nats.errors
import pytest

from tintype.adapters.event_log import open_event_log
from tintype.adapters.nats.server import server_binary
from tintype.codec.subjects import STREAM
from tintype.embedded.stack_settings import SERVICES
from tintype.runtime.settings import NatsSettings, TlsSettings
from tintype.testing.events import CREATED, EventBuilder, an_image_id
from tools.deployment import DEPLOY
from tools.make_secrets import make_secrets

pytestmark = pytest.mark.nats

DEADLINE_S = 20
CREATE = {"name": STREAM, "subjects": ["tintype.v1.*.image.>"]}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    directory = tmp_path / "secrets"
    make_secrets(directory, "127.0.0.1:9292", "127.0.0.1:4222")
    return directory


@pytest.fixture
async def url(secrets: Path, tmp_path: Path) -> AsyncIterator[str]:
    """Where a server listens that is set up as in containers, but for where its files and its ports are."""
    text = (DEPLOY / "nats/nats.conf").read_text().replace("/etc/tintype/tls/", f"{secrets}/nats/tls/")
    text = text.replace("port: 4222", 'host: "127.0.0.1"\nport: -1').replace(":8222", ":-1")
    config = tmp_path / "nats.conf"
    config.write_text(text.replace("store_dir: /data", f"store_dir: {json.dumps(str(tmp_path / 'data'))}"))
    process = await asyncio.create_subprocess_exec(
        server_binary(), "-c", str(config), stderr=asyncio.subprocess.PIPE, env={**os.environ, "NATS_NAME": "nats"}
    )
    assert process.stderr
    address, seen = "", b""
    async with asyncio.timeout(DEADLINE_S):
        async for line in process.stderr:
            seen += line
            if b"Listening for client connections on " in line:
                address = line.decode().split()[-1]
            if b"Server is ready" in line:
                break
    assert address, seen.decode()
    yield f"tls://{address}"
    process.kill()
    await process.communicate()


async def answers(url: str, tls: Path, *calls: str) -> list[dict[str, object]]:
    """What JetStream's API answers the holder of that certificate; nothing to what is not his."""
    context = ssl.create_default_context(cafile=tls / "ca.crt")
    context.load_cert_chain(tls / "tls.crt", tls / "tls.key")
    forbidden = asyncio.Event()

    async def told(_: Exception) -> None:
        forbidden.set()

    client = await nats.connect(url, tls=context, error_cb=told, allow_reconnect=False)
    found = []
    try:
        for call in calls:
            forbidden.clear()
            body = json.dumps(CREATE if ".CREATE." in call else {}).encode()
            asked = asyncio.ensure_future(client.request(f"$JS.API.{call}", body, timeout=DEADLINE_S))
            refused = asyncio.ensure_future(forbidden.wait())
            await asyncio.wait((asked, refused), return_when=asyncio.FIRST_COMPLETED)
            found.append(json.loads(asked.result().data) if asked.done() else {})
            for each in (asked, refused):
                each.cancel()
            await asyncio.gather(asked, refused, return_exceptions=True)
    finally:
        await client.close()
    return found


async def test_a_service_makes_the_log_and_cannot_take_it_away(url: str, secrets: Path) -> None:
    for service in SERVICES:
        created, purged, deleted, read = await answers(
            url,
            secrets / service / "tls",
            f"STREAM.CREATE.{STREAM}",
            f"STREAM.PURGE.{STREAM}",
            f"STREAM.DELETE.{STREAM}",
            f"STREAM.INFO.{STREAM}",
        )
        assert "error" not in created
        assert (purged, deleted) == ({}, {})
        assert "error" not in read


async def test_services_work_with_what_they_are_allowed(url: str, secrets: Path) -> None:
    for position, service in enumerate(SERVICES, start=1):
        tls = secrets / service / "tls"
        shown = TlsSettings(certificate=tls / "tls.crt", key=tls / "tls.key", ca=tls / "ca.crt")
        async with open_event_log(NatsSettings(url=url), shown, client_name=service) as opened:
            appended = await opened.log.append(EventBuilder(image_id=an_image_id(service)).new(CREATED), after=None)
            assert await opened.log.head() == position
            assert list(await opened.log.history(appended.event.image_id)) == [appended]


async def test_the_operator_may_take_the_log_away(url: str, secrets: Path) -> None:
    _, deleted = await answers(url, secrets / "operator", f"STREAM.CREATE.{STREAM}", f"STREAM.DELETE.{STREAM}")
    assert deleted["success"] is True
