"""Who may scrub, and what may be asked for."""

from __future__ import annotations

from typing import Any

import pytest

from services.importer.admin import ImporterAdminServicer
from services.importer.scrubbing import Scrubber
from services.importer.store_listing import StoreListing
from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.adapters.memory.store import MemoryImageStore
from tintype.adapters.stores import Stores
from tintype.api.importer.v1 import importer_pb2 as pb
from tintype.codec.call_metadata import ADMIN_KEY
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
from tintype.testing.events import an_image_id


class Call:
    """A call with its metadata."""

    def __init__(self, *, is_admin: bool = True) -> None:
        self._is_admin = is_admin

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ((ADMIN_KEY, "true"),) if self._is_admin else ()


async def scrub(request: pb.ScrubRequest, *, is_admin: bool = True) -> list[pb.ScrubResponse]:
    log, clock = MemoryEventLog(), SystemClock()
    store = MemoryImageStore("main", clock)
    stores = Stores(store, {"main": store})
    scrubber = Scrubber(Journal(log, clock), stores)
    servicer = ImporterAdminServicer(scrubber, log, frozenset({"main"}), StoreListing(stores))
    call: Any = Call(is_admin=is_admin)
    return [response async for response in servicer.Scrub(request, call)]


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
