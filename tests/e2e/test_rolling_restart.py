"""Every replica of every service is restarted in turn, behind one endpoint, and no call of a client's fails."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

import tintype.client
from tests.backends.nginx import router
from tests.backends.postgresql import postgresql_database
from tests.e2e.deployment import Deployment, Replica, Tables, deployment
from tests.e2e.load import SIZE, SLOW_BYTES_S, Load, every_kind_of_work_is_done, slowly, watch
from tests.e2e.web_source import web_source
from tintype.client import ClientConfig

pytestmark = [pytest.mark.slow, pytest.mark.nats, pytest.mark.postgresql, pytest.mark.qemu, pytest.mark.timeout(300)]

REPLICAS = {"catalog": 2, "importer": 2, "converter": 2, "signer": 2}


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, log_url: str, keys: Path, database_server: str
) -> Iterator[Deployment]:
    tables: Tables = {
        "importer": {"allowed_hosts": ["127.0.0.1"], "lease_s": 2.0},
        "converter": {"output_format": "raw", "lease_s": 2.0},
        "signer": {"lease_s": 2.0},
        "stores": {"main": {"type": "file", "path": str(tmp_path_factory.mktemp("share")), "default": True}},
    }
    folder = tmp_path_factory.mktemp("site")
    with (
        postgresql_database(database_server) as database,
        deployment(folder, log_url, database, tables, keys, REPLICAS) as deployed,
    ):
        yield deployed


@pytest.fixture
def endpoint(site: Deployment, tmp_path: Path) -> Iterator[ClientConfig]:
    """What a client knows of it: one address."""
    (tmp_path / "router").mkdir()
    services = {name: [replica.address for replica in site.of(name)] for name in REPLICAS}
    with router(tmp_path / "router", services) as address:
        yield ClientConfig(endpoint=address)


async def test_no_call_fails_while_every_replica_is_restarted(
    site: Deployment, endpoint: ClientConfig, disks: Path, tmp_path: Path
) -> None:
    with web_source(disks, bytes_per_s=40e6) as url:
        load = Load(endpoint, tmp_path, f"{url}/disk.qcow2")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run())
            seen = tasks.create_task(watch(endpoint, load))
            await every_kind_of_work_is_done(load)
            for replica in site.replicas:
                await replica.restart()
            await every_kind_of_work_is_done(load)
            load.is_over.set()
    assert set(load.created) <= seen.result()


async def test_a_transfer_goes_on_when_whoever_serves_it_is_killed(
    site: Deployment, endpoint: ClientConfig, tmp_path: Path
) -> None:
    content = os.urandom(2 * SIZE)
    (tmp_path / "upload").write_bytes(content)

    async def kill_each() -> None:
        for importer in site.of("importer"):
            await asyncio.sleep(1)  # the transfer is under way
            await importer.restart(Replica.kill)

    async with tintype.client.connect(endpoint) as client:
        image = await client.images.create("outlives", disk_format="raw", container_format="bare")
        killing = asyncio.create_task(kill_each())
        upload = await client.images.upload(image.id, slowly(tmp_path / "upload"))
        await killing
        await client.operations.wait(upload)
        killing = asyncio.create_task(kill_each())
        received = bytearray()
        async with aclosing(client.images.read(image.id)) as chunks:
            async for chunk in chunks:
                received += chunk
                await asyncio.sleep(len(chunk) / SLOW_BYTES_S)
        await killing
    assert received == content


async def test_status_knows_all_replicas_behind_one_endpoint(site: Deployment, endpoint: ClientConfig) -> None:
    async with tintype.client.connect(endpoint) as client:
        status = await client.admin.status()
        killed = site.of("importer")[0]
        killed.kill()
        without = await client.admin.status()
        killed.start()
        await asyncio.to_thread(killed.wait_ready)

    assert {each.service: len(each.replicas) for each in status.services} == REPLICAS
    assert all(each.answers and each.ready for each in status.services)
    assert {each.service: len(each.replicas) for each in without.services} == {**REPLICAS, "importer": 1}
    assert all(each.answers and each.ready for each in without.services)
