"""A guarded store whose share answers errors, hangs, or dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.backends.faulty_filesystem import FaultyShare
from tintype.adapters.filesystem.mount_marker import initialise
from tintype.adapters.filesystem.opening import open_file_store
from tintype.adapters.filesystem.settings import FileStoreSettings
from tintype.adapters.filesystem.store import FileImageStore
from tintype.domain.errors import (
    BlobDamagedError,
    StoreDeviceError,
    StoreFullError,
    StoreMountStaleError,
    StoreQuotaExceededError,
    StoreReadOnlyError,
    StoreTimeoutError,
    StoreUnavailableError,
    TintypeError,
)
from tintype.ports.image_store import StoreMode

KEY = "6f1c1a44-8a3e-4cf4-9d0c-0d3c1f9f0a01/9b2d1a44-8a3e-4cf4-9d0c-0d3c1f9f0b01/source"
OTHER = KEY.replace("source", "output")


@pytest.fixture
def share(tmp_path: Path) -> Iterator[FaultyShare]:
    made = FaultyShare(tmp_path)
    made.mount()
    initialise("main", made.at)
    yield made
    made.aclose()


@pytest.fixture
async def store(share: FaultyShare) -> AsyncIterator[FileImageStore]:
    settings = FileStoreSettings(path=share.at, require_mount=True, watch_interval_s=0.3, timeout_s=2)
    opened = await open_file_store("main", settings)
    yield opened
    share.kill()  # what hangs ends
    await opened.aclose()


async def put(store: FileImageStore, data: bytes, key: str = KEY) -> None:
    writer = await store.open_write(key)
    await writer.append(data)
    await writer.commit(size=len(data), digests={})


async def read(store: FileImageStore, key: str = KEY) -> bytes:
    return b"".join([piece async for piece in store.read(key)])


async def until(store: FileImageStore, mode: StoreMode) -> None:
    async with asyncio.timeout(30):
        while store.state.mode is not mode:
            await store.directories[0].look()


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("ENOSPC", StoreFullError),
        ("EDQUOT", StoreQuotaExceededError),
        ("EIO", StoreDeviceError),
        ("EROFS", StoreReadOnlyError),
        ("ESTALE", StoreMountStaleError),
    ],
)
async def test_each_refusal_of_a_write_has_its_own_class_and_passes(
    store: FileImageStore, share: FaultyShare, code: str, error: type[TintypeError]
) -> None:
    writer = await store.open_write(KEY)
    share.break_({"op": "write", "path": "/source$", "errno": code})
    with pytest.raises(error):
        await writer.append(b"x")
    await writer.close()
    share.heal()
    await until(store, StoreMode.READ_WRITE)
    await put(store, b"again")
    assert await read(store) == b"again"


async def test_a_disk_that_fails_only_at_fsync_commits_nothing(store: FileImageStore, share: FaultyShare) -> None:
    writer = await store.open_write(KEY)
    await writer.append(b"x")
    share.break_({"op": "fsync", "path": "/source$", "errno": "EIO"})
    with pytest.raises(StoreDeviceError):
        await writer.commit(size=1, digests={})
    share.heal()
    assert [blob async for blob in store.list()] == []


async def test_a_disk_that_cannot_be_read_is_damage(store: FileImageStore, share: FaultyShare) -> None:
    await put(store, b"image")
    share.break_({"op": "read", "path": "/source$", "errno": "EIO"})
    with pytest.raises(BlobDamagedError):
        await read(store)


async def test_a_short_write_is_gone_on_with(store: FileImageStore, share: FaultyShare) -> None:
    share.break_({"op": "write", "short": True})
    data = bytes(range(1, 251)) * 40
    writer = await store.open_write(KEY)
    await writer.append(data)
    await writer.commit(size=len(data), digests={})
    assert await read(store) == data


@pytest.mark.parametrize("fault", [{"op": "*", "errno": "ESTALE"}, {"op": "open", "errno": "EIO"}])
async def test_a_share_of_which_nothing_answers_is_away_and_heals(
    store: FileImageStore, share: FaultyShare, fault: dict[str, Any]
) -> None:
    await put(store, b"image")
    share.break_(fault)
    await until(store, StoreMode.AWAY)
    with pytest.raises(StoreReadOnlyError):
        await store.open_write(OTHER)
    with pytest.raises(StoreUnavailableError):
        await read(store)
    share.heal()
    await until(store, StoreMode.READ_WRITE)
    assert await read(store) == b"image"


async def test_a_server_that_died_is_away_and_its_restart_heals(store: FileImageStore, share: FaultyShare) -> None:
    await put(store, b"image")
    share.kill()
    await until(store, StoreMode.AWAY)
    with pytest.raises(StoreReadOnlyError):
        await store.open_write(OTHER)
    share.unmount()
    assert list(share.at.iterdir()) == []
    share.mount()
    await until(store, StoreMode.READ_WRITE)
    assert await read(store) == b"image"


async def test_a_call_that_hangs_ends_at_its_deadline_and_is_kept_out_of_the_pool(
    store: FileImageStore, share: FaultyShare
) -> None:
    await put(store, b"image")
    writer = await store.open_write(OTHER)
    share.freeze()
    with pytest.raises((StoreTimeoutError, StoreReadOnlyError)):
        await writer.append(b"x")
    await until(store, StoreMode.AWAY)
    hung = store.directories[0].hung
    for _ in range(50):  # many more than there are threads, and refused without one
        with pytest.raises(StoreReadOnlyError):
            await store.open_write(KEY.replace("source", "third"))
        with pytest.raises(StoreTimeoutError):
            await read(store)
    assert store.directories[0].hung == hung
    share.thaw()
    await until(store, StoreMode.READ_WRITE)
    assert await read(store) == b"image"
    await put(store, b"more", OTHER)


async def test_a_write_is_refused_where_no_room_is_claimed(store: FileImageStore, share: FaultyShare) -> None:
    share.break_({"op": "statfs", "free": 0})
    writer = await store.open_write(KEY)
    with pytest.raises(StoreFullError):
        await writer.append(b"x")
    await writer.abort()
