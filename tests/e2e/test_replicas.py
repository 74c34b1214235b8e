"""Several replicas of every service share the log, the database and the stores, and nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

import tintype.client
from tests.backends.postgresql import postgresql_database
from tests.backends.s3 import new_bucket, s3_of_swift
from tests.backends.swift import SwiftCluster
from tests.e2e.deployment import Deployment, Replica, Tables, deployment, steps_ended
from tests.e2e.roads import DEADLINE_S, downloaded
from tests.e2e.web_source import web_source
from tintype.adapters.nats.server import NatsServer
from tintype.api.events.v1 import events_pb2
from tintype.api.importer.v1 import importer_pb2, importer_pb2_grpc
from tintype.client import Client, Image, ImportMethod, Status
from tintype.domain.events import (
    ImageAttested,
    ImageConverted,
    ImageExpired,
    ImagePublished,
    ImageStaged,
    ImageVerified,
    Step,
)
from tintype.domain.values import Digest
from tintype.testing.certificates import ec_key, pem, root_authority
from tintype.trust.signing import sign_digest, signature_properties

pytestmark = [pytest.mark.slow, pytest.mark.nats, pytest.mark.postgresql, pytest.mark.qemu, pytest.mark.timeout(300)]

PUBLISHER = "publisher-1"
LEASE_S = 2.0
DELETE_DELAY_S = 2.0
IMPORTS, UPLOADS = 9, 6
FEW_IMPORTS, FEW_UPLOADS = 2, 2
BYTES_PER_S = 40e6


@dataclass(frozen=True)
class Publisher:
    """Whose signatures the deployment accepts."""

    certificates: Path
    roots: Path

    def properties(self, content: bytes) -> Mapping[str, str]:
        """The signature over ``content``, as an image carries it."""
        digest = Digest("sha512", hashlib.sha512(content).hexdigest())
        return signature_properties(sign_digest(ec_key("publisher"), digest), digest, "ECC_SECP256R1", PUBLISHER)


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    folder = tmp_path_factory.mktemp("publisher")
    now = datetime.now(UTC)
    root = root_authority(begins=now - timedelta(days=2), ends=now + timedelta(days=3))
    signer = root.issue(
        "Publisher", ec_key("publisher").public_key(), begins=now - timedelta(days=1), ends=now + timedelta(days=1)
    )
    for name, content in ((f"certificates/{PUBLISHER}.pem", pem(signer)), ("roots/root.pem", root.pem)):
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(content)
    return Publisher(folder / "certificates", folder / "roots")


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, log_url: str, keys: Path, database_server: str, publisher: Publisher
) -> Iterator[Deployment]:
    """Replicas of everything on a directory that all have mounted."""
    store = tmp_path_factory.mktemp("share")
    tables = {**settings(publisher), "stores": {"main": {"type": "file", "path": str(store), "default": True}}}
    folder = tmp_path_factory.mktemp("site")
    with (
        postgresql_database(database_server) as database,
        deployment(folder, log_url, database, tables, keys) as deployed,
    ):
        yield deployed


def settings(publisher: Publisher) -> Tables:
    """What is the same for every process."""
    return {
        "catalog": {"delete_delay_s": DELETE_DELAY_S},
        "importer": {"allowed_hosts": ["127.0.0.1"], "concurrency": 1, "lease_s": LEASE_S},
        "converter": {"output_format": "raw", "concurrency": 1, "lease_s": LEASE_S},
        "signer": {
            "lease_s": LEASE_S,
            "checkpoint_every": 5,
            "certificate_dir": str(publisher.certificates),
            "trusted_roots_dir": str(publisher.roots),
        },
    }


@pytest.fixture
async def client(site: Deployment) -> AsyncIterator[Client]:
    """A client whose calls go to each replica in turn."""
    async with tintype.client.connect(site.client()) as connected:
        yield connected


@pytest.fixture
async def clients(site: Deployment) -> AsyncIterator[list[Client]]:
    """Clients that each speak to one replica of every service alone."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(tintype.client.connect(site.client(index=index))) for index in range(3)]


