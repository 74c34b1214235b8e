"""An upload or a download whose service is killed in the middle goes on where it was."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tintype.client
from tests.e2e.conftest import ENVIRONMENT
from tests.e2e.stack import Stack
from tintype.client import Status

SIZE = 96 * 1024 * 1024


@pytest.fixture(scope="module")
def doomed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that may be harmed."""
    stack = Stack(tmp_path_factory.mktemp("interrupted"), ENVIRONMENT)
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("disk") / "disk.raw"
    path.write_bytes(os.urandom(SIZE))
    return path


def kill_halfway(stack: Stack, victim: str) -> Callable[[int, int | None], None]:
    """A progress function that kills ``victim`` once, when half of the bytes have passed."""
    killed: list[str] = []

    def on_progress(done: int, total: int | None) -> None:
        if done > SIZE // 2 and not killed:
            killed.append(victim)
            stack.kill(victim)

    return on_progress


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["importer", "catalog", "nats"])
async def test_a_transfer_outlives_a_killed_service(doomed: Stack, disk: Path, tmp_path: Path, victim: str) -> None:
    copy = tmp_path / "copy.raw"
    async with tintype.client.connect(doomed.client_config) as client:
        image = await client.images.create(name=victim, disk_format="raw", container_format="bare")
        upload = await client.images.upload(image.id, disk, on_progress=kill_halfway(doomed, victim))
        await client.operations.wait(upload, timeout_s=60)
        assert (await client.images.get(image.id)).status is Status.ACTIVE
        await client.images.download(image.id, copy, on_progress=kill_halfway(doomed, victim))
    assert copy.read_bytes() == disk.read_bytes()
