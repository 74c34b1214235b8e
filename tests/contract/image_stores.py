"""Every kind of store, made ready and empty for one test of the contract suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from tests.backends.ceph import Ceph
from tests.backends.cinder import Cinder
from tests.backends.faulty_filesystem import FaultyShare
from tests.backends.rbd_store import emptied, rbd_settings
from tests.backends.s3 import S3Server, new_bucket, s3_of_ceph, s3_of_swift
from tests.backends.swift_store import swift_settings
from tintype.adapters.cinder.opening import open_cinder
from tintype.adapters.filesystem.mount_marker import initialise
from tintype.adapters.filesystem.opening import open_file_store
from tintype.adapters.filesystem.settings import FileStoreSettings
from tintype.adapters.filesystem.store import FileImageStore
from tintype.adapters.memory.store import MemoryImageStore
from tintype.adapters.rbd.store import RbdImageStore
from tintype.adapters.s3.store import S3ImageStore
from tintype.adapters.stores import open_store
from tintype.adapters.swift.store import SwiftImageStore
from tintype.ports.image_store import ImageStore
from tintype.runtime.clock import SystemClock

Opening = Callable[[pytest.FixtureRequest, Path], AbstractAsyncContextManager[ImageStore]]


@asynccontextmanager
async def memory(request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[ImageStore]:
    """The reference implementation."""
    yield MemoryImageStore("main", SystemClock())


@asynccontextmanager
async def file(request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[ImageStore]:
    """A directory."""
    store = FileImageStore("main", directory / "store")
    await store.prepare()
    yield store
    await store.aclose()


@asynccontextmanager
async def decorated_file(request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[ImageStore]:
    """A directory, with everything around it that a store can have, as services open it."""
    settings = FileStoreSettings(path=directory / "store", write_bytes_s=1 << 30, read_bytes_s=1 << 30)
    store = await open_store("main", settings)
    yield store
    await store.aclose()


@asynccontextmanager
async def s3_swift(request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[ImageStore]:
    """A bucket of Swift's s3api."""
    async with _in_new_bucket(s3_of_swift(request.getfixturevalue("swift"))) as store:
        yield store


@asynccontextmanager
async def s3_rgw(request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[ImageStore]:
    """A bucket of Ceph's object gateway."""
    async with _in_new_bucket(s3_of_ceph(request.getfixturevalue("ceph"))) as store:
        yield store


@asynccontextmanager
async def _in_new_bucket(server: S3Server) -> AsyncIterator[ImageStore]:
    with new_bucket(server) as bucket:
        store = S3ImageStore("main", server.settings(bucket))
        yield store
        await store.aclose()


@asynccontextmanager
async def rbd(request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[ImageStore]:
    """A pool of a real Ceph."""
    cluster: Ceph = request.getfixturevalue("ceph")
    emptied(cluster)
    store = RbdImageStore("main", rbd_settings(cluster))
    await store.prepare()
    yield store
    await store.aclose()


@asynccontextmanager
async def cinder(request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[ImageStore]:
    """Volumes of a real Cinder, in a real Ceph."""
    service: Cinder = request.getfixturevalue("cinder")
    service.empty()
    store = open_cinder("main", service.settings())
    yield store
    await store.aclose()


@asynccontextmanager
async def swift(request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[ImageStore]:
    """Two containers of Swift."""
    store = SwiftImageStore("main", swift_settings(request.getfixturevalue("swift"), directory))
    await store.prepare()
    yield store
    await store.aclose()


@asynccontextmanager
async def several_directories(request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[ImageStore]:
    """Two directories with weights."""
    settings = FileStoreSettings(path=directory / "store", paths=(f"{directory / 'second'}=200",))
    store = await open_file_store("main", settings)
    yield store
    await store.aclose()


@asynccontextmanager
async def nfs(request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[ImageStore]:
    """A guarded directory on a share: like NFS it keeps files that are removed while they are open."""
    share: FaultyShare = request.getfixturevalue("served_share")
    path = share.at / directory.name
    path.mkdir(mode=0o750)
    initialise("main", path, mount_point=share.at)
    store = await open_file_store("main", FileStoreSettings(path=path, require_mount=True, mount_point=share.at))
    yield store
    await store.aclose()


STORES: tuple[tuple[str, Opening, tuple[pytest.MarkDecorator, ...]], ...] = (
    ("file", file, ()),
    ("file-decorated", decorated_file, ()),
    ("several-directories", several_directories, ()),
    ("nfs", nfs, (pytest.mark.mounts,)),
    ("memory", memory, ()),
    ("s3-swift", s3_swift, (pytest.mark.swift,)),
    ("swift", swift, (pytest.mark.swift,)),
    ("s3-rgw", s3_rgw, (pytest.mark.ceph,)),
    ("rbd", rbd, (pytest.mark.ceph,)),
    ("cinder", cinder, (pytest.mark.cinder,)),
)
"""Name, opening and marks of each; what a store needs to run is asked of the request's fixtures."""


def params() -> list[object]:
    """For a fixture that runs a test on every store."""
    return [pytest.param(opening, id=name, marks=marks) for name, opening, marks in STORES]
