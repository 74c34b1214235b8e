"""Who may scrub and sweep, and what may be asked for."""

from __future__ import annotations

from contextlib import aclosing
from datetime import timedelta

import pytest

from services.importer.admin import ImporterAdminServicer
from services.importer.scrubbing import Scrubber
from services.importer.store_listing import StoreListing
from services.importer.sweep import Sweeper, SweepLimits
from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.adapters.memory.store import MemoryImageStore
from tintype.adapters.stores import Stores
from tintype.api.importer.v1 import importer_pb2 as pb
from tintype.domain.errors import (
    ImageNotFoundError,
    InvalidIdentifierError,
    InvalidSizeError,
    NotPermittedError,
    StoreNotFoundError,
    TintypeError,
)
from tintype.runtime.clock import SystemClock
from tintype.runtime.journal import Journal
from tintype.testing.calls import call_by
from tintype.testing.events import an_image_id


def servicer_of(store: MemoryImageStore) -> ImporterAdminServicer:
    log, clock = MemoryEventLog(), SystemClock()
    journal, stores = Journal(log, clock), Stores(store, {"main": store})
    sweeper = Sweeper(journal, stores, clock, SweepLimits(3600, 3600, 3600))
    return ImporterAdminServicer(Scrubber(journal, stores), log, StoreListing(stores), sweeper)


async def scrub(request: pb.ScrubRequest, *, is_admin: bool = True) -> list[pb.ScrubResponse]:
    call = call_by(is_admin=is_admin)
    servicer = servicer_of(MemoryImageStore("main", SystemClock()))
    return [response async for response in servicer.Scrub(request, call)]


async def sweep(store: MemoryImageStore, request: pb.SweepRequest, *, is_admin: bool = True) -> list[pb.SweepResponse]:
    call = call_by(is_admin=is_admin)
    return [response async for response in servicer_of(store).Sweep(request, call)]


@pytest.fixture
async def store() -> MemoryImageStore:
    """It has two uploads that nobody knows of: an old one, and one of just now."""
    made = MemoryImageStore("main", SystemClock())
    for name in ("old", "young"):
        await (await made.open_write(f"{an_image_id()}/{an_image_id()}/{name}")).close()
        if name == "old":
            made.uncommitted[OLD].modified_at -= timedelta(days=1)
    return made


OLD = f"{an_image_id()}/{an_image_id()}/old"


async def test_only_an_administrator_scrubs() -> None:
    with pytest.raises(NotPermittedError):
        await scrub(pb.ScrubRequest(), is_admin=False)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (pb.ScrubRequest(rate_bytes_s=-1), InvalidSizeError),
        (pb.ScrubRequest(store="elsewhere"), StoreNotFoundError),
        (pb.ScrubRequest(image_id="../.."), InvalidIdentifierError),
        (pb.ScrubRequest(image_id=an_image_id()), ImageNotFoundError),
    ],
)
async def test_what_cannot_be_scrubbed_is_refused(request_: pb.ScrubRequest, error: type[TintypeError]) -> None:
    with pytest.raises(error):
        await scrub(request_)


async def test_an_empty_site_is_scrubbed_at_once() -> None:
    assert await scrub(pb.ScrubRequest(store="main")) == [pb.ScrubResponse()]


async def test_only_an_administrator_sweeps(store: MemoryImageStore) -> None:
    with pytest.raises(NotPermittedError):
        await sweep(store, pb.SweepRequest(), is_admin=False)
    assert len(store.uncommitted) == 2


async def test_a_store_that_there_is_not_cannot_be_swept(store: MemoryImageStore) -> None:
    with pytest.raises(StoreNotFoundError):
        await sweep(store, pb.SweepRequest(store="elsewhere"))


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_sweep_tells_what_it_found_and_how_much_it_looked_at(store: MemoryImageStore, dry_run: bool) -> None:
    *found, last = await sweep(store, pb.SweepRequest(store="main", dry_run=dry_run))
    assert [(each.finding.kind, each.finding.removed) for each in found] == [
        (pb.SWEEP_FINDING_KIND_ORPHAN, not dry_run),
        (pb.SWEEP_FINDING_KIND_SPARED, False),
    ]
    assert (found[0].finding.store, found[0].finding.key) == ("main", OLD)
    assert found[0].finding.image_id == an_image_id()
    assert last == pb.SweepResponse(blobs=2)
    assert len(store.uncommitted) == (2 if dry_run else 1)


async def test_a_client_that_goes_away_ends_the_sweep(store: MemoryImageStore) -> None:
    for name in ("a", "b", "c"):
        key = f"{an_image_id()}/{an_image_id()}/{name}"
        await (await store.open_write(key)).close()
        store.uncommitted[key].modified_at -= timedelta(days=1)
    call = call_by(is_admin=True)
    async with aclosing(servicer_of(store).Sweep(pb.SweepRequest(), call)) as responses:  # type: ignore[type-var]
        await anext(responses)
    assert len(store.uncommitted) == 4
