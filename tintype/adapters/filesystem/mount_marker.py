"""The file by which a share is told from every other one, and from the bare directory that it is mounted over.

``ROOT/.tintype-store.json`` is made by an operator, once per share, while it is mounted (:func:`initialise`), never by
a service: one that starts before the share is mounted would mark the local disk.
"""

from __future__ import annotations

import errno
import json
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from tintype.adapters.filesystem.mount_table import Mount, MountTable
from tintype.domain.errors import ConfigurationError

MARKER = ".tintype-store.json"
_MAX_BYTES = 4096
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Marker:
    """``share_id`` is the share's own, ``store`` the store that it was made for."""

    share_id: str
    store: str


class MarkerUnreadableError(Exception):
    """There is a marker, and it is none."""


def read_marker(root: int) -> Marker | None:
    """The marker in an open directory; ``None`` where there is none.

    Raises:
        MarkerUnreadableError: it is not as :func:`initialise` writes it.
        OSError: it cannot be read.
    """
    try:
        # Opened anew each time, and not kept open: over NFS that is what asks the server.
        descriptor = os.open(MARKER, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=root)
    except FileNotFoundError:
        return None
    try:
        content = os.read(descriptor, _MAX_BYTES)
    finally:
        os.close(descriptor)
    try:
        read = json.loads(content)
        share_id, store = read["share_id"], read["store"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise MarkerUnreadableError from None
    if not isinstance(share_id, str) or not isinstance(store, str) or not _ID.fullmatch(share_id):
        raise MarkerUnreadableError
    return Marker(share_id, store)


def initialise(store: str, root: Path, *, mount_point: Path | None = None) -> Marker:
    """Mark the share that is mounted at, or above, ``root`` as that of ``store``; once marked it stays as it is.

    For the operator's command: it may name paths.

    Raises:
        ConfigurationError: nothing is mounted there, it has another store's mark, or cannot be written.
    """
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise ConfigurationError(f"stores.{store}.path: {root}: {os.strerror(exc.errno or 0)}") from exc
    try:
        require_mounted(store, root, MountTable.of_this_process().of(descriptor), mount_point)
        return _marked(store, root, descriptor)
    except OSError as exc:
        raise ConfigurationError(f"stores.{store}.path: {root}: {os.strerror(exc.errno or 0)}") from exc
    except MarkerUnreadableError:
        raise ConfigurationError(f"stores.{store}.path: {root / MARKER} is no marker: remove it") from None
    finally:
        os.close(descriptor)


def require_mounted(store: str, root: Path, mount: Mount | None, mount_point: Path | None) -> Mount:
    """The mount of ``root``, if it is one that can be lost.

    Raises:
        ConfigurationError: it is the machine's own root file system, or mounted elsewhere than it should be.
    """
    if mount is None or mount.mount_point == Path("/"):
        raise ConfigurationError(f"stores.{store}.path: nothing is mounted at {root}: mount the share first")
    if mount_point is not None and mount.mount_point != mount_point:
        raise ConfigurationError(
            f"stores.{store}.mount_point: nothing is mounted at {mount_point}; "
            f"{root} lies in what is mounted at {mount.mount_point}"
        )
    return mount


def _marked(store: str, root: Path, descriptor: int) -> Marker:
    there = read_marker(descriptor)
    if there is None:
        marker = Marker(str(uuid.uuid4()), store)
        _write(marker, descriptor)
        there = read_marker(descriptor) or marker
    if there.store != store:
        raise ConfigurationError(f"stores.{store}.path: {root} belongs to the store {there.store[:63]!r} already")
    return there


def _write(marker: Marker, root: int) -> None:
    content = json.dumps({"share_id": marker.share_id, "store": marker.store}).encode() + b"\n"
    temporary = f".tintype-store.{uuid.uuid4().hex}"
    # 0644: whoever may list the share may see whose it is; the service does not need to own it.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=root)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
        os.link(temporary, MARKER, src_dir_fd=root, dst_dir_fd=root)
        os.fsync(root)
    except OSError as exc:
        if exc.errno != errno.EEXIST:  # somebody else was faster: theirs counts
            raise
    finally:
        os.close(descriptor)
        os.unlink(temporary, dir_fd=root)
