"""Disasters, rehearsed by the commands of docs/operations.md: the catalog's database is lost, NATS is lost."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.commands import Run, answer, run_tintype, runner
from tests.e2e.conftest import ENVIRONMENT
from tests.e2e.stack import Stack
from tests.e2e.web_source import web_source
from tintype.adapters.nats.server import NatsServer
from tintype.client import ImportMethod, Status, SweepFindingKind, Verify
from tintype.client.sync import Client, connect
from tintype.runtime.child_process import start_child

pytestmark = [pytest.mark.nats, pytest.mark.qemu, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Stack]:
    """A stack of one's own, in which bytes that nobody wants may be found at once."""
    stack = Stack(tmp_path / "site", {**ENVIRONMENT, "TINTYPE_IMPORTER__SWEEP_AFTER_S": "1"})
    stack.directory.mkdir()
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture
def run(site: Stack, tmp_path: Path) -> Run:
    return runner(site, tmp_path)


@asynccontextmanager
async def nats_alone(site: Stack) -> AsyncIterator[None]:
    """What `nats-server -c DIR/nats/nats-server.conf` starts: the log without any service."""
    ports = json.loads((site.data / "ports.json").read_text())
    server = NatsServer(site.data / "nats", start_child, ports["nats"])
    await server.start()
    try:
        yield
    finally:
        await server.stop()


def lose_nats(site: Stack) -> None:
    """Kill all, and remove what NATS keeps."""
    site.kill_everything()
    shutil.rmtree(site.data / "nats" / "data")


def uploaded(site: Stack, directory: Path, name: str) -> str:
    """An image of chance bytes, which stay in the directory; its id."""
    (directory / name).write_bytes(os.urandom(300_000))
    with connect(site.client_config) as client:
        image = client.images.create(name, disk_format="raw", container_format="bare")
        client.operations.wait(client.images.upload(image.id, directory / name))
    return image.id


def histories(site: Stack, *images: str) -> dict[str, list[tuple[int, str]]]:
    """What the log tells of images: events, and their places."""
    with connect(site.client_config) as client:
        return {
            image: [(each.position, type(each.payload).__name__) for each in client.images.history(image)]
            for image in images
        }


def listed(site: Stack) -> dict[str, str]:
    with connect(site.client_config) as client:
        return {image.name: str(image.status) for image in client.images.list()}


def downloaded(site: Stack, name: str, directory: Path) -> bytes:
    """An image's bytes, with its publisher and its chain of custody proven."""
    with connect(site.client_config) as client:
        image = client.images.find(name)
        client.images.download(image.id, directory / "copy", verify=Verify.CUSTODY, allow_unsigned=True)
    return (directory / "copy").read_bytes()


def told_by_the_catalog(site: Stack) -> int:
    """How often it said that its tables were of another log."""
    return (site.data / "logs" / "catalog.log").read_text().count("LOG_REPLACED")


def test_a_lost_database_is_built_anew_from_the_log(site: Stack, tmp_path: Path) -> None:
    kept, gone = uploaded(site, tmp_path, "kept"), uploaded(site, tmp_path, "gone")
    with connect(site.client_config) as client:
        client.images.delete(gone)
    before = histories(site, kept)
    assert site.stop() == 0
    databases = list(site.data.glob("catalog.db*"))
    for file in databases:
        file.unlink()

    site.start()

    assert databases
    assert listed(site) == {"kept": "active"}
    assert histories(site, kept) == before
    assert downloaded(site, "kept", tmp_path) == (tmp_path / "kept").read_bytes()


