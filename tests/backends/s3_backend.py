"""S3 stores for the fault suite: a bucket of a real server, behind a proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.backends.ceph import Ceph
from tests.backends.faulty_proxy import FaultyProxy
from tests.backends.s3 import S3Server, make_bucket, remains, remove_bucket, s3_of_ceph, s3_of_swift
from tests.backends.store_backend import SERVER, Told
from tests.backends.swift import SwiftCluster
from tintype.adapters.stores import open_store
from tintype.ports.image_store import ImageStore

_DEADLINE_S = 2.0


@dataclass(frozen=True, slots=True)
class Faults:
    """How one server is ended, started (perhaps elsewhere), frozen and filled."""

    kill: Callable[[], None]
    start: Callable[[], S3Server]
    freeze: Callable[[], None]
    thaw: Callable[[], None]
    fill: Callable[[], None]
    relieve: Callable[[], None]
    full: Told


class S3Backend:
    """A :class:`~tests.backends.store_backend.StoreBackend` on a server that runs."""

    def __init__(self, name: str, server: S3Server, faults: Faults) -> None:
        self._name = name
        self._server = server
        self._faults = faults
        self._bucket = make_bucket(server)
        self._proxy = FaultyProxy(*server.address)

    @property
    def name(self) -> str:
        """``s3-swift`` or ``s3-rgw``."""
        return self._name

    @property
    def told(self) -> Mapping[str, Told]:
        """Servers differ in what they make of a disk that is full."""
        killed = Told.by("STORE_UNAVAILABLE", why="the connection is cut or refused")
        return {**SERVER, "back end killed in mid-write, and back": killed, "full": self._faults.full}

    async def open(self) -> ImageStore:
        """As a service opens it."""
        return await self._open()

    def settings_file(self, directory: Path) -> str:
        """The table, and the secret in a file of its own."""
        secret = directory / "s3-secret"
        secret.touch(mode=0o600)
        secret.write_text(self._server.secret_key)
        return (
            "[stores.main]\n"
            'type = "s3"\n'
            f'bucket = "{self._bucket}"\n'
            f'endpoint_url = "{self._proxy.url}"\n'
            f'access_key_id = "{self._server.access_key}"\n'
            f'secret_access_key_file = "{secret}"\n'
            f"part_size_mib = 5\nlease_s = 1.0\ntimeout_s = {_DEADLINE_S}\n"
        )

    async def open_with_wrong_credentials(self) -> ImageStore:
        """Of a known user, with another secret."""
        return await self._open(secret_access_key="wrong")

    async def open_with_missing_place(self) -> ImageStore:
        """A bucket that is not there."""
        return await self._open(bucket=f"{self._bucket}-not")

    async def kill(self) -> None:
        """End what answers S3."""
        await asyncio.to_thread(self._faults.kill)

    async def start(self) -> None:
        """Start it again; it may have another port."""
        self._server = await asyncio.to_thread(self._faults.start)
        self._proxy.connect_to(*self._server.address)

    async def freeze(self) -> None:
        """Let it hang."""
        await asyncio.to_thread(self._faults.freeze)

    async def thaw(self) -> None:
        """Let it go on."""
        await asyncio.to_thread(self._faults.thaw)

    async def slow_down(self, bytes_s: int) -> None:
        """Through the proxy."""
        self._proxy.slow_down(bytes_s)

    async def speed_up(self) -> None:
        """At full speed."""
        self._proxy.mend()

    async def fill(self) -> None:
        """As the server can be filled."""
        await asyncio.to_thread(self._faults.fill)

    async def relieve(self) -> None:
        """Give room again."""
        await asyncio.to_thread(self._faults.relieve)

    async def corrupt(self, key: str) -> None:
        """Put an object of the same size, with one bit changed, in the place of the bytes."""

        def change(client: Any) -> None:
            (name,) = [name for name in remains(client, self._bucket) if name.startswith(f"data/{key}/")]
            data = bytearray(client.get_object(Bucket=self._bucket, Key=name)["Body"].read())
            data[len(data) // 2] ^= 1
            client.put_object(Bucket=self._bucket, Key=name, Body=bytes(data))

        await self._with_client(change)

    async def remains(self) -> list[str]:
        """All objects and uploads."""
        found: list[str] = await self._with_client(lambda client: remains(client, self._bucket))
        return found

    async def aclose(self) -> None:
        """Remove the bucket; the server is its fixture's."""
        await asyncio.to_thread(self._proxy.stop)
        await asyncio.to_thread(remove_bucket, self._server, self._bucket)

    async def _open(self, **changes: Any) -> ImageStore:
        told = {"endpoint_url": self._proxy.url, "timeout_s": _DEADLINE_S} | changes
        return await open_store("main", self._server.settings(self._bucket, **told))

    async def _with_client(self, work: Callable[[Any], Any]) -> Any:
        client = self._server.client()
        try:
            return await asyncio.to_thread(work, client)
        finally:
            client.close()


def swift_s3_backend(cluster: SwiftCluster) -> S3Backend:
    """A bucket of Swift's s3api."""

    def start() -> S3Server:
        cluster.start()
        return s3_of_swift(cluster)

    faults = Faults(
        kill=lambda: cluster.kill("proxy", "object"),
        start=start,
        freeze=lambda: cluster.pause("proxy"),
        thaw=lambda: cluster.resume("proxy"),
        fill=cluster.fill,
        relieve=cluster.relieve,
        full=Told.by("STORE_UNAVAILABLE", why="Swift's proxy makes one 503 of whatever object servers answer"),
    )
    return S3Backend("s3-swift", s3_of_swift(cluster), faults)


def ceph_s3_backend(cluster: Ceph) -> S3Backend:
    """A bucket of Ceph's object gateway."""
    faults = Faults(
        kill=cluster.kill_gateway,
        start=lambda: s3_of_ceph(cluster),
        freeze=cluster.freeze_gateway,
        thaw=cluster.thaw_gateway,
        fill=cluster.fill,
        relieve=cluster.relieve,
        full=Told.by("STORE_TIMEOUT", why="the gateway answers nothing until its cluster has room"),
    )
    return S3Backend("s3-rgw", s3_of_ceph(cluster), faults)
