"""Swift stores for tests: containers that nobody else has, of a real Swift."""

from __future__ import annotations

import asyncio
import os
import uuid
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from tests.backends.faulty_proxy import FaultyProxy
from tests.backends.store_backend import SERVER, Told
from tests.backends.swift import KEY, POWERLESS_KEY, POWERLESS_USER, USER, SwiftCluster
from tintype.adapters.stores import open_store
from tintype.adapters.swift.settings import SwiftStoreSettings
from tintype.ports.image_store import ImageStore

TIMEOUT_S = 2.0
LEASE_S = 2
_METADATA = "user.swift.metadata"
"""The attribute of a file in which the object server keeps the object's name."""


def private_file(path: Path, text: str) -> Path:
    """A file that nobody else may read."""
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def swift_settings(cluster: SwiftCluster, directory: Path, **changes: Any) -> SwiftStoreSettings:
    """Two new containers, which the store makes, small segments; secrets are in ``directory``."""
    told = {
        "type": "swift",
        "container": f"test-{uuid.uuid4().hex[:12]}",
        "create_containers": True,
        "auth": "v1",
        "auth_url": cluster.auth_url,
        "username": USER,
        "password_file": private_file(directory / "swift-key", KEY),
        "segment_size_mib": 1,
        "timeout_s": 10.0,
    }
    return SwiftStoreSettings.model_validate(told | changes)


class SwiftBackend:
    """A :class:`~tests.backends.store_backend.StoreBackend`: two containers behind a proxy; the cluster stays."""

    name = "swift"
    told = SERVER | {
        "back end killed in mid-write, and back": Told.by("STORE_UNAVAILABLE", why="the connection is cut or refused"),
        "full": Told.by(
            "STORE_UNAVAILABLE", why="the proxy makes one 503 of whatever object servers answer, a 507 as well"
        ),
    }

    def __init__(self, cluster: SwiftCluster, directory: Path) -> None:
        self._cluster = cluster
        self.proxy = FaultyProxy("127.0.0.1", cluster.port)
        self.settings = swift_settings(
            cluster, directory, auth_url=f"{self.proxy.url}/auth/v1.0", timeout_s=TIMEOUT_S, lease_s=LEASE_S
        )
        for container in self._containers:
            cluster.request("PUT", f"/{container}")

    async def open(self) -> ImageStore:
        """As a service opens it."""
        return await open_store("main", self.settings)

    def settings_file(self, directory: Path) -> str:
        """The table; the key is in a file of its own."""
        told = self.settings
        return (
            "[stores.main]\n"
            'type = "swift"\n'
            'auth = "v1"\n'
            f'auth_url = "{told.auth_url}"\n'
            f'username = "{told.username}"\n'
            f'password_file = "{told.password_file}"\n'
            f'container = "{told.container}"\n'
            f"segment_size_mib = 1\nlease_s = {LEASE_S}\ntimeout_s = {TIMEOUT_S}\n"
        )

    async def open_with_wrong_credentials(self) -> ImageStore:
        """Of a user who has no right to the containers."""
        directory = self.settings.password_file.parent
        wrong = private_file(directory / "wrong-key", POWERLESS_KEY)
        changes = {"username": POWERLESS_USER, "password_file": wrong, "create_containers": False}
        return await open_store("main", self.settings.model_copy(update=changes))

    async def open_with_missing_place(self) -> ImageStore:
        """Containers that are not there."""
        changes = {"container": f"{self.settings.container}-not", "create_containers": False}
        return await open_store("main", self.settings.model_copy(update=changes))

    async def kill(self) -> None:
        """End the proxy and the object server."""
        await asyncio.to_thread(self._cluster.kill, "proxy", "object")

    async def start(self) -> None:
        """Start them again, at their places."""
        await asyncio.to_thread(self._cluster.start)

    async def freeze(self) -> None:
        """Let Swift's proxy hang."""
        await asyncio.to_thread(self._cluster.pause, "proxy")

    async def thaw(self) -> None:
        """Let it go on."""
        self._cluster.resume("proxy")

    async def slow_down(self, bytes_s: int) -> None:
        """Between the store and Swift."""
        self.proxy.slow_down(bytes_s)

    async def speed_up(self) -> None:
        """At full speed."""
        self.proxy.mend()

    async def fill(self) -> None:
        """The disk of the objects is full."""
        await asyncio.to_thread(self._cluster.fill)

    async def relieve(self) -> None:
        """It has room again."""
        await asyncio.to_thread(self._cluster.relieve)

    async def corrupt(self, key: str) -> None:
        """Change one bit of a segment in the object server's file."""
        await asyncio.to_thread(self._corrupt, key)

    async def remains(self) -> list[str]:
        """The names of all objects in both containers."""
        return await asyncio.to_thread(self.names)

    async def aclose(self) -> None:
        """Remove the containers; the cluster is its fixture's."""
        await asyncio.to_thread(self._remove)

    @property
    def _containers(self) -> tuple[str, str]:
        return self.settings.container, f"{self.settings.container}_segments"

    def names(self) -> list[str]:
        """All objects in both containers, as ``CONTAINER/OBJECT``."""
        found: list[str] = []
        for container in self._containers:
            told = self._cluster.request("GET", f"/{container}").decode().split()
            found += [f"{container}/{name}" for name in told]
        return found

    def _corrupt(self, key: str) -> None:
        name = next(name for name in self.names() if f"_segments/{key}/" in name and not name.endswith("/lease"))
        content = self._cluster.request("GET", f"/{name}")
        (file,) = [path for path in self._cluster.object_files() if name.encode() in os.getxattr(path, _METADATA)]
        with file.open("r+b") as stored:
            stored.seek(len(content) // 2)
            stored.write(bytes([content[len(content) // 2] ^ 1]))

    def _remove(self) -> None:
        self.proxy.stop()
        for name in (*self.names(), *self._containers):
            try:
                self._cluster.request("DELETE", f"/{name}")
            except HTTPError as exc:
                if exc.code != HTTPStatus.NOT_FOUND:  # a server that was killed still lists what is gone
                    raise
