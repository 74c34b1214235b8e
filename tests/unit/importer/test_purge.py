"""The bytes that a publication and a purge remove, in several stores."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from services.importer.publishing import Publishing
from services.importer.purging import Purging
from tintype.adapters.memory.store import MemoryImageStore
from tintype.adapters.stores import Stores
from tintype.domain.errors import StoreFullError, StoreUnavailableError
from tintype.domain.events import SkipReason
from tintype.domain.image import Conversion, Operation, OperationKind, OperationState
from tintype.domain.values import BlobRef, OperationId, Placement
from tintype.ports.image_store import StoredBlob
from tintype.runtime.clock import SystemClock
from tintype.testing.events import STAGED_BLOB, an_id

IMAGE = "0198c0de-0000-7000-8000-000000000001"
KEY = f"{IMAGE}/0198c0de-0000-7000-8000-000000000002/staged"


class AwayStore(MemoryImageStore):
    async def list(self, image_id: str = "") -> AsyncIterator[StoredBlob]:
        async for blob in super().list(image_id):
            yield blob
        raise StoreUnavailableError("away")


async def test_a_store_that_is_away_does_not_keep_the_others_from_being_emptied_and_the_purge_is_repeated() -> None:
    away, there = AwayStore("away", SystemClock()), MemoryImageStore("there", SystemClock())
    writer = await there.open_write(KEY)
    await writer.append(b"bytes")
    await writer.commit(size=5, digests={"sha256": hashlib.sha256(b"bytes").hexdigest()})
    stores = Stores(away, {"away": away, "there": there})
    with pytest.raises(StoreUnavailableError):
        await Purging(stores).purge_image(SimpleNamespace(id=IMAGE), None)  # type: ignore[arg-type]  # its id is all
    assert not there.committed


@pytest.mark.parametrize("error", [StoreUnavailableError("away"), StoreFullError("full")])
async def test_an_image_is_published_although_a_store_keeps_bytes_that_it_was_made_from(error: Exception) -> None:
    class Keeping(MemoryImageStore):
        async def delete(self, key: str) -> None:
            raise error

    keeping, there = Keeping("keeping", SystemClock()), MemoryImageStore("there", SystemClock())
    for store in (keeping, there):
        writer = await store.open_write(KEY)
        await writer.append(b"bytes")
        await writer.commit(size=5, digests={})
    blob = replace(STAGED_BLOB, ref=BlobRef("there", KEY), size=5)
    operation = Operation(
        OperationId(an_id("import")),
        OperationKind.IMPORT,
        OperationState.RUNNING,
        datetime.now(UTC),
        staged=blob,
        conversion=Conversion(skipped=SkipReason.DISABLED),
        placement=Placement(("there",)),
        copies=(BlobRef("keeping", KEY),),
    )
    publishing = Publishing(Stores(there, {"there": there, "keeping": keeping}))
    image: Any = SimpleNamespace(id=IMAGE, operation=operation)
    run: Any = None
    assert (await publishing.publish_image(image, run)).locations == (blob.ref,)


async def test_a_publication_that_was_killed_before_it_was_recorded_is_repeated_without_the_bytes_it_removed() -> None:
    first, wanted = MemoryImageStore("first", SystemClock()), MemoryImageStore("wanted", SystemClock())
    for store in (first, wanted):
        writer = await store.open_write(KEY)
        await writer.append(b"bytes")
        await writer.commit(size=5, digests={})
    operation = Operation(
        OperationId(an_id("import")),
        OperationKind.IMPORT,
        OperationState.RUNNING,
        datetime.now(UTC),
        staged=replace(STAGED_BLOB, ref=BlobRef("first", KEY), size=5),
        conversion=Conversion(skipped=SkipReason.DISABLED),
        placement=Placement(("wanted",)),
        copies=(BlobRef("wanted", KEY),),
        is_placed=True,
    )
    publishing = Publishing(Stores(first, {"first": first, "wanted": wanted}))
    image: Any = SimpleNamespace(id=IMAGE, operation=operation)
    run: Any = None
    for _ in range(2):
        assert (await publishing.publish_image(image, run)).locations == (BlobRef("wanted", KEY),)
    assert not first.committed
    assert wanted.committed
