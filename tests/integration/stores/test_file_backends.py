"""What the fault suite breaks is broken, and is mended again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backends.file_stores import FileBackend, NfsBackend
from tests.backends.store_backend import CannotBeBrokenError, StoreBackend
from tintype.domain.errors import StoreFullError, StoreReadOnlyError
from tintype.ports.image_store import ImageStore, StoreMode

KEY = "6f1c1a44-8a3e-4cf4-9d0c-0d3c1f9f0a01/9b2d1a44-8a3e-4cf4-9d0c-0d3c1f9f0b01/source"


async def put(store: ImageStore, data: bytes) -> None:
    writer = await store.open_write(KEY)
    try:
        await writer.append(data)
        await writer.commit(size=len(data), digests={})
    finally:
        await writer.abort()


@pytest.mark.parametrize("kind", [FileBackend, NfsBackend])
async def test_a_backend_is_filled_relieved_and_corrupted(tmp_path: Path, kind: type[FileBackend | NfsBackend]) -> None:
    backend: StoreBackend = kind(tmp_path)
    store = await backend.open()
    try:
        await backend.fill()
        with pytest.raises(StoreFullError):
            await put(store, b"x" * 1_000_000)
        assert await backend.remains() == []
        await backend.relieve()
        await put(store, b"image")
        await backend.corrupt(KEY)
        assert b"".join([piece async for piece in store.read(KEY)]) != b"image"
        await store.delete(KEY)
        assert await backend.remains() == []
        with pytest.raises(CannotBeBrokenError):
            await backend.open_with_wrong_credentials()
    finally:
        await store.aclose()
        await backend.aclose()


async def test_a_share_at_which_no_marked_directory_is_takes_nothing(tmp_path: Path) -> None:
    backend = NfsBackend(tmp_path)
    store = await backend.open_with_missing_place()
    try:
        assert store.state.mode is StoreMode.AWAY
        with pytest.raises(StoreReadOnlyError):
            await put(store, b"x")
    finally:
        await store.aclose()
        await backend.aclose()
