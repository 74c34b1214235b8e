"""One stack for all end-to-end tests that do not break it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

import tintype.client
from services.signer.keys.key_directory import KeyDirectory
from services.signer.keys.names import new_key_id
from tests.backends.collector import Collector, collector
from tests.backends.postgresql import postgresql_server
from tests.e2e.stack import SERVICES, Stack
from tintype.adapters.nats.server import NatsServer
from tintype.runtime.child_process import start_child
from tintype.runtime.clock import SystemClock

ENVIRONMENT = {
    "TINTYPE_IMPORTER__ALLOWED_HOSTS": "127.0.0.1",
    "TINTYPE_SIGNER__CHECKPOINT_EVERY": "5",
    **{f"TINTYPE_{name}__LEASE_S": "2" for name in ("IMPORTER", "CONVERTER", "SIGNER")},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give all of these tests to one worker of pytest-xdist: they share a stack, and what they kill is theirs."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.xdist_group("e2e"))


@pytest.fixture(scope="session")
def traces() -> Iterator[Collector]:
    """Where the running stack sends its traces."""
    with collector() as collecting:
        yield collecting


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, traces: Collector) -> Iterator[Stack]:
    """A running stack, with web download from loopback allowed."""
    tracing = {"TINTYPE_TELEMETRY__TRACES_ENDPOINT": traces.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    ports = {f"TINTYPE_{name.upper()}__METRICS_LISTEN": "127.0.0.1:0" for name in SERVICES if name != "nats"}
    running = Stack(tmp_path_factory.mktemp("stack"), {**ENVIRONMENT, **tracing, **ports})
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[tintype.client.Client]:
    """A client of the running stack."""
    async with tintype.client.connect(stack.client_config) as connected:
        yield connected


@pytest.fixture(scope="session")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one disk of 48 MiB, half of it data, as disk.raw and disk.qcow2."""
    directory = tmp_path_factory.mktemp("disks")
    raw = directory / "disk.raw"
    with raw.open("wb") as file:
        for _ in range(6):
            file.write(os.urandom(4 * 1024 * 1024))
            file.seek(4 * 1024 * 1024, os.SEEK_CUR)
        file.truncate(48 * 1024 * 1024)
    command = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(directory / "disk.qcow2")]
    subprocess.run(command, check=True)
    return directory


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def log_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A log for the replicas of one module."""
    server = NatsServer(tmp_path_factory.mktemp("nats"), start_child)
    await server.start()
    yield server.url
    await server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key for all signers, as an operator makes a secret of it."""
    directory = tmp_path_factory.mktemp("keys") / "keys"
    clock = SystemClock()
    await KeyDirectory(directory, clock).prepare(new_key_id(clock.now()))
    return directory


@pytest.fixture(scope="module")
def database_server() -> Iterator[str]:
    """Where replicas have their database."""
    with postgresql_server() as url:
        yield url
