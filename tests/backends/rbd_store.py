"""A Ceph beneath an RBD store, to be broken in every way that it can be, and mended."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from tests.backends.ceph import Ceph
from tests.backends.store_backend import SERVER, CannotBeBrokenError, Told
from tintype.adapters.rbd.settings import RbdStoreSettings
from tintype.adapters.stores import open_store
from tintype.ports.image_store import ImageStore

TIMEOUT_S = 2.0


def rbd_settings(cluster: Ceph, **fields: Any) -> RbdStoreSettings:
    """The pool ``images``, as its user."""
    known: dict[str, Any] = {
        "type": "rbd",
        "user": "tintype",
        "conf_file": cluster.conf,
        "keyring_file": cluster.keyring("tintype"),
        "timeout_s": 20.0,
    }
    return RbdStoreSettings(**{**known, **fields})


def in_pool(cluster: Ceph, pool: str = "images") -> list[str]:
    """Names of all images and of all in the trash."""
    return cluster.run_with_bindings(_NAMES, pool)


def emptied(cluster: Ceph) -> None:
    """Remove whatever an earlier test left, clones first."""
    cluster.run_with_bindings(_EMPTY)


class RbdBackend:
    """A :class:`~tests.backends.store_backend.StoreBackend`; the cluster belongs to the whole test session."""

    name = "rbd"
    told = SERVER | {
        "back end killed in mid-write, and back": Told.by("STORE_TIMEOUT", why="an OSD that is away is waited for"),
        "full": Told.by("STORE_FULL", why="OSDs refuse what needs room, where the caller says that it does not wait"),
    }

    def __init__(self, cluster: Ceph) -> None:
        self._cluster = cluster
        self._stores: list[ImageStore] = []
        self._is_frozen = self._is_full = False
        emptied(cluster)

    async def open(self) -> ImageStore:
        """A store with short deadlines."""
        return await self._open()

    async def _open(self, **fields: Any) -> ImageStore:
        store = await open_store("main", rbd_settings(self._cluster, **{"timeout_s": TIMEOUT_S, **fields}))
        self._stores.append(store)
        return store

    def settings_file(self, directory: Path) -> str:
        """The table for a service of its own process."""
        fields = {
            "type": "rbd",
            "user": "tintype",
            "conf_file": str(self._cluster.conf),
            "keyring_file": str(self._cluster.keyring("tintype")),
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in fields.items()]
        return "\n".join(["[stores.main]", *lines, f"timeout_s = {TIMEOUT_S}", ""])

    async def open_with_wrong_credentials(self) -> ImageStore:
        """The user with another one's key."""
        wrong = self._cluster.conf.with_name("wrong.keyring")
        wrong.write_text(self._cluster.keyring("cinder").read_text().replace("client.cinder", "client.tintype"))
        return await self._open(keyring_file=wrong)

    async def open_with_missing_place(self) -> ImageStore:
        """A pool that is not there."""
        return await self._open(pool="nowhere")

    async def kill(self) -> None:
        """Freeze: an OSD in memory would lose everything, which no OSD on a disk does."""
        await self.freeze()

    async def start(self) -> None:
        """End :meth:`kill`."""
        await self.thaw()

    async def freeze(self) -> None:
        """The OSD hangs."""
        self._cluster.freeze_osd()
        self._is_frozen = True

    async def thaw(self) -> None:
        """It goes on."""
        self._cluster.thaw_osd()
        self._is_frozen = False

    async def slow_down(self, bytes_s: int) -> None:
        """Clients and OSD speak directly, at addresses that the monitor gives out: nothing can stand between them."""
        raise CannotBeBrokenError("Ceph's clients and OSDs speak to each other directly")

    async def speed_up(self) -> None:
        """There is nothing to end."""

    async def fill(self) -> None:
        """The cluster is above its full ratio."""
        self._cluster.fill()
        self._is_full = True

    async def relieve(self) -> None:
        """It has room again."""
        self._cluster.relieve()
        self._is_full = False

    async def corrupt(self, key: str) -> None:
        """Change one bit in the first object of the image."""
        self._cluster.run_with_bindings(_CORRUPT, key.replace("/", "."))

    async def remains(self) -> list[str]:
        """Images, and what is in the trash."""
        return in_pool(self._cluster)

    async def aclose(self) -> None:
        """Mend the cluster, and empty it."""
        if self._is_frozen:
            await self.thaw()
        if self._is_full:
            await self.relieve()
        for store in self._stores:
            with contextlib.suppress(Exception):
                await store.aclose()
        emptied(self._cluster)


_CONNECT = """
import json, rados, rbd, sys
cluster = rados.Rados(
    conffile=sys.argv[1], name="client.admin", conf={"keyring": sys.argv[2], "rados_osd_op_timeout": "60"}
)
cluster.connect(timeout=60)
images = rbd.RBD()
"""

_NAMES = f"""{_CONNECT}
io = cluster.open_ioctx(sys.argv[3])
print(json.dumps(sorted(images.list(io)) + sorted("trash:" + entry["name"] for entry in images.trash_list(io))))
"""

_EMPTY = f"""{_CONNECT}
import time
def empty(pool):
    io = cluster.open_ioctx(pool)
    for name in images.list(io):
        images.rename(io, name, "going")  # under a writer of a process that was killed, too
        with rbd.Image(io, "going") as image:
            for snapshot in list(image.list_snaps()):
                if image.is_protected_snap(snapshot["name"]):
                    image.unprotect_snap(snapshot["name"])
                image.remove_snap(snapshot["name"])
        for attempt in range(200):
            try:
                images.remove(io, "going")
                break
            except rbd.ImageBusy:
                time.sleep(0.1)
    for entry in images.trash_list(io):
        with rbd.Image(io, image_id=entry["id"]) as image:
            for snapshot in list(image.list_snaps()):
                if image.is_protected_snap(snapshot["name"]):
                    image.unprotect_snap(snapshot["name"])
                image.remove_snap(snapshot["name"])
        images.trash_remove(io, entry["id"], True)
for pool in ("vms", "volumes", "images"):
    empty(pool)
print("[]")
"""

_CORRUPT = f"""{_CONNECT}
io = cluster.open_ioctx("images")
with rbd.Image(io, sys.argv[3], read_only=True) as image:
    prefix = image.block_name_prefix()
name = sorted(found.key for found in io.list_objects() if found.key.startswith(prefix + "."))[0]
# Snapshots share the object with the image's head: a write through RADOS alone changes both.
byte = io.read(name, 1)
io.write(name, bytes([byte[0] ^ 1]), 0)
print("[]")
"""
