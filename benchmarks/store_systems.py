"""The systems that stores are measured on: each with Tintype's settings for it, and its own program's commands."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.disks import MIB
from benchmarks.native_tools import obstore_example, prepared_tools
from tests.backends.ceph import ceph_cluster
from tests.backends.s3 import s3_of_swift
from tests.backends.swift import KEY, USER, SwiftCluster, swift_cluster
from tintype.adapters.filesystem.settings import FileStoreSettings
from tintype.adapters.rbd.settings import RbdStoreSettings
from tintype.adapters.s3.settings import S3StoreSettings
from tintype.adapters.store_settings import StoreSettings
from tintype.adapters.swift.settings import SwiftStoreSettings

Command = Sequence[str]

NATIVE = "native"
"""What the systems' own programs call the object that they write."""


@dataclass(frozen=True)
class System:
    """One system that runs: ``write``, ``read`` and ``remove`` are its own program's commands, one after the other.

    ``read`` writes into the file ``downloaded.img``; all of them run in the directory of the run.
    """

    name: str
    tools: tuple[str, str]
    """What ``write`` and ``read`` are called in the table."""

    settings: StoreSettings
    write: Sequence[Command]
    read: Sequence[Command]
    remove: Sequence[Command]
    environment: Mapping[str, str] = field(default_factory=dict)

    async def run(self, commands: Sequence[Command], directory: Path) -> None:
        """Run them; each must succeed."""
        environment = {**os.environ, **self.environment}
        for command in commands:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=directory,
                env=environment,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
            _, said = await process.communicate()
            if process.returncode != 0:
                raise RuntimeError(f"failed: {command[0]}: {said.decode(errors='replace')[-2000:]}")


@contextmanager
def files(directory: Path, source: Path) -> Iterator[Sequence[System]]:
    """A directory on the disk."""
    yield [
        System(
            "file",
            ("cp, sync", "cp"),
            FileStoreSettings(path=directory / "store"),
            write=[["cp", str(source), NATIVE], ["sync", NATIVE]],
            read=[["cp", str(source), "downloaded.img"]],
            remove=[["rm", NATIVE]],
        )
    ]


@contextmanager
def swift(directory: Path, source: Path) -> Iterator[Sequence[System]]:
    """A Swift of one server of each kind on the same disk, by its own API and by S3's."""
    programs = prepared_tools()
    with swift_cluster() as cluster:
        yield [_swift(cluster, programs, directory, source), _s3(cluster, programs, source)]


@contextmanager
def ceph(directory: Path, source: Path) -> Iterator[Sequence[System]]:
    """A Ceph of one OSD, which keeps all in memory."""
    room = 4 * source.stat().st_size + 1024 * MIB
    with ceph_cluster(memory_bytes=max(room, 4096 * MIB)) as cluster:
        settings = RbdStoreSettings(
            type="rbd", user="tintype", conf_file=cluster.conf, keyring_file=cluster.keyring("tintype")
        )
        told = ["--conf", str(cluster.conf), "--id", "tintype", "--keyring", str(cluster.keyring("tintype"))]
        rbd = ["rbd", *told, "--pool", "images", "--no-progress"]
        yield [
            System(
                "rbd",
                ("rbd import", "rbd export"),
                settings,
                write=[[*rbd, "import", str(source), NATIVE]],
                read=[[*rbd, "export", NATIVE, "downloaded.img"]],
                remove=[[*rbd, "rm", NATIVE]],
            )
        ]


STARTS: Mapping[str, Callable[[Path, Path], AbstractContextManager[Sequence[System]]]] = {
    "file": files,
    "swift": swift,
    "rbd": ceph,
}


def _swift(cluster: SwiftCluster, programs: Path, directory: Path, source: Path) -> System:
    key = directory / "swift-key"
    key.touch(mode=0o600)
    key.write_text(KEY)
    container = cluster.make_container("bench")
    tool = str(programs / "swift")
    settings = SwiftStoreSettings(
        type="swift",
        container=cluster.make_container("store"),
        create_containers=True,
        auth="v1",
        auth_url=cluster.auth_url,
        username=USER,
        password_file=key,
    )
    return System(
        "swift",
        ("swift upload", "swift download"),
        settings,
        write=[[tool, "upload", container, str(source), "--object-name", NATIVE]],
        read=[[tool, "download", container, NATIVE, "--output", "downloaded.img"]],
        remove=[[tool, "delete", container, NATIVE]],
        environment={"ST_AUTH": cluster.auth_url, "ST_USER": USER, "ST_KEY": KEY},
    )


def _s3(cluster: SwiftCluster, programs: Path, source: Path) -> System:
    server = s3_of_swift(cluster)
    container = cluster.make_container("s3-bench")
    settings = S3StoreSettings(
        type="s3",
        bucket=cluster.make_container("s3-store"),
        endpoint_url=server.url,
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,  # type: ignore[arg-type]  # pydantic makes a secret of it
    )
    obstore = obstore_example(programs)
    return System(
        "s3 (Swift's s3api)",
        ("obstore, multipart", "obstore"),
        settings,
        write=[[*obstore, "put", NATIVE, str(source)]],
        read=[[*obstore, "get", NATIVE, "downloaded.img"]],
        remove=[[*obstore, "delete", NATIVE, "-"]],
        environment={
            "BUCKET": container,
            "ENDPOINT": server.url,
            "ACCESS_KEY": server.access_key,
            "SECRET_KEY": server.secret_key,
        },
    )
