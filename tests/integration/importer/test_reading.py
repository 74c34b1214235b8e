"""Reads from several stores: which is asked first, what happens when one fails, and what is proven of the bytes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from services.importer.downloads import Downloads
from tests.integration.importer.several_stores import CALLER, SeveralStores
from tintype.adapters.decorators.delegation import DelegatingStore
from tintype.adapters.memory.store import MemoryImageStore
from tintype.adapters.store_section import StoreSection
from tintype.domain.errors import (
    BlobDamagedError,
    BlobNotFoundError,
    StoreTimeoutError,
    StoreUnavailableError,
    TintypeError,
)
from tintype.domain.events import CopyDamaged
from tintype.domain.values import ImageId
from tintype.ports.image_store import ImageStore, StoreMode, StoreState

MIB = 1024 * 1024
CONTENT = random.Random(7).randbytes(3 * MIB + 17)
SMALL = CONTENT[:1000]


class Faulty(DelegatingStore):
    """A store that notes where it was asked to begin, and fails a read with ``error`` once it gave ``gives`` bytes."""

    def __init__(self, inner: ImageStore) -> None:
        super().__init__(inner)
        self.asked: list[int] = []
        self.gives = 1 << 60
        self.error: TintypeError | None = None
        self.mode = StoreMode.READ_WRITE

    @property
    def state(self) -> StoreState:
        return StoreState(self.mode, datetime(2026, 1, 1, tzinfo=UTC), "STORE_MISSING", "it is gone")

    async def read(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        self.asked.append(offset)
        left = self.gives
        async for piece in super().read(key, offset=offset, length=length):
            if left <= 0:
                break
            yield piece[:left]
            left -= len(piece)
        if self.error is not None:
            raise self.error


class Site(SeveralStores):
    """Stores of these weights, the first of them the default."""

    def __init__(self, **weights: int) -> None:
        self.faulty: dict[str, Faulty] = {}
        super().__init__({name: StoreSection(weight=weight) for name, weight in weights.items()}, self._faulty)

    def _faulty(self, inner: MemoryImageStore) -> ImageStore:
        return self.faulty.setdefault(inner.name, Faulty(inner))

    def damage(self, store: str, change: Callable[[bytearray], None]) -> None:
        for stored in self.memory[store].committed.values():
            change(stored.data)

    async def read(self, image_id: ImageId, offset: int = 0, limit: int = 0) -> bytes:
        pieces = Downloads(self.journal, self.stores).read(CALLER, image_id, offset=offset, limit=limit)
        return b"".join([piece async for piece in pieces])

    async def asked(self, image_id: ImageId) -> list[str]:
        """The stores that a read of the first byte asks, all of which fail."""
        before: list[str] = []
        for name, store in self.faulty.items():
            store.gives, store.error = 0, StoreUnavailableError(name)
        with capture_logs() as logs, pytest.raises(StoreUnavailableError):
            await self.read(image_id, 0, 1)
        before += [str(entry["store"]) for entry in logs if entry["event"] == "store failed a read"]
        return before

    async def damaged(self, image_id: ImageId) -> list[str]:
        image = await self.load(image_id)
        assert image.data is not None
        return [ref.store for ref in image.data.damaged]


def flip(data: bytearray) -> None:
    data[100] ^= 1


def cut(data: bytearray) -> None:
    del data[2 * MIB + 5 :]


# --- which is asked first ---------------------------------------------------------------------------------------------


async def test_the_heaviest_store_is_read_first_and_the_default_one_first_among_equals() -> None:
    site = Site(main=100, a=100, best=200, z=10)
    assert await site.asked(await site.publish(CONTENT, "z", "a", "main", "best")) == ["best", "main", "a", "z"]


async def test_a_store_that_is_away_is_read_last_and_a_read_only_one_in_its_turn() -> None:
    site = Site(main=100, away=900, readonly=200)
    site.faulty["away"].mode = StoreMode.AWAY
    site.faulty["readonly"].mode = StoreMode.READ_ONLY
    assert await site.asked(await site.publish(CONTENT, "away", "main", "readonly")) == ["readonly", "main", "away"]


async def test_a_store_that_was_thought_to_be_away_is_still_tried() -> None:
    site = Site(main=100, second=100)
    image_id = await site.publish(CONTENT, "main", "second")
    for store in site.faulty.values():
        store.mode = StoreMode.AWAY
    site.faulty["main"].error, site.faulty["main"].gives = StoreTimeoutError("no answer"), 0
    assert await site.read(image_id) == CONTENT


async def test_a_copy_in_a_store_that_is_no_longer_configured_is_no_obstacle() -> None:
    site = Site(main=100, gone=900)
    image_id = await site.publish(CONTENT, "gone", "main")
    site.forget("gone")
    assert await site.read(image_id) == CONTENT


async def test_when_all_stores_fail_the_reason_of_the_last_one_is_told() -> None:
    site = Site(main=100, second=50)
    image_id = await site.publish(CONTENT, "main", "second")
    for name, store in site.faulty.items():
        store.mode, store.gives = StoreMode.AWAY, 0
        store.error = StoreTimeoutError(f"{name} did not answer")
    with pytest.raises(StoreTimeoutError, match="second did not answer"):
        await site.read(image_id)


# --- a store fails in the middle --------------------------------------------------------------------------------------


@pytest.mark.parametrize("gives", [0, 1, MIB, 2 * MIB + 9, len(CONTENT)])
@pytest.mark.parametrize("begin", [0, 5, MIB])
async def test_a_store_that_fails_in_the_middle_is_left_for_the_next_at_the_offset_that_was_reached(
    gives: int, begin: int
) -> None:
    site = Site(main=100, second=100)
    image_id = await site.publish(CONTENT, "main", "second")
    site.faulty["main"].gives = gives
    site.faulty["main"].error = StoreUnavailableError("the connection broke")
    assert await site.read(image_id, begin) == CONTENT[begin:]
    reached = begin + gives
    assert site.faulty["second"].asked == ([reached] if reached < len(CONTENT) else [])
    assert await site.damaged(image_id) == []


async def test_bytes_that_are_gone_are_read_elsewhere() -> None:
    site = Site(main=100, second=100)
    image_id = await site.publish(CONTENT, "main", "second")
    site.memory["main"].committed.clear()
    assert await site.read(image_id) == CONTENT


async def test_a_range_is_read_from_the_next_store_to_its_end_and_no_further() -> None:
    site = Site(main=100, second=100)
    image_id = await site.publish(CONTENT, "main", "second")
    site.faulty["main"].gives, site.faulty["main"].error = 10, StoreUnavailableError("the connection broke")
    assert await site.read(image_id, 100, 2 * MIB) == CONTENT[100 : 100 + 2 * MIB]


async def test_an_image_of_no_bytes_is_read() -> None:
    site = Site(main=100)
    assert await site.read(await site.publish(b"", "main")) == b""


# --- wrong bytes ------------------------------------------------------------------------------------------------------


async def test_of_wrong_bytes_the_last_piece_never_goes_out_and_the_next_read_goes_elsewhere() -> None:
    site = Site(main=100, second=100)
    image_id = await site.publish(CONTENT, "main", "second")
    site.damage("main", flip)
    out = bytearray()

    async def read() -> None:
        async for piece in Downloads(site.journal, site.stores).read(CALLER, image_id, offset=0, limit=0):
            out.extend(piece)

    with pytest.raises(BlobDamagedError) as caught:
        await read()
    assert caught.value.evidence["expected"] == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    assert len(out) == 3 * MIB
    assert await site.damaged(image_id) == ["main"]
    noted = [event.payload for event in await site.history(image_id)][-1]
    assert isinstance(noted, CopyDamaged)
    assert await site.read(image_id) == CONTENT


async def test_wrong_bytes_that_have_not_gone_out_yet_are_read_anew_from_the_next_store() -> None:
    site = Site(main=100, second=100)
    image_id = await site.publish(SMALL, "main", "second")
    site.damage("main", flip)
    assert await site.read(image_id) == SMALL
    assert await site.damaged(image_id) == ["main"]


async def test_the_only_copy_is_noted_as_damaged_too() -> None:
    site = Site(main=100)
    image_id = await site.publish(CONTENT, "main")
    site.damage("main", flip)
    for _ in range(2):
        with pytest.raises(BlobDamagedError):
            await site.read(image_id)
    assert await site.damaged(image_id) == ["main"]


async def test_no_copy_is_blamed_for_wrong_bytes_that_came_from_two_stores() -> None:
    site = Site(main=100, second=100)
    image_id = await site.publish(CONTENT, "main", "second")
    site.damage("main", flip)
    site.faulty["main"].gives, site.faulty["main"].error = 2 * MIB, StoreUnavailableError("the connection broke")
    with pytest.raises(BlobDamagedError):
        await site.read(image_id)
    assert await site.damaged(image_id) == []


async def test_a_range_is_not_proven_and_blames_nobody() -> None:
    site = Site(main=100)
    image_id = await site.publish(CONTENT, "main")
    site.damage("main", flip)
    assert len(await site.read(image_id, 1)) == len(CONTENT) - 1
    assert await site.damaged(image_id) == []


@pytest.mark.parametrize("begin", [0, 5])
async def test_a_short_copy_is_gone_on_with_elsewhere_and_noted(begin: int) -> None:
    site = Site(main=100, second=100)
    image_id = await site.publish(CONTENT, "main", "second")
    site.damage("main", cut)
    assert await site.read(image_id, begin) == CONTENT[begin:]
    assert await site.damaged(image_id) == ["main"]


async def test_a_store_that_ends_early_and_has_all_bytes_is_not_blamed() -> None:
    site = Site(main=100, second=100)
    image_id = await site.publish(CONTENT, "main", "second")
    site.faulty["main"].gives = MIB
    assert await site.read(image_id) == CONTENT
    assert await site.damaged(image_id) == []


async def test_a_copy_is_not_blamed_when_the_image_has_changed_meanwhile() -> None:
    site = Site(main=100)
    image_id = await site.publish(CONTENT, "main")
    site.damage("main", flip)
    reading = Downloads(site.journal, site.stores).read(CALLER, image_id, offset=0, limit=0)
    await anext(reading)
    await site.rename(image_id)
    with pytest.raises(BlobDamagedError):
        async for _ in reading:
            pass
    assert await site.damaged(image_id) == []


async def test_a_log_that_does_not_answer_hides_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(main=100, second=100)
    image_id = await site.publish(SMALL, "main", "second")
    site.damage("main", flip)
    pieces = Downloads(site.journal, site.stores).read(CALLER, image_id, offset=0, limit=0)
    load = site.journal.load
    calls = iter([load])

    async def fails_later(wanted: ImageId) -> object:
        for first in calls:
            return await first(wanted)
        raise StoreUnavailableError("the log is away")

    monkeypatch.setattr(site.journal, "load", fails_later)
    assert b"".join([piece async for piece in pieces]) == SMALL


async def test_bytes_in_no_store_are_not_found() -> None:
    site = Site(main=100)
    image_id = await site.publish(CONTENT, "main")
    site.memory["main"].committed.clear()
    with pytest.raises(BlobNotFoundError):
        await site.read(image_id)
