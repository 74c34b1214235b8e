"""A deleted image's bytes in several stores."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from services.importer.publishing import Publishing
from tintype.adapters.memory.store import MemoryImageStore
from tintype.adapters.stores import Stores
from tintype.domain.errors import StoreUnavailableError
from tintype.ports.image_store import StoredBlob
from tintype.runtime.clock import SystemClock

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
        await Publishing(stores).purge_image(SimpleNamespace(id=IMAGE), None)  # type: ignore[arg-type]  # its id is all
    assert not there.committed
