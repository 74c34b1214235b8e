"""From the settings of a file store to the store."""

from __future__ import annotations

from pathlib import Path

from tintype.adapters.filesystem.directory import Patience, StoreDirectory
from tintype.adapters.filesystem.mount_guard import MountGuard, StateObserver
from tintype.adapters.filesystem.room import Limits
from tintype.adapters.filesystem.settings import FileStoreSettings
from tintype.adapters.filesystem.store import FileImageStore
from tintype.adapters.filesystem.tree import Tree


async def open_file_store(
    name: str, settings: FileStoreSettings, *, observer: StateObserver | None = None
) -> FileImageStore:
    """The store, ready; ``observer`` is told when a guarded mount is lost and when it is back.

    Raises:
        ConfigurationError: a directory's permissions are wrong; the message has the command that mends them.
        StoreUnavailableError: a directory cannot be made.
    """
    directories = [_directory(name, settings, path, weight, observer) for path, weight in settings.directories]
    store = FileImageStore(name, directories=directories)
    try:
        await store.prepare()
    except BaseException:
        await store.aclose()
        raise
    return store


def _directory(
    name: str, settings: FileStoreSettings, path: Path, weight: int, observer: StateObserver | None
) -> StoreDirectory:
    guard = None
    if settings.require_mount:
        guard = MountGuard(name, path, share_id=settings.share_id, mount_point=settings.mount_point, observer=observer)
    mode = int(settings.file_mode, 8) if settings.file_mode else 0o640
    tree = Tree(
        path,
        check=guard,
        file_mode=mode,
        directory_mode=0o700 | (mode | (mode & 0o444) >> 2) & 0o055,  # who reads a file enters its directory
        is_exact=bool(settings.file_mode),
    )
    return StoreDirectory(
        name,
        tree,
        weight=weight,
        limits=Limits(settings.max_bytes, settings.reserve_bytes, settings.max_object_bytes),
        guard=guard,
        patience=Patience(settings.timeout_s, settings.watch_interval_s, settings.watch_interval_s),
    )
