"""A file store in several directories, with hard caps, on file systems that run full and under permissions."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.backends.private_mounts import mount, unmount
from tintype.adapters.filesystem.opening import open_file_store
from tintype.adapters.filesystem.settings import FileStoreSettings
from tintype.adapters.filesystem.store import FileImageStore
from tintype.domain.errors import (
    BlobNotFoundError,
    ConfigurationError,
    StoreDeviceError,
    StoreFullError,
    StoreObjectTooLargeError,
    StoreQuotaExceededError,
    UploadBusyError,
)

KEY = "6f1c1a44-8a3e-4cf4-9d0c-0d3c1f9f0a01/9b2d1a44-8a3e-4cf4-9d0c-0d3c1f9f0b01/source"
OTHER = KEY.replace("source", "output")
MIB = 1024 * 1024


@asynccontextmanager
async def opened(path: Path, **settings: object):  # type: ignore[no-untyped-def]
    store = await open_file_store("main", FileStoreSettings.model_validate({"path": path, **settings}))
    try:
        yield store
    finally:
        await store.aclose()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    at = tmp_path / "mnt"
    at.mkdir()
    yield at
    subprocess.run(["umount", "-l", at], check=False, capture_output=True, timeout=60)


async def put(store: FileImageStore, data: bytes, key: str = KEY) -> None:
    writer = await store.open_write(key)
    await writer.append(data)
    await writer.commit(size=len(data), digests={})


async def fill(store: FileImageStore, key: str = KEY) -> None:
    writer = await store.open_write(key)
    try:
        for _ in range(256):
            await writer.append(os.urandom(MIB))
        await writer.commit(size=256 * MIB, digests={})
    finally:
        await writer.abort()


def has(root: Path, key: str = KEY) -> bool:
    return (root / "blobs" / key).exists()


async def test_new_bytes_go_to_the_greatest_weight_that_has_room(tmp_path: Path, mounted: Path) -> None:
    mount("-t", "tmpfs", "-o", "size=2m,mode=0750", "small", mounted)
    async with opened(tmp_path / "a", paths=(f"{mounted}=200",), reserve_bytes=MIB) as store:
        await put(store, os.urandom(MIB // 2))
        (mounted / "filler").write_bytes(os.urandom(MIB))
        await put(store, b"y", OTHER)
        assert has(mounted) and not has(tmp_path / "a")
        assert has(tmp_path / "a", OTHER)
        assert {blob.key async for blob in store.list()} == {KEY, OTHER}


async def test_a_replacement_stays_in_the_directory_of_what_it_replaces(tmp_path: Path) -> None:
    async with opened(tmp_path / "a") as store:
        await put(store, b"damaged")
    async with opened(tmp_path / "a", paths=(f"{tmp_path / 'b'}=200",)) as store:
        writer = await store.open_write(KEY, replace=True)
        await writer.append(b"sound")
        await writer.commit(size=5, digests={})
        assert (tmp_path / "a/blobs" / KEY).read_bytes() == b"sound"
        assert not has(tmp_path / "b")


async def test_a_key_has_one_writer_in_all_directories(tmp_path: Path) -> None:
    async with (
        opened(tmp_path / "a") as alone,
        opened(tmp_path / "a", paths=(f"{tmp_path / 'b'}=200",)) as both,
    ):
        writer = await alone.open_write(KEY)
        with pytest.raises(UploadBusyError):
            await both.open_write(KEY)
        await writer.abort()


async def test_who_lists_a_store_is_never_in_a_writers_way(tmp_path: Path) -> None:
    async with opened(tmp_path / "a") as store:
        is_over = asyncio.Event()

        async def list_for_ever() -> None:
            while not is_over.is_set():
                _ = [blob async for blob in store.list()]

        listing = asyncio.create_task(list_for_ever())
        for _ in range(200):
            writer = await store.open_write(KEY)  # never UploadBusyError
            await writer.close()
        is_over.set()
        await listing


async def test_hard_caps_refuse_before_the_file_system_does(tmp_path: Path, mounted: Path) -> None:
    mount("-t", "tmpfs", "-o", "size=64m,mode=0750", "capped", mounted)
    async with opened(mounted, reserve_bytes=16 * MIB) as store:
        with pytest.raises(StoreFullError):
            await fill(store)
        assert os.statvfs(mounted).f_bavail * os.statvfs(mounted).f_frsize >= 16 * MIB
    async with opened(mounted, max_bytes=4 * MIB) as store:
        with pytest.raises(StoreFullError):
            await fill(store)
    async with opened(mounted, max_object_bytes=2 * MIB) as store:
        with pytest.raises(StoreObjectTooLargeError):
            await fill(store)
        assert [blob async for blob in store.list()] == []


async def test_a_thin_volume_that_is_full_loses_nothing_that_was_committed(tmp_path: Path, mounted: Path) -> None:
    """Every write succeeds there, and only fsync tells."""
    pool = tmp_path / "pool"
    pool.mkdir()
    mount("-t", "tmpfs", "-o", "size=24m", "pool", pool)
    subprocess.run(["truncate", "-s", "400M", pool / "image"], check=True)
    make: list[str | Path] = [
        "mkfs.ext4",
        "-q",
        "-F",
        "-O",
        "^has_journal",
        "-E",
        "nodiscard,lazy_itable_init=1",
        pool / "image",
    ]
    subprocess.run(make, check=True, capture_output=True)
    mount("-o", "loop", pool / "image", mounted)
    mounted.chmod(0o750)
    try:
        async with opened(mounted) as store:
            await put(store, b"image")
            with pytest.raises((StoreFullError, StoreDeviceError)):
                await fill(store, OTHER)
            assert b"".join([piece async for piece in store.read(KEY)]) == b"image"
            with pytest.raises(BlobNotFoundError):
                _ = [piece async for piece in store.read(OTHER)]
    finally:
        unmount(mounted)
        unmount(pool)


async def test_a_quota_is_told_from_a_full_disk(tmp_path: Path, mounted: Path) -> None:
    image = tmp_path / "btrfs"
    subprocess.run(["truncate", "-s", "256M", image], check=True)
    subprocess.run(["mkfs.btrfs", "-q", "-f", image], check=True, capture_output=True)
    mount("-o", "loop", image, mounted)
    for command in (("quota", "enable", mounted), ("subvolume", "create", mounted / "images")):
        subprocess.run(["btrfs", *command], check=True, capture_output=True)
    subprocess.run(["btrfs", "qgroup", "limit", "10m", mounted / "images"], check=True, capture_output=True)
    async with opened(mounted / "images") as store:
        with pytest.raises(StoreQuotaExceededError):
            await fill(store)


@pytest.mark.parametrize("mode", [0o777, 0o757])
async def test_a_directory_that_everybody_may_write_to_is_refused_with_what_mends_it(tmp_path: Path, mode: int) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod o-w"):
        await open_file_store("main", FileStoreSettings(path=tmp_path / "a"))


async def test_files_have_the_mode_that_is_set_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        async with opened(tmp_path / "a", file_mode="0640") as store:
            await put(store, b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a/blobs" / KEY).stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "a/blobs" / KEY).parent.stat().st_mode & 0o777 == 0o750
