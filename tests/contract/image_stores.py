"""Every kind of store, made ready and empty for one test of the contract suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from tests.backends.faulty_filesystem import FaultyShare
from tintype.adapters.filesystem.mount_marker import initialise
from tintype.adapters.filesystem.opening import open_file_store
from tintype.adapters.filesystem.settings import FileStoreSettings
from tintype.adapters.filesystem.store import FileImageStore
from tintype.adapters.memory.store import MemoryImageStore
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
    ("several-directories", several_directories, ()),
    ("nfs", nfs, (pytest.mark.mounts,)),
    ("memory", memory, ()),
)
"""Name, opening and marks of each; what a store needs to run is asked of the request's fixtures."""


def params() -> list[object]:
    """For a fixture that runs a test on every store."""
    return [pytest.param(opening, id=name, marks=marks) for name, opening, marks in STORES]
