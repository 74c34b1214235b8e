"""Kill any part at any moment of an import: the image arrives with the right bytes, or fails with a reason.

Each case is a seed, which chooses what is killed and when. Whatever happens, nothing remains in `importing`, and no
byte remains in the store that a published image does not own.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import tintype.client
from tests.e2e.conftest import ENVIRONMENT
from tests.e2e.stack import Stack, stored_files
from tests.e2e.web_source import web_source
from tintype.client import ImportMethod, Status
from tintype.testing.boot_files import run_program
from tintype.testing.handmade_archives import ONE_DISK, VMDK_URI, ova, ovf

SEEDS = range(24)
VICTIMS = ("catalog", "importer", "converter", "signer", "nats", "everything")
ROADS = ("qcow2", "qcow2", "ova", "zstd")
"""What is sent, one after the other: seeds that differ by six meet the same victim on another road."""

IMPORT_TAKES_S = 1.6
SETTLE_TIMEOUT_S = 60
BYTES_PER_S = 40e6


@pytest.fixture(scope="module")
def doomed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that is killed over and over."""
    stack = Stack(tmp_path_factory.mktemp("doomed"), ENVIRONMENT)
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def sources(disks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The disk as a qcow2, inside of an appliance, and compressed."""
    directory = tmp_path_factory.mktemp("sources")
    content = (disks / "disk.qcow2").read_bytes()
    (directory / "qcow2").write_bytes(content)
    inside = ONE_DISK.replace(VMDK_URI, "qcow2").replace('capacity="1"', 'capacity="48"')
    (directory / "ova").write_bytes(ova(ovf(disks=inside), disk=content))
    (directory / "zstd").write_bytes(run_program("zstd", "-q", "-c", "-1", stdin=content))
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_is_killed_the_image_arrives_or_fails_with_a_reason(
    doomed: Stack, disks: Path, sources: Path, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    victim = VICTIMS[seed % len(VICTIMS)]
    road = ROADS[seed // len(VICTIMS) % len(ROADS)]
    formats = ("vmdk", "ova") if road == "ova" else ("qcow2", "bare")
    moment_s = chance.uniform(0, IMPORT_TAKES_S)
    with web_source(sources, bytes_per_s=BYTES_PER_S) as url:
        async with tintype.client.connect(doomed.client_config) as client:
            image = await client.images.create(name=f"seed-{seed}", disk_format=formats[0], container_format=formats[1])
            await client.images.import_(image.id, method=ImportMethod.WEB_DOWNLOAD, uri=f"{url}/{road}")
            await asyncio.sleep(moment_s)
            if victim == "everything":
                await asyncio.to_thread(doomed.kill_everything)
                await asyncio.to_thread(doomed.start)
            else:
                doomed.kill(victim)
        settled = await settle(doomed, image.id)
        copy = tmp_path / "copy.raw"
        if settled.status is Status.ACTIVE:
            async with tintype.client.connect(doomed.client_config) as client:
                await client.images.download(image.id, copy)
            assert sha256(copy) == sha256(disks / "disk.raw")
            await nothing_else_is_stored(doomed, 1)
        else:
            assert settled.status is Status.QUEUED
            assert settled.failure is not None
            assert settled.failure.reason != "INTERNAL"
            await nothing_else_is_stored(doomed, 0)
        async with tintype.client.connect(doomed.client_config) as client:
            await client.images.delete(image.id)
        await nothing_else_is_stored(doomed, 0)


async def settle(stack: Stack, image_id: str) -> tintype.client.Image:
    """Wait until nothing is under way any more for an image."""
    async with asyncio.timeout(SETTLE_TIMEOUT_S):
        while True:
            try:
                async with tintype.client.connect(stack.client_config) as client:
                    while (image := await client.images.get(image_id)).status is Status.IMPORTING:
                        await asyncio.sleep(0.1)
                    return image
            except tintype.client.ServiceUnavailableError:
                await asyncio.sleep(0.2)


async def nothing_else_is_stored(stack: Stack, count: int) -> None:
    """Wait until the store holds exactly ``count`` files: bytes are removed right behind the event that ends a road."""
    try:
        async with asyncio.timeout(SETTLE_TIMEOUT_S):
            while len(stored_files(stack)) != count:
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"the store should hold {count} files, and holds {stored_files(stack)}") from None


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
