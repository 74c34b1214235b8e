"""What users do all the time, over one endpoint: for tests in which something happens to the services meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import os
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import tintype.client
from tintype.client import Client, ClientConfig, Image, ImageEvent, ImportMethod, Status

SIZE = 32 * 1024 * 1024
SLOW_BYTES_S = 6e6
"""At this speed a transfer takes longer than a drain lasts."""

KINDS = ("list", "change", "upload", "download", "import_", "sign")


class Load:
    """Work without a pause; counts how often each kind of it was done. ``source`` is the URL of a qcow2 disk."""

    def __init__(self, config: ClientConfig | Path, directory: Path, source: str) -> None:
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
        """The same, of an image that was uploaded before."""
        image = await self._an_uploaded(client)
        async with aclosing(client.images.read(image.id)) as chunks:
            size = 0
            async for chunk in chunks:
                size += len(chunk)
                await asyncio.sleep(len(chunk) / SLOW_BYTES_S)
        assert size == SIZE
        await client.images.download(image.id, self._directory / "download")

    async def _an_uploaded(self, client: Client) -> Image:
        while True:
            async for image in client.images.list(status=Status.ACTIVE, name="uploaded", limit=1):
                return image
            await asyncio.sleep(0.05)  # the first upload is on its way

    async def import_(self, client: Client) -> None:
        """With conversion."""
        image = await client.images.create("imported", disk_format="qcow2", container_format="bare")
        operation = await client.images.import_(image.id, method=ImportMethod.WEB_DOWNLOAD, uri=self._source)
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


async def every_kind_of_work_is_done(load: Load) -> None:
    """Return when each has been done once more."""
    before = Counter(load.done)
    while any(load.done[kind] == before[kind] for kind in KINDS):
        await asyncio.sleep(0.05)


async def watch(config: ClientConfig | Path, load: Load) -> set[str]:
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
