"""Every replica of every service is restarted in turn, behind one endpoint, and no call of a client's fails."""

from __future__ import annotations

import asyncio
import hashlib
import os
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

import tintype.client
from tests.backends.nginx import router
from tests.backends.postgresql import postgresql_database
from tests.e2e.deployment import Deployment, Replica, deployment
from tests.e2e.web_source import web_source
from tintype.client import Client, ClientConfig, ImageEvent, ImportMethod, Status

pytestmark = [pytest.mark.slow, pytest.mark.nats, pytest.mark.postgresql, pytest.mark.qemu, pytest.mark.timeout(300)]

REPLICAS = {"catalog": 2, "importer": 2, "converter": 2, "signer": 2}
SIZE = 32 * 1024 * 1024
SLOW_BYTES_S = 6e6
"""At this speed a transfer takes longer than a drain lasts."""


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, log_url: str, keys: Path, database_server: str
) -> Iterator[Deployment]:
    tables = {
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
        yield ClientConfig(**dict.fromkeys(REPLICAS, address))


class Load:
    """What users do all the time; counts how often each of it was done."""

    def __init__(self, config: ClientConfig, directory: Path, source: str) -> None:
        self._config = config
        self._directory = directory
        self._source = source
        self.is_over = asyncio.Event()
        self.done: Counter[str] = Counter()
        self.created: list[str] = []
        (directory / "upload").write_bytes(os.urandom(SIZE))

    async def run(self) -> None:
        """Go on until it is over; whatever fails is raised."""
        async with asyncio.TaskGroup() as tasks:
            for work in (self.list, self.change, self.upload, self.download, self.import_, self.sign):
                tasks.create_task(self._again_and_again(work))

    async def _again_and_again(self, work: Callable[[Client], Awaitable[None]]) -> None:
        async with tintype.client.connect(self._config) as client:
            while not self.is_over.is_set():
                await work(client)
                self.done[work.__name__] += 1

    async def list(self, client: Client) -> None:
        """Through all pages."""
        async for _ in client.images.list(page_size=5):
            pass

    async def change(self, client: Client) -> None:
        """A life without bytes."""
        image = await client.images.create(f"changed-{uuid.uuid4()}")
        self.created.append(image.id)
        await client.images.update(image.id, tags=("changed",))
        assert (await client.images.get(image.id)).tags == ("changed",)
        await client.images.delete(image.id)

    async def upload(self, client: Client) -> None:
        """For longer than a drain lasts."""
        path = self._directory / "upload"
        image = await client.images.create("uploaded", disk_format="raw", container_format="bare")
        upload = await client.images.upload(image.id, slowly(path), expected_size=SIZE)
        await client.operations.wait(upload)
        found = await client.images.get(image.id)
        assert found.status is Status.ACTIVE
        assert found.digests["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()

    async def download(self, client: Client) -> None:
        """The same."""
        async for image in client.images.list(status=Status.ACTIVE, name="uploaded", limit=1):
            async with aclosing(client.images.read(image.id)) as chunks:
                size = 0
                async for chunk in chunks:
                    size += len(chunk)
                    await asyncio.sleep(len(chunk) / SLOW_BYTES_S)
            assert size == SIZE
            await client.images.download(image.id, self._directory / "download")
            return

    async def import_(self, client: Client) -> None:
        """With conversion."""
        image = await client.images.create("imported", disk_format="qcow2", container_format="bare")
        uri = f"{self._source}/disk.qcow2"
        operation = await client.images.import_(image.id, method=ImportMethod.WEB_DOWNLOAD, uri=uri)
        await client.operations.wait(operation)
        assert (await client.images.get(image.id)).status is Status.ACTIVE
        await client.images.delete(image.id)

    async def sign(self, client: Client) -> None:
        """Ask the signer something."""
        assert await client.signer.keys()


async def slowly(path: Path) -> AsyncIterator[bytes]:
    """The file's bytes, one piece at a time."""
    with path.open("rb") as file:
        while piece := file.read(256 * 1024):
            yield piece
            await asyncio.sleep(len(piece) / SLOW_BYTES_S)


async def test_no_call_fails_while_every_replica_is_restarted(
    site: Deployment, endpoint: ClientConfig, disks: Path, tmp_path: Path
) -> None:
    with web_source(disks, bytes_per_s=40e6) as url:
        load = Load(endpoint, tmp_path, url)
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


async def every_kind_of_work_is_done(load: Load) -> None:
    """Return when each has been done once more."""
    before = Counter(load.done)
    while any(load.done[name] == before[name] for name in ("list", "change", "upload", "download", "import_", "sign")):
        await asyncio.sleep(0.05)  # the load goes on meanwhile


async def watch(config: ClientConfig, load: Load) -> set[str]:
    """Follow all that happens until the load is over; the images that were created. Events come once, in order."""
    created: set[str] = set()
    position = 0
    async with tintype.client.connect(config) as client, aclosing(client.images.watch(after=0)) as changes:
        async for change in changes:
            if isinstance(change, ImageEvent):
                assert change.position > position
                position = change.position
                created.add(change.image_id)
            if load.is_over.is_set() and set(load.created) <= created:
                return created
    return created
