"""Containers of every kind are killed, lost and restarted while images are on their way: all images arrive.

One deployment for all of it, with two replicas of each service and three NATS servers.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from docker.models.containers import Container  # type: ignore[import-untyped]

import tintype.client
from tests.backends.containers import ContainerEngine
from tests.backends.podman import STAND_INS
from tests.containers.confined import running, wait_until_healthy
from tests.containers.deployed import Deployment, new_deployment
from tests.e2e.load import Load, every_kind_of_work_is_done, watch
from tintype.client import Client, Image, ImportMethod, Operation, Status
from tintype.domain.events import ImageAttested, ImageConverted, ImagePublished, ImageVerified
from tintype.domain.values import Digest
from tintype.testing.certificates import ec_key, pem, root_authority
from tintype.trust.signing import sign_digest, signature_properties

SERVICES = ("catalog", "importer", "converter", "signer")
REPLICAS = 2
PUBLISHER = "publisher-1"
DEADLINE_S = 180
STOP_TIMEOUT_S = 30
DISK_BYTES = 32 * 1024 * 1024

SOURCE = "source"
SERVE_SLOWLY = """
import http.server, time
class Handler(http.server.SimpleHTTPRequestHandler):
    def copyfile(self, source, target):
        while piece := source.read(65536):
            target.write(piece)
            time.sleep(len(piece) / 16e6)
http.server.ThreadingHTTPServer(("0.0.0.0", 80), Handler).serve_forever()
"""


@dataclass(frozen=True)
class Cluster:
    """The deployment, and a disk that it finds at ``url``."""

    deployed: Deployment
    disk: Path
    url: str

    @property
    def properties(self) -> Mapping[str, str]:
        """The publisher's signature over the disk."""
        digest = Digest("sha512", hashlib.sha512(self.disk.read_bytes()).hexdigest())
        return signature_properties(sign_digest(ec_key("publisher"), digest), digest, "ECC_SECP256R1", PUBLISHER)

    def containers(self, service: str) -> list[Container]:
        """Those of one service."""
        labels = [f"com.docker.compose.project={self.deployed.project}", f"com.docker.compose.service={service}"]
        found: list[Container] = self.deployed.engine.client().containers.list(all=True, filters={"label": labels})
        return sorted(found, key=lambda container: str(container.name))


