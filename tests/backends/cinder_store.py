"""Cinder under the fault suite: its one process is killed and frozen; the Ceph beneath it goes on."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from tests.backends.ceph import Ceph
from tests.backends.cinder import PROJECT, Cinder
from tests.backends.store_backend import SERVER, CannotBeBrokenError, Told
from tintype.adapters.stores import open_store
from tintype.ports.image_store import ImageStore

TIMEOUT_S = 5
WAIT_S = 15
LEASE_S = 3


class CinderBackend:
    """A :class:`~tests.backends.store_backend.StoreBackend` of volumes in one project."""

    name = "cinder"
    told = SERVER | {
        "back end killed in mid-write, and back": Told.by("STORE_UNAVAILABLE", why="connections are refused"),
        "full": Told.by("STORE_QUOTA_EXCEEDED", why="the project may have no further gibibyte"),
    }

    def __init__(self, service: Cinder, ceph: Ceph) -> None:
        self._service = service
        self._ceph = ceph
        self._stores: list[ImageStore] = []
        self._is_killed = self._is_frozen = self._is_full = False
        service.empty()

    async def open(self) -> ImageStore:
        """A store as a service would open it."""
        return await self._open()

    async def _open(self, **fields: object) -> ImageStore:
        deadlines = {"timeout_s": TIMEOUT_S, "wait_s": WAIT_S, "lease_s": LEASE_S}
        store = await open_store("main", self._service.settings(**{**deadlines, **fields}))
        self._stores.append(store)
        return store

    def settings_file(self, directory: Path) -> str:
        """The table for a service of its own process, which must be able to import Ceph's bindings."""
        settings = self._service.settings(timeout_s=TIMEOUT_S, wait_s=WAIT_S, lease_s=LEASE_S)
        fields = settings.model_dump(mode="json", exclude_defaults=True)
        return "\n".join(["[stores.main]", *(f"{name} = {json.dumps(value)}" for name, value in fields.items()), ""])

    async def open_with_wrong_credentials(self) -> ImageStore:
        """This Cinder takes whoever comes."""
        raise CannotBeBrokenError("the Cinder of the tests has no Keystone before it")

    async def open_with_missing_place(self) -> ImageStore:
        """A volume type that is not there."""
        return await self._open(volume_type="nowhere")

    async def kill(self) -> None:
        """End API, scheduler and volume service."""
        self._service.kill()
        self._is_killed = True

    async def start(self) -> None:
        """Start them with the same database."""
        self._service.start()
        self._is_killed = False

    async def freeze(self) -> None:
        """They hang."""
        self._service.freeze()
        self._is_frozen = True

    async def thaw(self) -> None:
        """They go on."""
        self._service.thaw()
        self._is_frozen = False

    async def slow_down(self, bytes_s: int) -> None:
        """The bytes go past Cinder."""
        raise CannotBeBrokenError("Ceph's clients and OSDs speak to each other directly")

    async def speed_up(self) -> None:
        """There is nothing to end."""

    async def fill(self) -> None:
        """The project's quota is used up."""
        self._set_quota(0)
        self._is_full = True

    async def relieve(self) -> None:
        """It has room again."""
        self._set_quota(1000)
        self._is_full = False

    async def corrupt(self, key: str) -> None:
        """Change one bit of the volume's first object."""
        (volume,) = [one for one in self._service.volumes() if one["metadata"].get("tintype_key") == key]
        self._ceph.run_with_bindings(_CORRUPT, f"volume-{volume['id']}")

    async def remains(self) -> list[str]:
        """Volumes."""
        return [str(volume["name"]) for volume in self._service.volumes()]

    async def aclose(self) -> None:
        """Mend it, and empty it."""
        if self._is_frozen:
            await self.thaw()
        if self._is_killed:
            await self.start()
        if self._is_full:
            await self.relieve()
        for store in self._stores:
            with contextlib.suppress(Exception):
                await store.aclose()
        self._service.empty()

    def _set_quota(self, gib: int) -> None:
        self._service.call("PUT", f"/os-quota-sets/{PROJECT}", {"quota_set": {"gigabytes": gib}})


_CORRUPT = """
import rados, rbd, sys
cluster = rados.Rados(
    conffile=sys.argv[1], name="client.admin", conf={"keyring": sys.argv[2], "rados_osd_op_timeout": "60"}
)
cluster.connect(timeout=60)
io = cluster.open_ioctx("volumes")
with rbd.Image(io, sys.argv[3]) as image:
    byte = image.read(0, 1)
    image.write(bytes([byte[0] ^ 1]), 0)
    image.flush()
print("[]")
"""
