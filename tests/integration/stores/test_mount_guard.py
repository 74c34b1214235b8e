"""A guarded store on real mounts that are lost, exchanged, filled and made read-only while it is in use."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.backends.private_mounts import mount, unmount
from tintype.adapters.filesystem.mount_marker import MARKER, initialise
from tintype.adapters.filesystem.opening import open_file_store
from tintype.adapters.filesystem.settings import FileStoreSettings
from tintype.adapters.filesystem.store import FileImageStore
from tintype.adapters.filesystem.writer import FileWriter
from tintype.domain.errors import (
    BlobNotFoundError,
    ConfigurationError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from tintype.ports.image_store import Grade, StoreMode, StoreState

IMAGE = "6f1c1a44-8a3e-4cf4-9d0c-0d3c1f9f0a01"
KEY = f"{IMAGE}/9b2d1a44-8a3e-4cf4-9d0c-0d3c1f9f0b01/source"
OTHER = KEY.replace("source", "output")
MIB = 1024 * 1024


class Share:
    """A tmpfs that keeps its files while it is not mounted at the store's mount point."""

    def __init__(self, directory: Path, name: str = "share", size: str = "64m") -> None:
        self.kept = directory / name
        self.at = directory / "mnt"
        self.kept.mkdir()
        self.at.mkdir(exist_ok=True)
        mount("-t", "tmpfs", "-o", f"size={size},mode=0750", "share", self.kept)

    def mount(self) -> None:
        mount("--bind", self.kept, self.at)

    def unmount(self) -> None:
        unmount(self.at)


class States:
    def __init__(self) -> None:
        self.seen: list[StoreState] = []
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, state: StoreState) -> None:
        self.seen.append(state)
        self._loop.call_soon_threadsafe(self._changed.set)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not holds():
                self._changed.clear()
                if not holds():
                    await self._changed.wait()


@pytest.fixture
def share(tmp_path: Path) -> Share:
    made = Share(tmp_path)
    made.mount()
    initialise("main", made.at)
    return made


@pytest.fixture
async def states() -> States:
    return States()


@pytest.fixture
async def store(share: Share, states: States) -> AsyncIterator[FileImageStore]:
    settings = FileStoreSettings(path=share.at, require_mount=True, watch_interval_s=0.1, timeout_s=5)
    opened = await open_file_store("main", settings, observer=states)
    yield opened
    await opened.aclose()


async def put(store: FileImageStore, data: bytes, key: str = KEY) -> None:
    writer = await store.open_write(key)
    await writer.append(data)
    await writer.commit(size=len(data), digests={})


async def read(store: FileImageStore, key: str = KEY) -> bytes:
    return b"".join([piece async for piece in store.read(key)])


async def append_for_ever(writer: FileWriter, data: bytes) -> None:
    while True:
        await writer.append(data)


def files_below(path: Path) -> list[Path]:
    return [found for found in path.rglob("*") if found.name != MARKER]


async def test_nothing_lands_in_the_bare_directory_when_the_share_is_lost_under_a_writer(
    store: FileImageStore, share: Share, states: States
) -> None:
    writer = await store.open_write(KEY)
    writing = asyncio.create_task(append_for_ever(writer, b"x" * 1000))
    await asyncio.sleep(0)
    await asyncio.to_thread(share.unmount)
    with pytest.raises(StoreReadOnlyError):
        await writing
    with pytest.raises(StoreReadOnlyError):
        await writer.commit(size=writer.offset, digests={})
    with pytest.raises(StoreReadOnlyError):
        await store.open_write(OTHER)
    assert files_below(share.at) == []
    assert store.state.mode is StoreMode.AWAY
    assert store.state.reason == "STORE_MOUNT_LOST"


async def test_a_directory_on_a_share_that_is_lost_is_told_as_the_loss_of_the_share(
    share: Share, states: States
) -> None:
    images = share.at / "images"
    images.mkdir(mode=0o750)
    initialise("main", images, mount_point=share.at)
    settings = FileStoreSettings(
        path=images, require_mount=True, mount_point=share.at, watch_interval_s=0.1, timeout_s=5
    )
    opened = await open_file_store("main", settings, observer=states)
    try:
        share.unmount()
        await states.until(lambda: opened.state.mode is StoreMode.AWAY)
        assert opened.state.reason == "STORE_MOUNT_LOST"
        assert "'main'" in opened.state.message
        share.mount()
        await states.until(lambda: opened.state.mode is StoreMode.READ_WRITE)
    finally:
        await opened.aclose()


async def test_a_commit_after_the_share_was_lost_is_refused(store: FileImageStore, share: Share) -> None:
    writer = await store.open_write(KEY)
    await writer.append(b"half")
    share.unmount()
    with pytest.raises(StoreReadOnlyError):
        await writer.commit(size=4, digests={})
    assert files_below(share.at) == []


async def test_a_write_that_looks_for_room_on_a_lost_share_is_refused_as_every_write(
    store: FileImageStore, share: Share
) -> None:
    share.unmount()
    with pytest.raises(StoreReadOnlyError):
        await asyncio.to_thread(store.directories[0].room.require, 1, 0)


async def test_bytes_of_a_lost_share_are_not_said_to_be_missing(store: FileImageStore, share: Share) -> None:
    await put(store, b"image")
    share.unmount()
    for asked in (read(store), store.stat(KEY), store.delete(KEY)):
        with pytest.raises(StoreUnavailableError):
            await asked