@pytest.fixture(scope="module")
def cluster(engine: ContainerEngine, images: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("cluster")
    made = new_deployment(
        engine, directory, "tintype-chaos", CLUSTER="1", TINTYPE_ALLOWED_HOSTS=SOURCE, TINTYPE_IMAGES=images
    )
    certificate = made.directory / "certificates" / f"{PUBLISHER}.pem"
    certificate.write_bytes(pem(publishers_certificate()))
    certificate.parent.chmod(0o755)
    certificate.chmod(0o644)
    disk = new_disk(tmp_path_factory.mktemp("served"))
    try:
        made.make("up")
        scales = [word for service in SERVICES for word in ("--scale", f"{service}={REPLICAS}")]
        made.make("compose", "up", "--detach", "--no-recreate", *scales)
        with serving(made, disk.parent):
            found = Cluster(made, disk, f"http://{SOURCE}/{disk.name}")
            for service in SERVICES:
                for container in found.containers(service):
                    wait_until_healthy(container)
            yield found
    finally:
        made.make("down", PURGE="1")
    assert made.left() == {"containers": [], "networks": [], "volumes": []}


def publishers_certificate() -> x509.Certificate:
    """Of the key that signs here."""
    now, day = datetime.now(UTC), timedelta(days=1)
    root = root_authority(begins=now - 2 * day, ends=now + 2 * day)
    return root.issue("Publisher", ec_key("publisher").public_key(), begins=now - day, ends=now + day)


def new_disk(directory: Path) -> Path:
    """A qcow2 disk, half of it data, that everybody may read."""
    directory.chmod(0o755)
    raw, disk = directory / "disk.raw", directory / "disk.qcow2"
    with raw.open("wb") as file:
        file.write(os.urandom(DISK_BYTES // 2))
        file.truncate(DISK_BYTES)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(disk)], check=True)
    disk.chmod(0o644)
    return disk


def serving(made: Deployment, directory: Path) -> Any:
    """A web server on the deployment's network that takes its time."""
    network = f"{made.project}_default"
    return running(
        made.engine,
        STAND_INS["base"],
        name=f"{made.project}-{SOURCE}",
        entrypoint=["python3", "-c"],
        command=[SERVE_SLOWLY],
        volumes={str(directory): {"bind": "/served", "mode": "ro"}},
        working_dir="/served",
        hostname=SOURCE,
        network=network,
        networking_config={network: made.engine.client().api.create_endpoint_config(aliases=[SOURCE])},
    )


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    async with tintype.client.connect(cluster.deployed.client_config) as connected:
        yield connected


@pytest.mark.parametrize("victim", [*SERVICES, "router", "postgresql", "nats"])
async def test_whatever_is_killed_in_mid_import_all_images_arrive(
    cluster: Cluster, client: Client, victim: str
) -> None:
    imports = [await begin(cluster, client, f"{victim}-{number}") for number in range(2)]
    await in_mid_import(client, imports)
    (killed, *_) = cluster.containers(victim)
    await asyncio.to_thread(killed.kill)
    await asyncio.to_thread(killed.start)  # as whoever watches over containers does
    await expect_arrival(cluster, client, imports)
    await asyncio.to_thread(wait_until_healthy, killed)


async def test_images_arrive_while_one_of_three_nats_servers_is_lost(cluster: Cluster, client: Client) -> None:
    imports = [await begin(cluster, client, f"nats-{number}") for number in range(2)]
    await in_mid_import(client, imports)
    (lost,) = cluster.containers("nats-2")
    await asyncio.to_thread(lost.kill)
    try:
        imports += [await begin(cluster, client, f"without-{number}") for number in range(2)]
        await expect_arrival(cluster, client, imports)
    finally:
        await asyncio.to_thread(lost.start)
    await asyncio.to_thread(wait_until_healthy, lost)


async def test_images_arrive_while_the_database_is_restarted(cluster: Cluster, client: Client) -> None:
    imports = [await begin(cluster, client, f"database-{number}") for number in range(2)]
    (database,) = cluster.containers("postgresql")
    restarting = asyncio.create_task(asyncio.to_thread(database.restart, timeout=STOP_TIMEOUT_S))
    imports += [await begin(cluster, client, f"meanwhile-{number}") for number in range(2)]
    await restarting
    await expect_arrival(cluster, client, imports)
    await asyncio.to_thread(wait_until_healthy, database)


async def test_no_call_fails_while_every_container_of_every_service_is_restarted(
    cluster: Cluster, tmp_path: Path
) -> None:
    config = cluster.deployed.client_config
    load = Load(config, tmp_path, cluster.url)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(load.run())
        seen = tasks.create_task(watch(config, load))
        await every_kind_of_work_is_done(load)
        for service in SERVICES:
            for container in cluster.containers(service):
                await asyncio.to_thread(container.restart, timeout=STOP_TIMEOUT_S)
                await asyncio.to_thread(wait_until_healthy, container)
        await every_kind_of_work_is_done(load)
        load.is_over.set()
    assert set(load.created) <= seen.result()


async def begin(cluster: Cluster, client: Client, name: str) -> tuple[Image, Operation]:
    """An import that is verified, converted and attested."""
    image = await client.images.create(
        name, disk_format="qcow2", container_format="bare", properties=cluster.properties
    )
    return image, await client.images.import_(image.id, method=ImportMethod.WEB_DOWNLOAD, uri=cluster.url)


async def in_mid_import(client: Client, imports: list[tuple[Image, Operation]]) -> None:
    """Return when one of them has come so far that there is something to lose."""
    while True:
        for _, operation in imports:
            state = await client.operations.get(operation)
            if state.done or (state.progress and state.progress.done):
                return


async def expect_arrival(cluster: Cluster, client: Client, imports: list[tuple[Image, Operation]]) -> None:
    """All become active, each step stands in the log once, and what is served is the disk."""
    raw = cluster.disk.with_suffix(".raw").read_bytes()
    for image, operation in imports:
        await client.operations.wait(operation, timeout_s=DEADLINE_S)
        found = await client.images.get(image.id)
        assert found.status is Status.ACTIVE
        happened = [type(event.payload) async for event in client.images.history(image.id)]
        for kind in (ImageVerified, ImageConverted, ImageAttested, ImagePublished):
            assert happened.count(kind) == 1
        assert found.digests["sha256"] == hashlib.sha256(raw).hexdigest()