async def test_a_lost_nats_is_put_back_from_its_backups_and_the_services_go_on(
    site: Stack, run: Run, tmp_path: Path, disks: Path
) -> None:
    gate, trust = threading.Event(), str(tmp_path / "trust")
    full, later = str(tmp_path / "full.tintype"), str(tmp_path / "later.tintype")
    run("key", "export", trust)
    first = uploaded(site, tmp_path, "first")
    shutil.copy(disks / "disk.qcow2", tmp_path / "source")
    with web_source(tmp_path) as url, web_source(tmp_path, gate=gate) as slow:
        with connect(site.client_config) as client:
            converted = begun(client, "converted", f"{url}/source")
            run("admin", "backup", full)  # at some step of it
            client.operations.wait(client.images.get(converted).operation_id)
            in_the_air = begun(client, "in the air", f"{slow}/source")
        made = answer(run, "admin", "backup", later, "--since", full)
        before = histories(site, first, converted)
        newer = uploaded(site, tmp_path, "newer")

        lose_nats(site)
        gate.set()
        checked = run_tintype(
            tmp_path, "admin", "check-backup", full, later, "--trust-store", trust, "--output", "json"
        )
        async with nats_alone(site):
            restored = answer(run, "admin", "restore", full, later, "--trust-store", trust)
        site.start()
        with connect(site.client_config) as client:
            ended = client.images.get(in_the_air)
            while ended.status is Status.IMPORTING:
                ended = client.images.get(in_the_air)

    found = json.loads(checked.stdout)["log"]
    assert (found["faults"], found["head"], found["keys_from"]) == ([], made["position"], "trust store")
    assert (restored["position"], restored["present"]) == (made["position"], 0)
    assert ended.status is Status.ACTIVE or (ended.failure and ended.failure.reason != "INTERNAL"), ended
    assert listed(site) | {"in the air": ""} == {"first": "active", "converted": "active", "in the air": ""}
    assert histories(site, first, converted) == before  # all queues were made anew, and no step was done twice
    assert downloaded(site, "first", tmp_path) == (tmp_path / "first").read_bytes()
    assert downloaded(site, "converted", tmp_path) == (disks / "disk.raw").read_bytes()
    assert told_by_the_catalog(site) == 1  # its database knew what is gone now
    assert [kind for image, kind in swept(site) if image == newer] == ["orphan"]
    uploaded(site, tmp_path, "after")
    with connect(site.client_config) as client:
        assert client.events.check_log(trust_store=trust).faults == ()


def begun(client: Client, name: str, uri: str) -> str:
    """An image that is being imported; its id."""
    image = client.images.create(name, disk_format="qcow2", container_format="bare")
    client.images.import_(image.id, method=ImportMethod.WEB_DOWNLOAD, uri=uri)
    return image.id


def swept(site: Stack) -> list[tuple[str, str]]:
    """What a sweep would remove, once nothing is too young to be judged: images, and why."""
    with connect(site.client_config) as client:
        while True:
            findings = [state.finding for state in client.admin.sweep(dry_run=True) if state.finding]
            if all(each.kind is not SweepFindingKind.SPARED for each in findings):
                return [(each.image_id, str(each.kind)) for each in findings]


async def test_services_that_went_on_without_their_log_give_way_to_the_backup(
    site: Stack, run: Run, tmp_path: Path
) -> None:
    """Nobody noticed that NATS was lost, and images were made meanwhile: another history."""
    kept = uploaded(site, tmp_path, "kept")
    run("admin", "backup", str(tmp_path / "full"))
    before = histories(site, kept)
    lose_nats(site)

    site.start()
    assert listed(site) == {}
    assert told_by_the_catalog(site) == 1
    with connect(site.client_config) as client:
        for number in range(20):  # more events than the backup has
            client.images.create(f"new {number}")
    in_use = run("admin", "restore", str(tmp_path / "full"), code=4)
    site.kill_everything()
    async with nats_alone(site):
        differs = run("admin", "restore", str(tmp_path / "full"), code=4)
    shutil.rmtree(site.data / "nats" / "data")
    async with nats_alone(site):
        run("admin", "restore", str(tmp_path / "full"))
    site.start()

    assert "[LOG_IN_USE]" in in_use.stderr
    assert "[LOG_DIFFERS]" in differs.stderr
    assert listed(site) == {"kept": "active"}
    assert told_by_the_catalog(site) == 2
    assert histories(site, kept) == before
    assert downloaded(site, "kept", tmp_path) == (tmp_path / "kept").read_bytes()
