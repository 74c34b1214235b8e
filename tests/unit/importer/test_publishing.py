"""The last look at an image's bytes before it is active: what is published is there, or was, and nothing else stays."""

from __future__ import annotations

import pytest

from services.importer.publishing import Publishing
from tests.unit.importer.test_placing import CONTENT, Site
from tintype.domain.commands import RecordPublished
from tintype.domain.errors import BlobDamagedError, BlobNotFoundError, StoreUnavailableError
from tintype.domain.image import Image
from tintype.domain.values import BlobRef
from tintype.runtime.worker import StepRun

RUN: StepRun = None  # type: ignore[assignment]  # publishing tells no progress


@pytest.fixture
async def site() -> Site:
    return Site()


@pytest.fixture
async def image(site: Site) -> Image:
    """An import that waits to be published, with three copies."""
    placing = await site.importing("main", "second", "third")
    return await site.execute(placing.id, await site.place(placing))


async def publish(site: Site, image: Image) -> list[str]:
    command: RecordPublished = await Publishing(site.stores).publish_image(image, RUN)
    published = await site.execute(image.id, command)
    assert published.data is not None
    return [ref.store for ref in published.data.locations]


async def test_all_copies_are_published(site: Site, image: Image) -> None:
    assert await publish(site, image) == ["main", "second", "third"]
    assert site.content("second") == [CONTENT]


@pytest.mark.parametrize("away", [("main",), ("second",), ("main", "third")])
async def test_copies_in_stores_that_are_away_hold_up_no_image(site: Site, image: Image, away: tuple[str, ...]) -> None:
    for name in away:
        site.store[name].is_away = True
    assert await publish(site, image) == ["main", "second", "third"]


async def test_where_no_store_answers_the_step_is_tried_again(site: Site, image: Image) -> None:
    for store in site.store.values():
        store.is_away = True
    with pytest.raises(StoreUnavailableError, match="main"):
        await publish(site, image)


async def test_one_store_that_is_gone_and_one_that_is_away_make_no_image(site: Site, image: Image) -> None:
    site.store["main"].is_away = True
    for name in ("second", "third"):
        site.memory[name].committed.clear()
    with pytest.raises(StoreUnavailableError, match="main"):
        await publish(site, image)


async def test_a_further_copy_that_is_gone_or_not_whole_is_not_published(site: Site, image: Image) -> None:
    site.memory["second"].committed.clear()
    for held in site.memory["third"].committed.values():
        del held.data[-1]
    assert await publish(site, image) == ["main"]


async def test_the_first_copy_has_to_be_there_whole(site: Site, image: Image) -> None:
    (held,) = site.memory["main"].committed.values()
    del held.data[-1]
    with pytest.raises(BlobDamagedError):
        await publish(site, image)
    site.memory["main"].committed.clear()
    with pytest.raises(BlobNotFoundError):
        await publish(site, image)


async def test_what_is_not_wanted_and_cannot_be_removed_is_left_for_the_sweep(site: Site) -> None:
    placing = await site.importing("second")
    image = await site.execute(placing.id, await site.place(placing))
    site.store["main"].fails["delete"] = StoreUnavailableError("away")
    assert await publish(site, image) == ["second"]
    now = await site.load(image.id)
    assert not now.wants(BlobRef("main", next(iter(site.memory["main"].committed))))


async def test_the_only_copy_that_was_seen_is_kept_though_another_one_is_wanted(site: Site) -> None:
    placing = await site.importing("second")
    image = await site.execute(placing.id, await site.place(placing))
    site.store["second"].is_away = True
    assert await publish(site, image) == ["main", "second"]
    assert site.content("main") == [CONTENT]
