"""The step PLACE: the final bytes in every store that should have them, whatever was left there, or the reason."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from services.importer import fan_out, placing
from services.importer.fan_out import all_left
from services.importer.placing import Placing
from tests.integration.importer.several_stores import SeveralStores
from tests.unit.importer.failing_store import FailingStore
from tintype.adapters.memory.store import MemoryImageStore
from tintype.adapters.store_section import StoreSection
from tintype.domain.commands import (
    CreateImage,
    RecordAttested,
    RecordConversionSkipped,
    RecordCopyDamaged,
    RecordPlaced,
    RecordStaged,
    RecordVerified,
    RequestCopy,
)
from tintype.domain.errors import (
    BlobDamagedError,
    BlobNotFoundError,
    InternalError,
    StoreFullError,
    StoreNotFoundError,
    StoreReadOnlyError,
    StoreUnavailableError,
    TintypeError,
)
from tintype.domain.events import SkipReason, StagePurpose, Step, Verdict, Verification
from tintype.domain.image import Image
from tintype.domain.lifecycle import next_step
from tintype.domain.values import BlobRef, Digest, ImageId, OperationId, Placement
from tintype.ports.image_store import ImageStore
from tintype.runtime.worker import StepRun
from tintype.testing.events import ATTRIBUTES, an_id

MIB = 1024 * 1024
CONTENT = random.Random(3).randbytes(3 * MIB + 11)
NAMES = ("main", "second", "third", "fourth")
COPY = OperationId(an_id("copy"))


class Site(SeveralStores):
    def __init__(self) -> None:
        self.store: dict[str, FailingStore] = {}
        super().__init__({name: StoreSection() for name in NAMES}, self._failing)
        self.placing = Placing(self.journal, self.stores)
        self.progress: list[tuple[int, int | None]] = []

    def _failing(self, memory: MemoryImageStore) -> ImageStore:
        return self.store.setdefault(memory.name, FailingStore(memory.name, memory))

    async def copy(self, image_id: ImageId, *stores: str, **options: bool) -> RecordPlaced:
        image = await self.execute(image_id, RequestCopy(COPY, Placement(stores, **options)))
        return await self.place(image)

    async def place(self, image: Image) -> RecordPlaced:
        run = StepRun(image, Step.PLACE, 1, "nonce", lambda done, total, _: self.progress.append((done, total)))
        try:
            return await self.placing.place_image(image, run)
        finally:
            await all_left(5)

    async def importing(self, *placement: str, all_must_succeed: bool = False) -> Image:
        """An import that waits for its bytes, which are in the first store, to be placed."""
        image_id = await self.publish(CONTENT, "main")
        image = await self.load(image_id)
        assert image.operation is not None
        assert image.operation.staged is not None
        another, operation = ImageId(an_id("another")), OperationId(an_id("import"))
        key = f"{another}/{operation}/source"
        self.memory["main"].committed[key] = self.memory["main"].committed.pop(image.operation.staged.ref.key)
        blob = replace(image.operation.staged, ref=BlobRef("main", key))
        wanted = Placement(placement, all_must_succeed=all_must_succeed)
        await self.execute(another, CreateImage(image.attributes))
        for command in (
            RecordStaged(operation, StagePurpose.UPLOAD, blob, placement=wanted),
            RecordVerified(operation, Verification(Verdict.UNSIGNED)),
            RecordConversionSkipped(operation, SkipReason.NOT_AN_IMPORT),
            RecordAttested(operation, "key-1", b"{}"),
        ):
            image = await self.execute(another, command)
        assert next_step(image) is Step.PLACE
        return image

    def content(self, store: str) -> list[bytes]:
        return list(self.store[store].content().values())


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(fan_out, "PATIENCE_S", 1.0)
    monkeypatch.setattr(placing, "_PAUSE_S", 0.001)
    monkeypatch.setattr(placing, "_LONGEST_CLAIM_S", 0.01)
    return Site()


def stores_of(placed: RecordPlaced) -> list[str]:
    return [ref.store for ref in placed.copies]


def failures_of(placed: RecordPlaced) -> dict[str, str]:
    return {each.store: each.failure.reason for each in placed.failed}


async def test_a_published_image_is_copied_from_one_reading_into_all_that_are_asked_for(site: Site) -> None:
    image_id = await site.publish(CONTENT, "main")
    placed = await site.copy(image_id, "second", "main", "third")
    assert (stores_of(placed), placed.failed, placed.operation_id) == (["second", "third"], (), COPY)
    assert site.content("second") == site.content("third") == [CONTENT]
    assert site.content("fourth") == []
    assert site.progress[-1] == (len(CONTENT), len(CONTENT))
    image = await site.execute(image_id, placed)
    assert image.data is not None
    assert [ref.store for ref in image.data.locations] == ["main", "second", "third"]


async def test_in_all_stores_are_those_of_the_deployment(site: Site) -> None:
    placed = await site.copy(await site.publish(CONTENT, "second"), in_all=True)
    assert stores_of(placed) == ["main", "fourth", "third"]


async def test_an_image_that_is_everywhere_already_is_copied_nowhere(site: Site) -> None:
    placed = await site.copy(await site.publish(CONTENT, *NAMES), in_all=True)
    assert placed == RecordPlaced(COPY, ())


async def test_an_image_without_bytes_in_it_is_copied_too(site: Site) -> None:
    placed = await site.copy(await site.publish(b"", "main"), "second")
    assert (stores_of(placed), site.content("second")) == (["second"], [b""])


async def test_a_store_that_does_not_exist_is_refused_before_anything_is_written(site: Site) -> None:
    with pytest.raises(StoreNotFoundError):
        await site.copy(await site.publish(CONTENT, "main"), "second", "unknown")
    assert site.store["second"].is_empty()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("open_write", StoreReadOnlyError("no")),
        ("append", StoreFullError("no")),
        ("commit", StoreUnavailableError("no")),
    ],
)
async def test_a_store_that_fails_is_told_and_the_others_have_the_copy(
    site: Site, call: str, error: TintypeError
) -> None:
    site.store["second"].fails[call] = error
    placed = await site.copy(await site.publish(CONTENT, "main"), "second", "third")
    assert (stores_of(placed), failures_of(placed)) == (["third"], {"second": error.reason})
    assert site.store["second"].is_empty()


async def test_a_store_that_hangs_is_told_and_the_others_have_the_copy(site: Site) -> None:
    site.store["second"].hangs = True
    asyncio.get_running_loop().call_later(2.0, site.store["second"].hanging.set)
    placed = await site.copy(await site.publish(CONTENT, "main"), "second", "third")
    assert (stores_of(placed), failures_of(placed)) == (["third"], {"second": "STORE_TIMEOUT"})
    assert site.store["second"].is_empty()


async def test_a_store_that_does_not_answer_at_the_beginning_is_told(site: Site) -> None:
    site.store["second"].stuck = {"open_write"}
    placed = await site.copy(await site.publish(CONTENT, "main"), "second", "third")
    assert (stores_of(placed), failures_of(placed)) == (["third"], {"second": "STORE_TIMEOUT"})


async def test_where_all_stores_fail_a_copy_fails(site: Site) -> None:
    for name in ("second", "third"):
        site.store[name].fails["append"] = StoreFullError(name)
    with pytest.raises(StoreFullError, match="second"):
        await site.copy(await site.publish(CONTENT, "main"), "second", "third")
    assert site.store["second"].is_empty()


async def test_where_all_must_succeed_one_failure_fails_the_copy(site: Site) -> None:
    site.store["third"].fails["append"] = StoreFullError("third")
    with pytest.raises(StoreFullError, match="third"):
        await site.copy(await site.publish(CONTENT, "main"), "second", "third", all_must_succeed=True)
    assert all(site.store[name].is_empty() for name in ("second", "third"))


async def test_where_all_must_succeed_another_attempt_ends_what_the_first_has_begun(site: Site) -> None:
    site.store["third"].fails["commit"] = StoreUnavailableError("third")
    image_id = await site.publish(CONTENT, "main")
    with pytest.raises(StoreUnavailableError, match="third"):
        await site.copy(image_id, "second", "third", all_must_succeed=True)
    assert site.content("second") == [CONTENT]  # another worker may have recorded it: the sweep knows
    site.store["third"].fails.clear()
    assert stores_of(await site.place(await site.load(image_id))) == ["second", "third"]
    assert site.content("second") == site.content("third") == [CONTENT]


async def test_an_import_goes_on_where_every_further_store_fails(site: Site) -> None:
    image = await site.importing("main", "second", "third")
    site.store["second"].fails["open_write"] = StoreReadOnlyError("no")
    site.store["third"].fails["commit"] = StoreFullError("no")
    placed = await site.place(image)
    assert (placed.copies, failures_of(placed)) == ((), {"second": "STORE_READ_ONLY", "third": "STORE_FULL"})
    assert next_step(await site.execute(image.id, placed)) is Step.PUBLISH


async def test_an_import_fails_where_all_must_succeed(site: Site) -> None:
    image = await site.importing("main", "second", all_must_succeed=True)
    site.store["second"].fails["open_write"] = StoreReadOnlyError("no")
    with pytest.raises(StoreReadOnlyError):
        await site.place(image)


async def test_what_a_killed_attempt_left_committed_is_written_anew(site: Site) -> None:
    image = await site.importing("main", "second", "third")
    key = next(iter(site.memory["main"].committed))
    for name in ("second", "third"):
        writer = await site.memory[name].open_write(key)
        await writer.append(b"left by an attempt")
        await (writer.commit(size=18, digests={}) if name == "second" else writer.close())
    assert stores_of(await site.place(image)) == ["second", "third"]
    assert site.content("second") == site.content("third") == [CONTENT]
    assert not site.memory["second"].uncommitted


async def test_a_killed_attempts_claim_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "_LONGEST_CLAIM_S", 60)
    image_id = await site.publish(CONTENT, "main")
    key = next(iter(site.memory["main"].committed))
    killed = await site.memory["second"].open_write(key)
    asyncio.get_running_loop().call_later(0.02, lambda: setattr(killed._target, "has_writer", False))
    assert stores_of(await site.copy(image_id, "second")) == ["second"]
    assert site.content("second") == [CONTENT]


async def test_a_claim_that_never_lapses_is_a_failure_of_that_store_alone(site: Site) -> None:
    image_id = await site.publish(CONTENT, "main")
    await site.memory["second"].open_write(next(iter(site.memory["main"].committed)))
    placed = await site.copy(image_id, "second", "third")
    assert (stores_of(placed), failures_of(placed)) == (["third"], {"second": "UPLOAD_BUSY"})


async def test_who_is_cancelled_while_a_claim_is_waited_for_leaves_no_write_open(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "_LONGEST_CLAIM_S", 60)
    image_id = await site.publish(CONTENT, "main")
    key = next(iter(site.memory["main"].committed))
    await site.memory["second"].open_write(key)
    placing_it = asyncio.create_task(site.copy(image_id, "second", "third"))
    while key not in site.memory["third"].uncommitted:
        await asyncio.sleep(0)
    placing_it.cancel()
    with pytest.raises(asyncio.CancelledError):
        await placing_it
    assert site.store["third"].is_empty()


async def test_who_is_cancelled_while_bytes_are_written_leaves_none(site: Site) -> None:
    image_id = await site.publish(CONTENT, "main")
    site.store["second"].hangs = True
    placing_it = asyncio.create_task(site.copy(image_id, "second", "third"))
    while not site.progress:
        await asyncio.sleep(0)
    placing_it.cancel()
    site.store["second"].hanging.set()
    with pytest.raises(asyncio.CancelledError):
        await placing_it
    assert site.store["second"].is_empty()
    assert site.store["third"].is_empty()


async def test_a_damaged_copy_that_is_asked_for_again_is_replaced(site: Site) -> None:
    image_id = await site.publish(CONTENT, "main", "second")
    image = await site.load(image_id)
    assert image.data is not None
    site.memory["second"].committed[image.data.blob.ref.key].data[5] ^= 1
    damaged = image.data.locations[1]
    await site.execute(image_id, RecordCopyDamaged(damaged, Digest("sha256", "11" * 32), None))
    placed = await site.copy(image_id, "second")
    assert (placed.copies, site.content("second")) == ((damaged,), [CONTENT])
    data = (await site.execute(image_id, placed)).data
    assert data is not None
    assert (data.damaged, len(data.locations)) == ((), 2)


@pytest.mark.parametrize("content", [CONTENT, CONTENT[:100]])
async def test_a_copy_that_proves_to_be_damaged_is_left_for_another(site: Site, content: bytes) -> None:
    image_id = await site.publish(content, "main", "second")
    for held in site.memory["main"].committed.values():
        held.data[5] ^= 1
    placed = await site.copy(image_id, "third")
    assert (stores_of(placed), site.content("third")) == (["third"], [content])
    image = await site.load(image_id)
    assert image.data is not None
    assert [ref.store for ref in image.data.damaged] == ["main"]


async def test_nothing_is_copied_from_copies_that_are_all_damaged(site: Site) -> None:
    image_id = await site.publish(CONTENT, "main", "second")
    for name in ("main", "second"):
        for held in site.memory[name].committed.values():
            held.data[5] ^= 1
    with pytest.raises(BlobDamagedError):
        await site.copy(image_id, "third")
    assert site.store["third"].is_empty()


async def test_nothing_is_copied_where_the_bytes_are_gone(site: Site) -> None:
    image_id = await site.publish(CONTENT, "main")
    site.memory["main"].committed.clear()
    with pytest.raises(BlobNotFoundError):
        await site.copy(image_id, "third")
    assert site.store["third"].is_empty()


async def test_a_step_that_there_is_nothing_for_is_a_defect(site: Site) -> None:
    image_id = ImageId(an_id("empty"))
    with pytest.raises(InternalError):
        await site.place(await site.execute(image_id, CreateImage(ATTRIBUTES)))
