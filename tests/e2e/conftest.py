"""One stack for all end-to-end tests that do not break it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import tintype.client
from tests.backends.collector import Collector, collector
from tests.e2e.stack import Stack

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
    running = Stack(tmp_path_factory.mktemp("stack"), {**ENVIRONMENT, **tracing})
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