async def test_a_store_heals_when_the_same_share_is_back(store: FileImageStore, share: Share, states: States) -> None:
    await put(store, b"image")
    share.unmount()
    await states.until(lambda: store.state.mode is StoreMode.AWAY)  # nobody called: the watch noticed
    share.mount()
    await states.until(lambda: store.state.mode is StoreMode.READ_WRITE)
    assert await read(store) == b"image"
    await put(store, b"more", OTHER)
    assert [state.mode for state in states.seen] == [StoreMode.AWAY, StoreMode.READ_WRITE]


async def test_bytes_of_a_write_that_lost_its_share_are_found_when_it_is_back(
    store: FileImageStore, share: Share, states: States
) -> None:
    writer = await store.open_write(KEY)
    await writer.append(b"half")
    share.unmount()
    with pytest.raises(StoreReadOnlyError):
        await writer.append(b"more")
    await writer.close()
    share.mount()
    await states.until(lambda: store.state.mode is StoreMode.READ_WRITE)
    assert [(blob.size, blob.is_committed) async for blob in store.list()] == [(4, False)]
    await store.delete(KEY)
    assert [blob async for blob in store.list()] == []


@pytest.mark.parametrize("mark", ["none", "another store", "same store"])
async def test_another_share_in_its_place_is_refused(
    store: FileImageStore, share: Share, states: States, tmp_path: Path, mark: str
) -> None:
    share.unmount()
    await states.until(lambda: store.state.mode is StoreMode.AWAY)
    other = Share(tmp_path, "other")
    if mark != "none":
        initialise("main" if mark == "same store" else "second", other.kept)
    other.mount()
    expected = "STORE_SHARE_UNMARKED" if mark == "none" else "STORE_SHARE_OTHER"
    await states.until(lambda: store.state.reason == expected)
    with pytest.raises(StoreReadOnlyError):
        await store.open_write(KEY)
    assert files_below(other.at) == []


async def test_a_share_that_another_was_mounted_over_takes_no_commit(
    store: FileImageStore, share: Share, tmp_path: Path
) -> None:
    writer = await store.open_write(KEY)
    await writer.append(b"half")
    other = Share(tmp_path, "other")
    initialise("main", other.kept)
    other.mount()
    with pytest.raises(StoreUnavailableError):
        await writer.commit(size=4, digests={})
    assert files_below(other.at) == []


async def test_a_mount_that_became_read_only_is_read_and_not_written(
    store: FileImageStore, share: Share, states: States
) -> None:
    await put(store, b"image")
    mount("-o", "remount,ro,bind", share.at)
    await states.until(lambda: store.state.mode is StoreMode.READ_ONLY)
    assert await read(store) == b"image"
    with pytest.raises(StoreReadOnlyError):
        await store.open_write(OTHER)
    mount("-o", "remount,rw,bind", share.at)
    await states.until(lambda: store.state.mode is StoreMode.READ_WRITE)
    await put(store, b"more", OTHER)


async def test_a_store_that_starts_before_its_share_is_mounted_waits_for_it(share: Share, states: States) -> None:
    share.unmount()
    settings = FileStoreSettings(path=share.at, require_mount=True, watch_interval_s=0.1)
    store = await open_file_store("main", settings, observer=states)
    try:
        with pytest.raises(StoreReadOnlyError):
            await store.open_write(KEY)
        assert files_below(share.at) == []
        share.mount()
        await states.until(lambda: store.state.mode is StoreMode.READ_WRITE)
        await put(store, b"image")
    finally:
        await store.aclose()


async def test_only_a_mounted_share_can_be_marked(share: Share) -> None:
    share_id = initialise("main", share.at).share_id
    assert initialise("main", share.at).share_id == share_id
    with pytest.raises(ConfigurationError):
        initialise("second", share.at)
    share.unmount()
    with pytest.raises(ConfigurationError):
        initialise("main", share.at)
    assert os.listdir(share.at) == []


async def test_a_full_share_is_full_and_not_lost(store: FileImageStore, share: Share) -> None:
    writer = await store.open_write(KEY)
    with pytest.raises(StoreFullError):
        await append_for_ever(writer, os.urandom(MIB))
    await writer.abort()
    assert store.state.mode is StoreMode.READ_WRITE
    with pytest.raises(BlobNotFoundError):
        await store.stat(KEY)
    await put(store, b"fits")


@pytest.mark.parametrize("mode", [0o755, 0o000])
async def test_the_bare_mount_point_is_seen_beneath_the_share(tmp_path: Path, mode: int) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    mount("-t", "tmpfs", "parent", parent)
    share = Share(parent)
    share.at.chmod(mode)
    share.mount()
    initialise("main", share.at)
    store = await open_file_store("main", FileStoreSettings(path=share.at, require_mount=True))
    try:
        (found,) = [finding for finding in await store.examine() if finding.name == "mount-point-unwritable"]
    finally:
        await store.aclose()
    assert found.grade is (Grade.BAD if mode else Grade.DOUBTFUL)  # root may write to a directory of mode 0
    assert "chattr +i" in found.advice


async def test_each_published_practice_for_shares_is_a_finding(store: FileImageStore) -> None:
    found = {finding.name: finding for finding in await store.examine()}
    practices = {"back-end", "mount-guard", "mount-point-unwritable", "mount-network", "monitoring", "permissions"}
    assert practices <= found.keys()
    assert found["back-end"].grade is Grade.DOUBTFUL  # it is in memory
    assert found["monitoring"].grade is Grade.GOOD
    await store.aclose()
    assert not any(directory.is_watched for directory in store.directories)
