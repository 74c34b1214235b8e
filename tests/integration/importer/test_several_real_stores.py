"""Images in two stores at once, one of them a directory and the other one of every kind there is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from tests.contract.image_stores import Opening, params
from tests.integration.importer.conftest import CALLER, DEADLINE_S, Importer, MakeImporter, is_active
from tests.integration.importer.test_several_stores import failures, locations
from tests.unit.importer.failing_store import FailingStore
from tintype.adapters.decorators.delegation import DelegatingStore
from tintype.adapters.decorators.metrics import StoreMetrics
from tintype.adapters.decorators.stack import decorated
from tintype.adapters.filesystem.store import FileImageStore
from tintype.adapters.store_section import StoreSection
from tintype.adapters.stores import Stores
from tintype.codec.framing import WriteFrame
from tintype.domain.commands import DeleteImage, RemoveCopy, RequestCopy
from tintype.domain.errors import StoreFullError, StoreUnavailableError
from tintype.domain.events import StagePurpose
from tintype.domain.image import Image, OperationState
from tintype.domain.lifecycle import Status
from tintype.domain.values import ImageId, OperationId, Placement
from tintype.ports.image_store import ImageStore
from tintype.runtime.clock import SystemClock
from tintype.testing.events import an_id

MIB = 1024 * 1024
DATA = random.Random(3).randbytes(9 * MIB + 17)
BOTH = Placement(("main", "near"))


class Breaking(DelegatingStore):
    """A store whose reads break off behind ``gives`` bytes."""

    gives = 1 << 60

    async def read(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        left = self.gives
        async for piece in super().read(key, offset=offset, length=length):
            if len(piece) > left:
                raise StoreUnavailableError("it broke off")
            left -= len(piece)
            yield piece


class Site:
    """``main`` is the store under test, with what is around every store; ``near`` is a directory and the default."""

    def __init__(self, importer: Importer, main: ImageStore, near: ImageStore) -> None:
        self.importer, self.near = importer, near
        inner = decorated(
            main, StoreSection(), SystemClock(), StoreMetrics(CollectorRegistry()), lambda name, state: None
        )
        self.main = Breaking(inner)
        sections = {"main": StoreSection(weight=200), "near": StoreSection(weight=100)}
        importer.use(Stores(near, {"near": near, "main": self.main}, sections))

    async def begin(self, placement: Placement, image_id: ImageId | None = None) -> tuple[ImageId, str]:
        image_id = image_id or await self.importer.create()
        state = await self.importer.uploads.start(
            CALLER, image_id, StagePurpose.UPLOAD, size=len(DATA), digest=None, request_id="", placement=placement
        )
        return image_id, str(state.token)

    async def send(self, token: str, begin: int = 0, end: int = len(DATA)) -> int:
        async def frames() -> AsyncIterator[WriteFrame]:
            for offset in range(begin, end, MIB):
                yield WriteFrame(token, offset, False, DATA[offset : min(end, offset + MIB)])
            yield WriteFrame(token, end, end == len(DATA), b"")

        return (await self.importer.uploads.write(CALLER, frames())).committed_size

    async def upload(self, placement: Placement, image_id: ImageId | None = None) -> Image:
        image_id, token = await self.begin(placement, image_id)
        async with self.importer.working():
            await self.send(token)
            return await self.importer.until(image_id, is_active)

    async def copy(self, image: Image, store: str) -> Image:
        await self.importer.execute(image.id, RequestCopy(OperationId(an_id("copy")), Placement((store,))))
        async with self.importer.working():
            return await self.importer.until_ended(image.id)

    async def until_empty(self, store: ImageStore) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while [blob async for blob in store.list()]:
                await asyncio.sleep(0.05)

    async def held(self) -> dict[str, list[bytes]]:
        """What each store has, each read from beginning to end; nothing in it is unfinished."""
        found: dict[str, list[bytes]] = {}
        for store in (self.near, self.main):
            blobs = [blob async for blob in store.list()]
            assert all(blob.is_committed for blob in blobs)
            found[store.name] = [b"".join([piece async for piece in store.read(blob.key)]) for blob in blobs]
        return {name: blobs for name, blobs in found.items() if blobs}


@pytest.fixture(params=params())
async def site(request: pytest.FixtureRequest, make_importer: MakeImporter, tmp_path: Path) -> AsyncIterator[Site]:
    opening: Opening = request.param
    async with opening(request, tmp_path) as opened:
        near = FileImageStore("near", tmp_path / "near")  # its threads see the mounts that the other one has made
        await near.prepare()
        yield Site(await make_importer(), opened, near)
        await near.aclose()


async def test_an_upload_that_was_interrupted_is_whole_in_both_stores_in_the_end(site: Site) -> None:
    image_id, token = await site.begin(BOTH)
    await site.send(token, end=6 * MIB)
    await site.importer.uploads.aclose()
    site.importer.uploads = site.importer.new_uploads()  # another process
    kept = (await site.importer.uploads.status(CALLER, token)).committed_size
    assert kept == 6 * MIB
    async with site.importer.working():
        await site.send(token, begin=kept)
        image = await site.importer.until(image_id, is_active)
    assert (locations(image), failures(image)) == (["main", "near"], {})
    assert await site.held() == {"near": [DATA], "main": [DATA]}


async def test_a_copy_comes_and_goes_in_either_direction(site: Site) -> None:
    image = await site.copy(await site.upload(Placement(("near",))), "main")
    assert locations(image) == ["near", "main"]
    assert await site.held() == {"near": [DATA], "main": [DATA]}

    async with site.importer.working():
        image = await site.importer.execute(image.id, RemoveCopy("near"))
        await site.until_empty(site.near)
    assert locations(image) == ["main"]
    assert await site.held() == {"main": [DATA]}
    assert await site.importer.read(image.id) == DATA

    image = await site.copy(image, "near")
    assert await site.held() == {"near": [DATA], "main": [DATA]}
    async with site.importer.working():
        await site.importer.execute(image.id, DeleteImage())
        await site.importer.until(image.id, lambda image: image.is_purged)
    assert await site.held() == {}


async def test_a_read_that_breaks_off_goes_on_in_the_other_store(site: Site) -> None:
    image = await site.upload(BOTH)
    site.main.gives = 3 * MIB
    assert await site.importer.read(image.id) == DATA
    assert await site.importer.read(image.id, 4 * MIB - 1, MIB + 2) == DATA[4 * MIB - 1 : 5 * MIB + 1]


async def test_a_store_that_fails_holds_the_other_up_only_where_both_are_needed(site: Site) -> None:
    full = FailingStore("full")
    full.fails["commit"] = StoreFullError("no room")
    site.importer.use(Stores(site.main, {"main": site.main, "full": full}))
    image_id, token = await site.begin(Placement(("full", "main"), all_must_succeed=True))
    with pytest.raises(StoreFullError):
        await site.send(token)
    assert (await site.importer.load(image_id)).status is Status.QUEUED
    assert await site.held() == {}

    image = await site.upload(Placement(("full", "main")), image_id)
    assert (locations(image), failures(image)) == (["main"], {"full": "STORE_FULL"})
    assert await site.held() == {"main": [DATA]}
    del full.fails["commit"]
    image = await site.copy(image, "full")
    assert image.operation is not None and image.operation.state is OperationState.SUCCEEDED
    assert (locations(image), failures(image)) == (["main", "full"], {})
    assert list(full.content().values()) == [DATA]