async def test_many_images_at_once_arrive_and_every_step_is_done_once(
    site: Deployment, client: Client, clients: list[Client], publisher: Publisher, disks: Path, tmp_path: Path
) -> None:
    await everything_arrives_once(client, publisher, disks, tmp_path, IMPORTS, UPLOADS)

    for service in ("importer", "converter"):
        idle = [name for name, images in steps_ended(site.of(service)).items() if not images]
        assert not idle, "while one replica was at work, another one took the next image"
    listed = [[image async for image in each.images.list()] for each in clients[:2]]
    assert listed[0] == listed[1]


@pytest.mark.swift
async def test_replicas_that_share_no_file_share_an_object_store(
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    keys: Path,
    database_server: str,
    publisher: Publisher,
    swift: SwiftCluster,
    disks: Path,
    own_nats_server: NatsServer,
) -> None:
    server = s3_of_swift(swift)
    with new_bucket(server) as bucket, postgresql_database(database_server) as database:
        store = {"type": "s3", "bucket": bucket, "endpoint_url": server.url, "default": True}
        access = {"access_key_id": server.access_key, "secret_access_key": server.secret_key}
        tables = {**settings(publisher), "stores": {"main": {**store, **access, "part_size_mib": 5, "lease_s": 2}}}
        folder = tmp_path_factory.mktemp("s3-site")
        with deployment(folder, own_nats_server.url, database, tables, keys) as deployed:
            async with tintype.client.connect(deployed.client()) as client:
                await everything_arrives_once(client, publisher, disks, tmp_path, FEW_IMPORTS, FEW_UPLOADS)


async def everything_arrives_once(
    client: Client, publisher: Publisher, disks: Path, tmp_path: Path, import_count: int, upload_count: int
) -> None:
    """Import and upload many images at once; each becomes active, by as many steps as one needs."""
    raw, sent = (disks / "disk.raw").read_bytes(), (disks / "disk.qcow2").read_bytes()
    small = os.urandom(3_000_000)
    (tmp_path / "small").write_bytes(small)

    with web_source(disks, bytes_per_s=BYTES_PER_S) as url:

        async def import_one(number: int) -> Image:
            image = await client.images.create(
                f"import-{number}",
                disk_format="qcow2",
                container_format="bare",
                properties=publisher.properties(sent),
            )
            operation = await client.images.import_(image.id, method=ImportMethod.WEB_DOWNLOAD, uri=f"{url}/disk.qcow2")
            await client.operations.wait(operation, timeout_s=120)
            return image

        async def upload_one(number: int) -> Image:
            image = await client.images.create(
                f"upload-{number}", disk_format="raw", container_format="bare", properties=publisher.properties(small)
            )
            upload = await client.images.upload(image.id, tmp_path / "small")
            await client.operations.wait(upload, timeout_s=120)
            return image

        async with asyncio.TaskGroup() as tasks:
            imports = [tasks.create_task(import_one(number)) for number in range(import_count)]
            uploads = [tasks.create_task(upload_one(number)) for number in range(upload_count)]

    for task in imports:
        await expect_steps(client, task.result(), ImageStaged, ImageVerified, ImageConverted, ImageAttested)
    for task in uploads:
        await expect_steps(client, task.result(), ImageStaged, ImageVerified, ImageAttested)
    assert await downloaded(client, imports[-1].result(), tmp_path) == raw
    assert await downloaded(client, uploads[-1].result(), tmp_path) == small


async def expect_steps(client: Client, image: Image, *steps: type) -> None:
    """The image is active with its proof, and each step stands in the log once."""
    found = await client.images.get(image.id)
    assert found.status is Status.ACTIVE
    events = [each.payload async for each in client.images.history(image.id)]
    kinds = Counter(type(event) for event in events)
    assert {kind: kinds[kind] for kind in (*steps, ImagePublished)} == dict.fromkeys((*steps, ImagePublished), 1)
    custody = await client.images.verify(image.id)
    assert custody.is_signed
    assert str(custody.digest) == f"{custody.digest.algorithm}:{found.digests[custody.digest.algorithm]}"


