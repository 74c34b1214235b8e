"""Every kind of store, made ready and empty for one test of the contract suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from tests.backends.ceph import Ceph
from tests.backends.cinder import Cinder
from tests.backends.rbd_store import emptied, rbd_settings
from tintype.adapters.cinder.opening import open_cinder
from tintype.adapters.filesystem.store import FileImageStore
from tintype.adapters.memory.store import MemoryImageStore
from tintype.adapters.rbd.store import RbdImageStore
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
async def rbd(request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[ImageStore]:
    """A pool of a real Ceph."""
    cluster: Ceph = request.getfixturevalue("ceph")
    emptied(cluster)
    store = RbdImageStore("main", rbd_settings(cluster))
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


STORES: tuple[tuple[str, Opening, tuple[pytest.MarkDecorator, ...]], ...] = (
    ("file", file, ()),
    ("memory", memory, ()),
    ("rbd", rbd, (pytest.mark.ceph,)),
    ("cinder", cinder, (pytest.mark.cinder,)),
)
"""Name, opening and marks of each; what a store needs to run is asked of the request's fixtures."""


def params() -> list[object]:
    """For a fixture that runs a test on every store."""
    return [pytest.param(opening, id=name, marks=marks) for name, opening, marks in STORES]
