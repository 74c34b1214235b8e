"""Direct handover: to whom, of what, from which stores, for how long; and nothing is left behind of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from services.importer.locations import LocationRules, Locations
from services.importer.store_encoding import encode_location, encode_store
from services.importer.store_listing import SPACE_FRESH_S, StoreListing
from tests.integration.importer.several_stores import ADMIN, CALLER, SeveralStores
from tintype.adapters.decorators.delegation import DelegatingStore
from tintype.adapters.memory.store import MemoryImageStore
from tintype.adapters.store_section import StoreSection
from tintype.api.importer.v1 import importer_pb2 as pb
from tintype.domain.access import Caller
from tintype.domain.attributes import ImageAttributes
from tintype.domain.commands import CreateImage, DeleteImage, RecordCopyDamaged
from tintype.domain.errors import (
    BlobDamagedError,
    BlobNotFoundError,
    ImageHasNoDataError,
    ImageNotFoundError,
    InvalidArgumentError,
    NotPermittedError,
    StoreNotFoundError,
    StoreTimeoutError,
    StoreUnavailableError,
    TintypeError,
)
from tintype.domain.values import Digest, ImageId, ProjectId
from tintype.ports.image_store import (
    DirectLocation,
    HandoverKind,
    StoreMode,
    StoreSpace,
    StoreState,
)
from tintype.testing.events import an_image_id

SECRET = "X-Amz-Signature=5ecre7"
NOVA = Caller(ProjectId("compute"), "nova")
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


class HandingOver(DelegatingStore):
    """A store with URLs; it may be away."""

    is_away = False
    hangs = False
    error: TintypeError | None = None
    end = ""
    asked = 0

    @property
    def state(self) -> StoreState:
        if self.is_away:
            return StoreState(StoreMode.AWAY, NOON, "STORE_MOUNT_LOST", "/srv/images is not mounted")
        return super().state

    async def locate(self, key: str, *, expires_in_s: float) -> DirectLocation | None:
        if self.error:
            raise self.error
        if self.hangs:
            await asyncio.Event().wait()
        url = f"https://{self.name}/{key}?{SECRET}{self.end}"
        return DirectLocation(HandoverKind.PRESIGNED_URL, url, NOON + timedelta(seconds=expires_in_s))

    async def space(self) -> StoreSpace | None:
        self.asked += 1
        if self.error:
            raise self.error
        if self.hangs:
            await asyncio.Event().wait()
        return StoreSpace(1, 2)


class Site(SeveralStores):
    """``first`` and ``second`` hand over, ``quiet`` does not."""

    def __init__(self) -> None:
        self.handing: dict[str, HandingOver] = {}
        sections = {
            "quiet": StoreSection(weight=900, description="for the others"),
            "first": StoreSection(weight=200, hand_over=True),
            "second": StoreSection(weight=100, hand_over=True),
        }
        super().__init__(sections, self._handing)
        rules = LocationRules(frozenset({NOVA.project, CALLER.project}), 600)
        self.locations = Locations(self.journal, self.stores, rules)

    def _handing(self, inner: MemoryImageStore) -> HandingOver:
        return self.handing.setdefault(inner.name, HandingOver(inner))

    async def stores_of(self, image_id: ImageId, caller: Caller = ADMIN, seconds: int = 0) -> list[str]:
        return [each.store for each in await self.locations.of(caller, image_id, seconds)]


async def test_stores_that_hand_over_are_told_in_the_order_of_reads() -> None:
    site = Site()
    image_id = await site.publish(b"bytes", "quiet", "second", "first")
    assert await site.stores_of(image_id) == ["first", "second"]
    site.handing["first"].is_away = True
    assert await site.stores_of(image_id) == ["second", "first"]


async def test_a_damaged_copy_is_not_handed_over() -> None:
    site = Site()
    image_id = await site.publish(b"bytes", "first", "second")
    image = await site.load(image_id)
    assert image.data is not None
    await site.execute(image_id, RecordCopyDamaged(image.data.locations[0], Digest("sha256", "0" * 64), None))
    assert await site.stores_of(image_id) == ["second"]


async def test_a_store_that_fails_is_left_out_and_told_where_there_is_no_other() -> None:
    site = Site()
    image_id = await site.publish(b"bytes", "first", "second")
    site.handing["first"].error = StoreUnavailableError("away")
    assert await site.stores_of(image_id) == ["second"]
    site.handing["second"].error = BlobNotFoundError("lost")
    with pytest.raises(StoreUnavailableError):
        await site.stores_of(image_id)


async def test_a_store_that_hangs_is_left_out() -> None:
    site = Site()
    image_id = await site.publish(b"bytes", "first", "second")
    site.handing["first"].hangs = True
    site.locations = Locations(site.journal, site.stores, LocationRules(frozenset(), 600), timeout_s=0.01)
    assert await site.stores_of(image_id) == ["second"]
    site.handing["second"].hangs = True
    with pytest.raises(StoreTimeoutError):
        await site.stores_of(image_id)


@pytest.mark.parametrize("end", ["\r\nSet-Cookie: x", " ", "\u00e9", "x" * 8192])
async def test_a_location_that_is_no_url_is_not_told(end: str) -> None:
    site = Site()
    image_id = await site.publish(b"bytes", "first")
    site.handing["first"].end = end
    with pytest.raises(StoreUnavailableError) as refused:
        await site.stores_of(image_id)
    assert SECRET not in str(refused.value)


async def test_an_image_without_a_sound_copy_has_no_locations() -> None:
    site = Site()
    image_id = await site.publish(b"bytes", "first")
    image = await site.load(image_id)
    assert image.data is not None
    await site.execute(image_id, RecordCopyDamaged(image.data.locations[0], Digest("sha256", "0" * 64), None))
    with pytest.raises(BlobDamagedError):
        await site.stores_of(image_id)


async def test_an_image_in_stores_that_hand_nothing_over_has_no_locations() -> None:
    site = Site()
    image_id = await site.publish(b"bytes", "quiet")
    assert await site.stores_of(image_id) == []
    site.forget("quiet")
    site.locations = Locations(site.journal, site.stores, LocationRules(frozenset(), 600))
    assert await site.stores_of(image_id) == []


@pytest.mark.parametrize(("asked", "given"), [(0, 600), (60, 60), (601, 600), (10**12, 600)])
async def test_a_location_works_as_long_as_was_asked_and_no_longer_than_is_allowed(asked: int, given: int) -> None:
    site = Site()
    image_id = await site.publish(b"bytes", "first")
    (found,) = await site.locations.of(ADMIN, image_id, asked)
    assert found.location.expires_at == NOON + timedelta(seconds=given)


async def test_only_whom_the_deployment_names_is_told_and_only_of_images_that_it_may_see() -> None:
    site = Site()
    image_id = await site.publish(b"bytes", "first")
    assert await site.stores_of(image_id, CALLER) == ["first"]
    with pytest.raises(NotPermittedError):
        await site.stores_of(image_id, Caller(ProjectId("others"), "eve"))
    with pytest.raises(ImageNotFoundError):
        await site.stores_of(image_id, NOVA)  # a private image of another project
    with pytest.raises(ImageNotFoundError):
        await site.stores_of(an_image_id("nowhere"))
    with pytest.raises(InvalidArgumentError):
        await site.stores_of(image_id, seconds=-1)


async def test_an_image_that_is_not_active_has_no_locations() -> None:
    site = Site()
    image_id = await site.publish(b"bytes", "first")
    await site.execute(image_id, DeleteImage(purge_after=NOON + timedelta(days=365)))
    with pytest.raises(ImageNotFoundError):
        await site.stores_of(image_id)


async def test_an_image_without_bytes_has_no_locations() -> None:
    site = Site()
    image_id = an_image_id("empty")
    await site.execute(image_id, CreateImage(ImageAttributes()))
    with pytest.raises(ImageHasNoDataError):
        await site.stores_of(image_id)


async def test_no_url_is_logged() -> None:
    site = Site()
    image_id = await site.publish(b"bytes", "first")
    with capture_logs() as logs:
        (found,) = await site.locations.of(ADMIN, image_id, 0)
    assert SECRET in encode_location(found).url
    assert logs
    assert SECRET not in str(logs)
    assert SECRET not in repr(found)
    assert [event for event in await site.history(image_id) if SECRET in repr(event)] == []


async def test_stores_are_listed_with_the_default_first_and_then_by_weight() -> None:
    site = Site()
    site.handing["second"].is_away = True
    site.handing["first"].error = StoreUnavailableError("away")
    listed = [encode_store(view, CALLER) for view in await StoreListing(site.stores).all()]
    assert [(each.name, each.is_default, each.weight) for each in listed] == [
        ("quiet", True, 900),
        ("first", False, 200),
        ("second", False, 100),
    ]
    quiet, first, second = listed
    assert (quiet.description, quiet.free_bytes, quiet.total_bytes) == ("for the others", 1, 2)
    assert quiet.mode == pb.STORE_MODE_READ_WRITE and not quiet.HasField("failure")
    assert not first.HasField("free_bytes") and not first.HasField("total_bytes")
    assert (second.mode, second.failure.reason) == (pb.STORE_MODE_AWAY, "STORE_MOUNT_LOST")
    assert second.since.ToDatetime(UTC) == NOON


async def test_what_a_store_says_of_its_failure_is_for_administrators() -> None:
    site = Site()
    site.handing["second"].is_away = True
    view = (await StoreListing(site.stores).all())[-1]
    assert "/srv/images" in encode_store(view, ADMIN).failure.message
    assert encode_store(view, CALLER).failure.message == "store 'second' is away"


async def test_a_store_that_hangs_is_listed_without_its_room() -> None:
    site = Site()
    site.handing["first"].hangs = True
    listed = await StoreListing(site.stores, space_timeout_s=0.01).all()
    assert [(each.store.name, each.space is None) for each in listed] == [
        ("quiet", False),
        ("first", True),
        ("second", False),
    ]


async def test_a_store_is_not_asked_for_its_room_as_often_as_somebody_lists_it() -> None:
    site, now = Site(), [0.0]
    listing = StoreListing(site.stores, monotonic=lambda: now[0])
    await asyncio.gather(*(listing.all() for _ in range(10)))
    assert site.handing["first"].asked == 1
    now[0] = SPACE_FRESH_S
    await listing.all()
    assert site.handing["first"].asked == 2


async def test_a_store_is_examined_by_administrators_alone() -> None:
    listing = StoreListing(Site().stores)
    assert await listing.examine(ADMIN, "quiet")
    with pytest.raises(NotPermittedError):
        await listing.examine(CALLER, "quiet")
    with pytest.raises(StoreNotFoundError):
        await listing.examine(ADMIN, "elsewhere")