async def test_an_upload_goes_on_at_another_importer(site: Deployment, client: Client, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(os.urandom(64 * 1024 * 1024))
    gone: list[Replica] = []

    def end_two(done: int, total: int | None) -> None:
        """Drain one and kill another, whichever of the three has the stream."""
        if total and done > total // 2 and not gone:
            gone.extend(site.of("importer")[:2])
            gone[0].stop()
            gone[1].kill()

    try:
        image = await client.images.create("goes-on", disk_format="raw", container_format="bare")
        upload = await client.images.upload(image.id, disk, on_progress=end_two)
        await client.operations.wait(upload, timeout_s=DEADLINE_S)
    finally:
        restart(*gone)
    assert await downloaded(client, image, tmp_path) == disk.read_bytes()


async def test_an_interrupted_upload_is_gone_on_with_where_another_importer_has_it_no_longer(
    site: Deployment, clients: list[Client]
) -> None:
    content = os.urandom(6_000_000)
    image = await clients[0].images.create("interrupted", disk_format="raw", container_format="bare")
    with Sender(site.of("importer")[0]) as first, Sender(site.of("importer")[1]) as second:
        upload_id = first.begin(image.id)
        first.send(upload_id, content[:4_000_000], offset=0)
        await asyncio.to_thread(second.finish, upload_id, content)
    await until(ImagePublished, clients[1], image)
    found = await clients[1].images.get(image.id)
    assert found.digests["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("service", ["importer", "converter", "signer"])
async def test_what_a_killed_replica_was_at_is_done_by_another(
    site: Deployment, client: Client, publisher: Publisher, disks: Path, service: str
) -> None:
    sent = (disks / "disk.qcow2").read_bytes()
    properties = publisher.properties(sent)
    victims = site.of(service)[:-1]
    with web_source(disks, bytes_per_s=BYTES_PER_S) as url:
        images = [
            await client.images.create(
                f"{service}-{number}", disk_format="qcow2", container_format="bare", properties=properties
            )
            for number in range(4)
        ]
        operations = [
            await client.images.import_(image.id, method=ImportMethod.WEB_DOWNLOAD, uri=f"{url}/disk.qcow2")
            for image in images
        ]
        try:
            await in_mid_step(client, service)
            for victim in victims:
                victim.kill()
            for operation in operations:
                await client.operations.wait(operation, timeout_s=120)
        finally:
            restart(*victims)
    for image in images:
        await expect_steps(client, image, ImageStaged, ImageVerified, ImageConverted, ImageAttested)


async def in_mid_step(client: Client, service: str) -> None:
    """Return when a step of the service's is the next one of some image."""
    step = {"importer": Step.STAGE, "converter": Step.CONVERT, "signer": Step.VERIFY}[service]
    while True:
        async for image in client.images.list(status=Status.IMPORTING):
            operation = await client.operations.get(image.operation_id)
            if operation.step == step:
                return


async def test_one_reads_what_one_has_written_whichever_catalog_answers(client: Client) -> None:
    for number in range(30):  # each call goes to the next catalog
        image = await client.images.create(f"read-{number}")
        assert (await client.images.get(image.id)).name == f"read-{number}"
        await client.images.update(image.id, name=f"again-{number}")
        assert [found.id async for found in client.images.list(name=f"again-{number}")] == [image.id]
        await client.images.delete(image.id, skip_delay=True)
        with pytest.raises(tintype.client.NotFoundError):
            await client.images.get(image.id)


async def test_an_expired_deletion_stands_in_the_log_once(client: Client, clients: list[Client]) -> None:
    images = [await client.images.create(f"expires-{number}") for number in range(20)]
    for image in images:
        await client.images.delete(image.id)
    for image in images:
        await until(ImageExpired, clients[0], image)
        events = [each.payload async for each in clients[1].images.history(image.id)]
        assert sum(isinstance(event, ImageExpired) for event in events) == 1


async def until(kind: type, client: Client, image: Image) -> None:
    """Return once that has happened to the image."""
    async with asyncio.timeout(DEADLINE_S), aclosing(client.images.watch(image.id, after=0)) as changes:
        async for change in changes:
            if isinstance(getattr(change, "payload", None), kind):
                return


async def test_tables_are_rebuilt_through_one_catalog_while_both_answer(client: Client, clients: list[Client]) -> None:
    images = {(await clients[0].images.create(f"rebuilt-{number}")).id for number in range(50)}
    position = clients[0].position
    stop = asyncio.Event()

    async def keep_reading(reader: Client) -> int:
        reads = 0
        while not stop.is_set():
            found = {image.id async for image in reader.images.list(page_size=500)}
            assert images <= found
            reads += 1
        return reads

    async def rebuild(operator: Client) -> bool:
        try:
            steps = [step async for step in operator.admin.rebuild()]
        except tintype.client.ConflictError as exc:
            if exc.reason != "REBUILD_BUSY":
                raise
            return False
        return steps[-1].switched

    for reader in clients[1:]:
        await reader.images.create("as new as the images")
        assert reader.position > position
    async with asyncio.TaskGroup() as tasks:
        readers = [tasks.create_task(keep_reading(reader)) for reader in clients]
        first = await rebuild(clients[0])
        both = await asyncio.gather(rebuild(clients[0]), rebuild(clients[1]))
        stop.set()
    assert first
    assert any(both), "of two rebuilds at once, one at least gets to its end"
    assert all(reader.result() for reader in readers)
    for _ in clients:
        image = await client.images.create("after")
        assert (await client.images.get(image.id)).name == "after"


async def test_the_signers_make_one_chain_of_checkpoints(site: Deployment, client: Client) -> None:
    for number in range(30):
        await client.images.create(f"covered-{number}")
    while (await newest_checkpoint(client)) + 5 < client.position:  # the signers follow the log
        await asyncio.sleep(0.05)
    report = await client.events.check_log()
    assert report.faults == ()
    published = [line for each in site.of("signer") for line in each.log() if line["event"] == "checkpoint published"]
    numbers = [line["number"] for line in published]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    refused = [line for each in site.of("signer") for line in each.log() if "no further checkpoint" in line["event"]]
    assert not refused


async def newest_checkpoint(client: Client) -> int:
    try:
        return (await client.admin.checkpoint()).position
    except tintype.client.NotFoundError:
        return 0


def restart(*replicas: Replica) -> None:
    """Start again what was ended, and wait until it answers."""
    for replica in replicas:
        replica.start()
    for replica in replicas:
        replica.wait_ready()


class Sender:
    """Sends parts of an upload to one importer, as a client does that breaks off in between."""

    def __init__(self, importer: Replica) -> None:
        self._channel = grpc.insecure_channel(importer.address, options=[("grpc.enable_http_proxy", 0)])
        self._stub: Any = importer_pb2_grpc.ImporterServiceStub(self._channel)  # type: ignore[arg-type]
        self._metadata = (("tintype-project", "default"), ("tintype-actor", "somebody"))

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def begin(self, image_id: str) -> str:
        request = importer_pb2.StartUploadRequest(image_id=image_id, purpose=events_pb2.STAGE_PURPOSE_UPLOAD)
        return str(self._stub.StartUpload(request, metadata=self._metadata).upload_id)

    def send(self, upload_id: str, content: bytes, *, offset: int, finish: bool = False) -> Any:
        pieces = [content[begin : begin + 1024 * 1024] for begin in range(0, len(content), 1024 * 1024)]
        requests = [
            importer_pb2.WriteRequest(upload_id=upload_id, write_offset=offset + 1024 * 1024 * number, data=piece)
            for number, piece in enumerate(pieces)
        ]
        if finish:
            requests[-1].finish_write = True
        return self._stub.Write(iter(requests), metadata=self._metadata)

    def finish(self, upload_id: str, content: bytes) -> None:
        """Send the rest once the other importer has let go."""
        while True:
            try:
                query = importer_pb2.QueryWriteStatusRequest(upload_id=upload_id)
                kept = self._stub.QueryWriteStatus(query, metadata=self._metadata).committed_size
                self.send(upload_id, content[kept:], offset=kept, finish=True)
                return
            except grpc.RpcError as exc:
                if "another" not in str(exc):
                    raise
                time.sleep(0.1)
