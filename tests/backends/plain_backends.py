"""The stores without a system of their own beneath them, a directory and the memory, for the fault suite."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from prometheus_client import CollectorRegistry

from tests.backends.store_backend import CannotBeBrokenError
from tintype.adapters.decorators.metrics import StoreMetrics
from tintype.adapters.decorators.stack import decorated
from tintype.adapters.filesystem.settings import FileStoreSettings
from tintype.adapters.memory.store import MemoryImageStore
from tintype.adapters.store_section import StoreSection
from tintype.adapters.stores import open_store
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


class DirectoryBackend(_Unbreakable):
    """A :class:`~tests.backends.store_backend.StoreBackend`: a directory on a small file system of its own."""

    name = "file"
    what = "a local directory"

    def __init__(self, directory: Path) -> None:
        self._mount = directory / "mount"
        self._mount.mkdir()
        self._is_mounted = os.geteuid() == 0
        if self._is_mounted:
            options = f"size={_SIZE_BYTES}"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self._mount)], check=True)
        self._root = self._mount / "store"
        self._filling = self._mount / "filling"

    async def open(self) -> ImageStore:
        return await open_store("main", FileStoreSettings(path=self._root, timeout_s=_TIMEOUT_S))

    def settings_file(self, directory: Path) -> str:
        return f'[stores.main]\ntype = "file"\npath = {json.dumps(str(self._root))}\ntimeout_s = {_TIMEOUT_S}\n'

    async def open_with_missing_place(self) -> ImageStore:
        missing = self._mount / "removed"
        store = await open_store("main", FileStoreSettings(path=missing, timeout_s=_TIMEOUT_S))
        shutil.rmtree(missing)
        return store

    async def fill(self) -> None:
        if not self._is_mounted:
            raise CannotBeBrokenError("a small file system can be mounted by root alone")
        with self._filling.open("wb") as file:
            while free := os.statvfs(self._mount).f_bavail:
                file.write(bytes(min(free, 64) * os.statvfs(self._mount).f_frsize))
                file.flush()

    async def relieve(self) -> None:
        self._filling.unlink(missing_ok=True)

    async def corrupt(self, key: str) -> None:
        path = self._root / "blobs" / key
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    async def remains(self) -> list[str]:
        return [str(path.relative_to(self._root)) for path in self._root.rglob("*") if path.is_file()]

    async def aclose(self) -> None:
        if self._is_mounted:
            subprocess.run(["umount", "--lazy", str(self._mount)], check=True)


class MemoryBackend(_Unbreakable):
    """A :class:`~tests.backends.store_backend.StoreBackend`: the memory of this process."""

    name = "memory"
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
