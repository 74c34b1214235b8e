"""`tintype up --tls`: everything is encrypted, and nobody is served who cannot prove who they are."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import nats
import nats.errors
import pytest

import tintype.client
from tests.e2e.commands import answer, runner
from tests.e2e.conftest import ENVIRONMENT
from tests.e2e.stack import Stack
from tests.e2e.web_source import web_source
from tintype.client import (
    Client,
    ClientConfig,
    ConfigurationError,
    NotPermittedError,
    ServiceUnavailableError,
    Status,
    load_config,
)
from tintype.embedded.authority import open_authority
from tintype.embedded.encryption import NAMES

pytestmark = [pytest.mark.nats, pytest.mark.qemu, pytest.mark.sandbox]


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that was started with --tls."""
    running = Stack(tmp_path_factory.mktemp("encrypted"), ENVIRONMENT, ("--tls",))
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def config(encrypted: Stack) -> ClientConfig:
    """What `tintype up --tls` wrote for clients, with little patience."""
    return replace(load_config(encrypted.client_config), retry_s=0.5, timeout_s=10)


@pytest.fixture
async def client(config: ClientConfig) -> AsyncIterator[Client]:
    """Whoever started the stack."""
    async with tintype.client.connect(replace(config, retry_s=15)) as connected:
        yield connected


async def test_an_image_walks_its_road_encrypted(client: Client, disks: Path, tmp_path: Path) -> None:
    image = await client.images.create(name="over TLS", disk_format="qcow2", container_format="bare")
    with web_source(disks) as url:
        await client.operations.wait(await client.images.import_(image.id, uri=f"{url}/disk.qcow2"))
    assert (await client.images.get(image.id)).status is Status.ACTIVE
    download = await client.images.download(image.id, tmp_path / "disk.raw")
    assert download.size == (disks / "disk.raw").stat().st_size
    types = [event.type async for event in _history(client, image.id)]
    assert types[0] == "created"
    assert types[-1] == "published"


async def _history(client: Client, image_id: str) -> AsyncIterator[tintype.client.ImageEvent]:
    """The image's events, read from NATS."""
    async for event in client.events.subscribe(image_id=image_id, after=0):
        yield event
        if event.type == "published":
            return


async def test_the_actor_is_whose_token_it_is_and_not_who_one_says(
    encrypted: Stack, config: ClientConfig, tmp_path: Path
) -> None:
    async with tintype.client.connect(replace(config, actor="somebody else")) as client:
        image = await client.images.create(name="mine", disk_format="raw", container_format="bare")
    history = answer(runner(encrypted, tmp_path), "image", "history", image.id)
    assert "somebody else" not in str(history)


@pytest.mark.parametrize("token", ["", "tintype_wrong"])
async def test_without_a_known_token_nothing_is_answered(config: ClientConfig, token: str) -> None:
    async with tintype.client.connect(replace(config, token_file="", token=token)) as client:
        with pytest.raises(NotPermittedError) as refused:
            await client.images.get("00000000-0000-0000-0000-000000000000")
    assert refused.value.reason == "UNAUTHENTICATED"
    assert refused.value.hint


async def test_a_service_answers_nothing_in_plaintext(config: ClientConfig) -> None:
    async with tintype.client.connect(replace(config, ca="", certificate="", key="")) as client:
        with pytest.raises(ServiceUnavailableError):
            await client.images.get("00000000-0000-0000-0000-000000000000")


async def test_a_service_of_another_ca_is_not_trusted(config: ClientConfig, tmp_path: Path) -> None:
    other = open_authority(tmp_path / "other")
    async with tintype.client.connect(replace(config, ca=str(other.certificate_file))) as client:
        with pytest.raises(ServiceUnavailableError):
            await client.images.get("00000000-0000-0000-0000-000000000000")


async def test_a_token_is_not_sent_unencrypted_to_another_machine(config: ClientConfig) -> None:
    plain = replace(config, ca="", certificate="", key="", catalog="images.example:9292")
    with pytest.raises(ConfigurationError, match="unencrypted"):
        async with tintype.client.connect(plain):
            pass


async def test_nobody_reads_the_log_without_a_certificate(config: ClientConfig) -> None:
    context = ssl.create_default_context(cafile=config.ca)
    failures: list[Exception] = []

    async def failed(error: Exception) -> None:
        failures.append(error)

    with pytest.raises((nats.errors.Error, OSError)):
        await nats.connect(config.nats, tls=context, allow_reconnect=False, max_reconnect_attempts=1, error_cb=failed)
    assert failures


async def test_certificates_are_exchanged_while_the_stack_runs(
    encrypted: Stack, config: ClientConfig, client: Client, tmp_path: Path
) -> None:
    """The next connection is shown the new certificate; the ones that are open go on."""
    services = encrypted.data / "tls" / "services"
    serial = ssl.get_server_certificate(_address(config.catalog), ca_certs=config.ca)
    newer = tmp_path / "newer"
    open_authority(encrypted.data / "tls").issue(newer, NAMES)
    for name in ("tls.crt", "tls.key"):
        os.replace(newer / name, services / name)
    image = await client.images.create(name="meanwhile", disk_format="raw", container_format="bare")
    while (shown := ssl.get_server_certificate(_address(config.catalog), ca_certs=config.ca)) == serial:
        pass  # files are looked at once a second
    assert shown == (services / "tls.crt").read_text()
    async with tintype.client.connect(config) as another:
        assert (await another.images.get(image.id)).name == "meanwhile"


def _address(target: str) -> tuple[str, int]:
    host, _, port = target.rpartition(":")
    return host, int(port)


async def test_a_stack_that_was_encrypted_starts_again(encrypted: Stack, config: ClientConfig) -> None:
    assert encrypted.stop() == 0
    token = Path(config.token_file).read_text()
    encrypted.start()
    assert Path(config.token_file).read_text() == token
    async with tintype.client.connect(encrypted.client_config) as client:
        image = await client.images.create(name="again", disk_format="raw", container_format="bare")
    assert image.name == "again"
