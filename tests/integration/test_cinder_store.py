"""A store in a real Cinder: what goes wrong between the host and its volumes, and what a killed process leaves.

Where a kernel would attach a block device (iSCSI, Fibre Channel, NVMe-oF), a file stands in behind the same seam.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.backends.ceph import Ceph
from tests.backends.cinder import SINGLE, Cinder
from tests.backends.cinder_store import CinderBackend
from tintype.adapters.cinder.attaching import Device, PathDevice
from tintype.adapters.cinder.client import CinderClient
from tintype.adapters.cinder.opening import open_cinder
from tintype.adapters.cinder.records import GIB
from tintype.adapters.cinder.store import CinderImageStore
from tintype.adapters.cinder.writer import CinderWriter
from tintype.domain.errors import (
    StoreFullError,
    StoreMissingError,
    StoreQuotaExceededError,
    StoreTimeoutError,
    StoreUnavailableError,
    UploadBusyError,
)
from tintype.ports.image_store import ImageStore

pytestmark = pytest.mark.cinder

KEY = "6f1c1a44-8a3e-4cf4-9d0c-0d3c1f9f0a01/9b2d1a44-8a3e-4cf4-9d0c-0d3c1f9f0b01/source"


class FileAttaching:
    """Each volume is a sparse file, as large as Cinder says at the moment of its connection."""

    def __init__(self, directory: Path, size: Callable[[str], int]) -> None:
        self._directory = directory
        self._size = size
        self.failures: list[Exception] = []
        self.connected: list[str] = []

    def properties(self) -> Mapping[str, Any]:
        return {"host": "here", "ip": "127.0.0.1", "platform": "x86_64", "os_type": "linux", "multipath": False}

    def connect(self, connection: Mapping[str, Any]) -> tuple[Device, object]:
        if self.failures:
            raise self.failures.pop(0)
        name = str(connection["name"]).partition("volume-")[2]
        path = self._directory / name
        with path.open("ab") as file:
            file.truncate(self._size(name))
        self.connected.append(name)
        return PathDevice(str(path)), name

    def disconnect(self, connection: Mapping[str, Any], connected: tuple[Device, object]) -> None:
        device, name = connected
        assert isinstance(device, PathDevice)
        device.close()
        self.connected.remove(str(name))


@pytest.fixture
def empty(cinder: Cinder) -> Cinder:
    cinder.empty()
    return cinder


@pytest.fixture
def attaching(empty: Cinder, tmp_path: Path) -> FileAttaching:
    def size(name: str) -> int:
        return int(empty.call("GET", f"/volumes/{name}")["volume"]["size"]) * GIB

    return FileAttaching(tmp_path, size)


@pytest.fixture
async def on_files(empty: Cinder, attaching: FileAttaching) -> AsyncIterator[ImageStore]:
    settings = empty.settings()
    store = CinderImageStore(
        "main", CinderClient("main", settings), attaching, volume_type=SINGLE, timeout_s=20, wait_s=30
    )
    yield store
    await store.aclose()


async def read(store: ImageStore) -> bytes:
    return b"".join([piece async for piece in store.read(KEY)])


async def put(store: ImageStore, data: bytes) -> None:
    writer = await store.open_write(KEY)
    await writer.append(data)
    await writer.commit(size=len(data), digests={})


def attachments(cinder: Cinder) -> list[object]:
    found: list[object] = cinder.call("GET", "/attachments")["attachments"]
    return found


async def test_a_volume_that_is_a_path_is_written_and_read(
    on_files: ImageStore, attaching: FileAttaching, empty: Cinder
) -> None:
    await put(on_files, b"through a path")
    assert await read(on_files) == b"through a path"
    assert attaching.connected == []
    assert attachments(empty) == []


async def test_an_attaching_that_fails_is_tried_again_and_leaves_nothing(
    on_files: ImageStore, attaching: FileAttaching, empty: Cinder
) -> None:
    attaching.failures = [OSError(5, "no path to the storage"), RuntimeError("os-brick gave up")]
    writer = await on_files.open_write(KEY)
    assert attaching.failures == []
    assert len(attachments(empty)) == 1
    await writer.abort()
    assert attachments(empty) == []
    assert empty.volumes() == []


async def test_an_attaching_that_never_works_ends_and_leaves_no_volume(empty: Cinder, attaching: FileAttaching) -> None:
    attaching.failures = [OSError(5, "no path to the storage")] * 1000
    store = CinderImageStore(
        "main", CinderClient("main", empty.settings()), attaching, volume_type=SINGLE, timeout_s=20, wait_s=2
    )
    with pytest.raises(StoreUnavailableError) as caught:
        await store.open_write(KEY)
    assert "no path" not in caught.value.message
    assert attachments(empty) == []
    assert empty.volumes() == []
    await store.aclose()


async def test_a_block_device_that_is_too_small_is_extended_while_it_is_detached(
    on_files: ImageStore, attaching: FileAttaching, empty: Cinder
) -> None:
    writer = await on_files.open_write(KEY)
    assert isinstance(writer, CinderWriter)
    await writer.append(b"begin")
    writer._offset = GIB - 2  # as if so much had been appended
    await writer.append(b"four")
    assert [volume["size"] for volume in empty.volumes()] == [2]
    assert len(attaching.connected) == len(attachments(empty)) == 1
    await writer.commit(size=GIB + 2, digests={})
    assert b"".join([piece async for piece in on_files.read(KEY, offset=GIB - 2)]) == b"four"
    assert b"".join([piece async for piece in on_files.read(KEY, length=5)]) == b"begin"


async def test_a_volume_that_is_too_small_is_extended_while_it_is_attached(empty: Cinder) -> None:
    store = open_cinder("main", empty.settings())
    writer = await store.open_write(KEY)
    writer._offset = GIB - 2  # as if so much had been appended
    await writer.append(b"four")
    assert [volume["size"] for volume in empty.volumes()] == [2]
    await writer.commit(size=GIB + 2, digests={})
    assert b"".join([piece async for piece in store.read(KEY, offset=GIB - 2)]) == b"four"
    await store.delete(KEY)
    assert empty.volumes() == []
    await store.aclose()


async def test_a_quota_that_is_used_up_is_named_so(empty: Cinder) -> None:
    store = open_cinder("main", empty.settings())
    project = "d0000000000000000000000000000000"
    empty.call("PUT", f"/os-quota-sets/{project}", {"quota_set": {"gigabytes": 0}})
    try:
        with pytest.raises(StoreQuotaExceededError):
            await store.open_write(KEY)
        space = await store.space()
        assert space is not None and space.free == 0
    finally:
        empty.call("PUT", f"/os-quota-sets/{project}", {"quota_set": {"gigabytes": 1000}})
        await store.aclose()
    assert empty.volumes() == []


async def test_a_type_that_no_backend_has_room_for_is_a_full_store(empty: Cinder) -> None:
    made = empty.call(
        "POST", "/types", {"volume_type": {"name": "nowhere", "extra_specs": {"volume_backend_name": "nowhere"}}}
    )
    store = open_cinder("main", empty.settings(volume_type="nowhere"))
    try:
        with pytest.raises(StoreFullError):
            await store.open_write(KEY)
        assert empty.volumes() == []
    finally:
        await store.aclose()
        empty.call("DELETE", f"/types/{made['volume_type']['id']}")


async def test_a_type_that_is_missing_is_named_so(empty: Cinder) -> None:
    store = open_cinder("main", empty.settings(volume_type="unheard-of"))
    with pytest.raises(StoreMissingError):
        await store.open_write(KEY)
    assert "bad" in [finding.grade for finding in await store.examine()]
    await store.aclose()


async def test_a_cinder_that_is_killed_and_back_has_lost_nothing_that_was_committed(cinder: Cinder, ceph: Ceph) -> None:
    backend = CinderBackend(cinder, ceph)
    store = await backend.open()
    await put(store, b"committed")
    writer = await store.open_write(KEY.replace("source", "output"))
    await writer.append(b"half")
    await backend.kill()
    with pytest.raises(StoreUnavailableError):
        await writer.commit(size=4, digests={})
    with pytest.raises(StoreUnavailableError):
        await store.check()
    await backend.start()
    assert await read(store) == b"committed"
    while [stored async for stored in store.list() if stored.is_leased]:
        pass
    for stored in [stored async for stored in store.list()]:
        assert stored.is_committed == (stored.key == KEY)
        await store.delete(stored.key)
    assert await backend.remains() == []
    await backend.aclose()


async def test_a_cinder_that_hangs_is_given_up_at_the_deadline(cinder: Cinder, ceph: Ceph) -> None:
    backend = CinderBackend(cinder, ceph)
    store = await backend.open()
    await backend.freeze()
    with pytest.raises(StoreTimeoutError):
        await store.check()
    await backend.thaw()
    await store.check()
    await backend.aclose()


_WRITER = """
import asyncio, json, sys
from tests.backends.cinder import require_bindings
from tintype.adapters.cinder.opening import open_cinder
from tintype.adapters.cinder.settings import CinderStoreSettings
require_bindings()
async def main():
    store = open_cinder("main", CinderStoreSettings(**json.loads(sys.argv[1])))
    writer = await store.open_write(sys.argv[2])
    await writer.append(b"survives")
    await writer._note()
    print("written", flush=True)
    await asyncio.sleep(3600)
asyncio.run(main())
"""


async def test_a_killed_writer_is_taken_over_once_its_lease_has_lapsed(empty: Cinder) -> None:
    settings = empty.settings(lease_s=3)
    store = open_cinder("main", settings)
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _WRITER, json.dumps(settings.model_dump(mode="json")), KEY],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])},
    ) as process:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == b"written\n"
        with pytest.raises(UploadBusyError):
            await store.open_write(KEY, resume=True)
        assert [stored.is_leased async for stored in store.list()] == [True]
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait)
    while [stored async for stored in store.list() if stored.is_leased]:
        pass
    writer = await store.open_write(KEY, resume=True)
    assert writer.offset == 8
    assert len(attachments(empty)) == 1
    await writer.commit(size=8, digests={})
    assert await read(store) == b"survives"
    assert attachments(empty) == []
    await store.aclose()
