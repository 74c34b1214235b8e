"""The file store on a file system of its own, and the guarded one on a share, to be broken by the fault suite.

The mounts are private to the process of the tests; see private_mounts.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

from tests.backends.faulty_filesystem import FaultyShare
from tests.backends.private_mounts import mount
from tests.backends.store_backend import ANY_SYSTEM, CannotBeBrokenError, Told
from tintype.adapters.filesystem.mount_marker import MARKER, initialise
from tintype.adapters.filesystem.settings import FileStoreSettings
from tintype.adapters.stores import open_store
from tintype.ports.image_store import ImageStore

_NO_CREDENTIALS = "files have owners and modes, and no credentials; the service runs as the user that it runs as"
_TIMEOUT_S = 3.0
_WATCH_S = 0.3


class FileBackend:
    """A directory on a tmpfs that the fault suite can fill."""

    name = "file"
    told = ANY_SYSTEM | {
        "full": Told.by("STORE_FULL", why="ENOSPC"),
        "missing container, pool, bucket or directory": Told.by(
            "STORE_MISSING", why="the directory was there when the store was opened, and is not made again"
        ),
    }

    def __init__(self, directory: Path, *, size: str = "64m") -> None:
        self._directory = directory
        self._at = directory / "mnt"
        self._at.mkdir()
        mount("-t", "tmpfs", "-o", f"size={size},mode=0750", "images", self._at)
        self._root = self._at / "store"

    async def open(self) -> ImageStore:
        """A store on it."""
        return await open_store("main", self._settings(self._root))

    def settings_file(self, directory: Path) -> str:
        """The table in TOML."""
        return f'[stores.main]\ntype = "file"\npath = {json.dumps(str(self._root))}\ntimeout_s = {_TIMEOUT_S}\n'

    async def open_with_wrong_credentials(self) -> ImageStore:
        """There are none."""
        raise CannotBeBrokenError(_NO_CREDENTIALS)

    async def open_with_missing_place(self) -> ImageStore:
        """A directory that was removed since."""
        gone = self._at / "gone"
        store = await open_store("main", self._settings(gone))
        shutil.rmtree(gone)
        return store

    async def kill(self) -> None:
        """There is nothing to kill."""
        raise CannotBeBrokenError("a local file system has no server of its own")

    async def start(self) -> None:
        """Nothing was killed."""

    async def freeze(self) -> None:
        """A local file system does not hang by itself."""
        raise CannotBeBrokenError("a local file system has no server of its own")

    async def thaw(self) -> None:
        """Nothing was frozen."""

    async def slow_down(self, bytes_s: int) -> None:
        """There is no wire."""
        raise CannotBeBrokenError("a local file system has no wire to slow down")

    async def speed_up(self) -> None:
        """Nothing was slowed down."""

    async def fill(self) -> None:
        """Write until there is no room."""
        _fill(self._at / "filler")

    async def relieve(self) -> None:
        """Remove what fills it."""
        (self._at / "filler").unlink(missing_ok=True)

    async def corrupt(self, key: str) -> None:
        """Flip a bit of the file."""
        _flip(self._root / "blobs" / key)

    async def remains(self) -> list[str]:
        """Every file, and every directory that belongs to an image."""
        return _below(self._root)

    async def aclose(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", "-l", self._at], check=False, capture_output=True, timeout=60)

    def _settings(self, root: Path) -> FileStoreSettings:
        return FileStoreSettings(path=root, timeout_s=_TIMEOUT_S)


class NfsBackend:
    """A guarded directory on a share whose server is a process; it stands for NFS, which not every kernel can mount."""

    name = "nfs"
    told = ANY_SYSTEM | {
        "full": Told.by("STORE_FULL", why="ENOSPC"),
        "back end killed in mid-write, and back": Told.by(
            "STORE_MOUNT_STALE", "STORE_READ_ONLY", why="ENOTCONN; the watch may have seen it first"
        ),
        "hanging": Told.by("STORE_READ_ONLY", "STORE_TIMEOUT", why="the watch may see it before the deadline has come"),
        "missing container, pool, bucket or directory": Told.by(
            "STORE_READ_ONLY", why="without its marker the directory may be the bare mount point: nothing is written"
        ),
    }

    def __init__(self, directory: Path, *, size: str = "64m") -> None:
        self._directory = directory
        self._share = FaultyShare(directory)
        mount("-t", "tmpfs", "-o", f"size={size},mode=0750", "images", self._share.kept)
        self._share.mount()
        self._root = self._share.at / "store"
        self._root.mkdir(mode=0o750)
        self._share_id = initialise("main", self._root).share_id

    async def open(self) -> ImageStore:
        """A store on it."""
        return await open_store("main", self._settings(self._root))

    def settings_file(self, directory: Path) -> str:
        """The table in TOML."""
        return (
            f'[stores.main]\ntype = "file"\npath = {json.dumps(str(self._root))}\nrequire_mount = true\n'
            f'share_id = "{self._share_id}"\ntimeout_s = {_TIMEOUT_S}\nwatch_interval_s = {_WATCH_S}\n'
        )

    async def open_with_wrong_credentials(self) -> ImageStore:
        """There are none."""
        raise CannotBeBrokenError(_NO_CREDENTIALS)

    async def open_with_missing_place(self) -> ImageStore:
        """A directory of the share that is not there, and not marked."""
        return await open_store("main", self._settings(self._share.at / "missing"))

    async def kill(self) -> None:
        """End the server; what is mounted answers ENOTCONN."""
        self._share.kill()

    async def start(self) -> None:
        """Mount it again."""
        self._share.unmount()
        self._share.mount()

    async def freeze(self) -> None:
        """Stop the server."""
        self._share.freeze()

    async def thaw(self) -> None:
        """Let it go on."""
        self._share.thaw()

    async def slow_down(self, bytes_s: int) -> None:
        """The server has no such tap."""
        raise CannotBeBrokenError("the share of the tests has no wire to slow down; hanging covers its deadlines")

    async def speed_up(self) -> None:
        """Nothing was slowed down."""

    async def fill(self) -> None:
        """Write until there is no room."""
        _fill(self._share.kept / "filler")

    async def relieve(self) -> None:
        """Remove what fills it."""
        (self._share.kept / "filler").unlink(missing_ok=True)

    async def corrupt(self, key: str) -> None:
        """Flip a bit of the file."""
        _flip(self._share.kept / "store/blobs" / key)

    async def remains(self) -> list[str]:
        """Every file, and every directory that belongs to an image."""
        return _below(self._share.kept / "store")

    async def aclose(self) -> None:
        """End the server and unmount."""
        self._share.aclose()
        subprocess.run(["umount", "-l", self._share.kept], check=False, capture_output=True, timeout=60)

    def _settings(self, root: Path) -> FileStoreSettings:
        return FileStoreSettings(
            path=root,
            require_mount=True,
            share_id=self._share_id,
            timeout_s=_TIMEOUT_S,
            watch_interval_s=_WATCH_S,
        )


def _fill(path: Path) -> None:
    room = shutil.disk_usage(path.parent).free
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        with contextlib.suppress(OSError):  # others may have been faster: what matters is that nothing is left
            os.posix_fallocate(descriptor, 0, room)
    finally:
        os.close(descriptor)


def _flip(path: Path) -> None:
    with path.open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))


def _below(root: Path) -> list[str]:
    known = {MARKER, "blobs", "uncommitted"}
    found = {str(path.relative_to(root)) for path in root.rglob("*")}
    return sorted(found - known)
