"""The store without a system of its own beneath it, the memory, for the fault suite."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry

from tests.backends.store_backend import ANY_SYSTEM, CannotBeBrokenError, Told
from tintype.adapters.decorators.metrics import StoreMetrics
from tintype.adapters.decorators.stack import decorated
from tintype.adapters.memory.store import MemoryImageStore
from tintype.adapters.store_section import StoreSection
from tintype.ports.image_store import ImageStore
from tintype.runtime.clock import SystemClock

_TIMEOUT_S = 2.0
_SIZE_BYTES = 16 * 1024 * 1024


class _Unbreakable:
    """What has neither servers nor users."""

    what = ""

    async def open_with_wrong_credentials(self) -> ImageStore:
        raise CannotBeBrokenError(f"{self.what} has no credentials")

    async def kill(self) -> None:
        raise CannotBeBrokenError(f"{self.what} has no server")

    async def start(self) -> None: ...

    async def freeze(self) -> None:
        raise CannotBeBrokenError(f"{self.what} has no server")

    async def thaw(self) -> None: ...

    async def slow_down(self, bytes_s: int) -> None:
        raise CannotBeBrokenError(f"{self.what} has no server")

    async def speed_up(self) -> None: ...


class MemoryBackend(_Unbreakable):
    """A :class:`~tests.backends.store_backend.StoreBackend`: the memory of this process."""

    name = "memory"
    told = ANY_SYSTEM | {"full": Told.by("STORE_FULL", why="it has a bound of its own")}
    what = "memory"

    def __init__(self) -> None:
        self._store = MemoryImageStore("main", SystemClock(), capacity=_SIZE_BYTES)
        self._filling = "00000000-0000-4000-8000-000000000000/00000000-0000-4000-8000-000000000000/filling"

    async def open(self) -> ImageStore:
        return decorated(self._store, StoreSection(), SystemClock(), StoreMetrics(CollectorRegistry()))

    def settings_file(self, directory: Path) -> str:
        raise CannotBeBrokenError("memory is gone with its process")

    async def open_with_missing_place(self) -> ImageStore:
        raise CannotBeBrokenError("memory has no place that could be missing")

    async def fill(self) -> None:
        space = await self._store.space()
        writer = await self._store.open_write(self._filling)
        await writer.append(bytes(space.free if space else 0))
        await writer.close()

    async def relieve(self) -> None:
        await self._store.delete(self._filling)

    async def corrupt(self, key: str) -> None:
        data = self._store.committed[key].data
        data[len(data) // 2] ^= 1

    async def remains(self) -> list[str]:
        return [*self._store.committed, *self._store.uncommitted]

    async def aclose(self) -> None: ...
