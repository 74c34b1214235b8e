"""The directories of a file store: opening and naming files without ever following a symbolic link.

Every step from the root down is opened relative to the directory above (``openat``) with ``O_NOFOLLOW``, so that nobody
who can write into the store leads it out of its root. All of it blocks; the store calls it in threads.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tintype.domain.blob_keys import BlobKey

COMMITTED = "blobs"
UNCOMMITTED = "uncommitted"

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE_ATTEMPTS = 10


class Tree:
    """Two areas under one root: what is committed, and what is being written."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def prepare(self) -> None:
        """Make the root and its areas where they are missing."""
        for area in (COMMITTED, UNCOMMITTED):
            (self.root / area).mkdir(mode=0o750, parents=True, exist_ok=True)

    def path(self, area: str, key: BlobKey) -> Path:
        """Where the file is or would be."""
        return self.root / area / str(key)

    @contextmanager
    def directory(self, area: str, key: BlobKey, *, create: bool = False) -> Iterator[int]:
        """Open the directory of ``key``; it may be removed meanwhile, when the last other file in it is.

        Raises:
            FileNotFoundError: it does not exist.
        """
        opened = [os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
        try:
            opened.append(os.open(area, _DIRECTORY, dir_fd=opened[-1]))
            for name in (key.image_id, key.operation_id):
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(name, 0o750, dir_fd=opened[-1])
                opened.append(os.open(name, _DIRECTORY, dir_fd=opened[-1]))
            yield opened[-1]
        finally:
            for descriptor in reversed(opened):
                os.close(descriptor)

    def open_file(self, area: str, key: BlobKey, flags: int) -> int:
        """Open the file of ``key``; with ``O_CREAT`` its directories are made.

        Raises:
            FileNotFoundError: it does not exist.
        """
        create = bool(flags & os.O_CREAT)
        for _ in range(_CREATE_ATTEMPTS):
            try:
                with self.directory(area, key, create=create) as directory:
                    return os.open(key.name, flags | _FILE, 0o640, dir_fd=directory)
            except FileNotFoundError:
                # With O_CREAT: a directory was removed as empty between two steps.
                if not create:
                    raise
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def stat(self, area: str, key: BlobKey) -> os.stat_result:
        """What is known of the file.

        Raises:
            FileNotFoundError: it does not exist.
        """
        with self.directory(area, key) as directory:
            return os.stat(key.name, dir_fd=directory, follow_symlinks=False)

    def publish(self, descriptor: int, key: BlobKey, *, replace: bool = False) -> None:
        """Give the very file that is open as ``descriptor`` its committed name, durably.

        Raises:
            FileNotFoundError: the file has been deleted meanwhile.
            FileExistsError: there are committed bytes of that key, and they are not to be replaced.
        """
        # The open file is linked, not its uncommitted name renamed: whoever took that name since cannot be mistaken
        # for it, a file without any name left cannot be linked, and committed bytes are never replaced.
        for _ in range(_CREATE_ATTEMPTS):
            if os.fstat(descriptor).st_nlink == 0:
                break
            try:
                with self.directory(COMMITTED, key, create=True) as directory:
                    if replace:
                        # No link takes the place of a name: the file gets another one first, which `remove` knows.
                        _unlink(_replacing(key), directory)
                        _link(descriptor, _replacing(key), directory)
                        os.rename(_replacing(key), key.name, src_dir_fd=directory, dst_dir_fd=directory)
                    else:
                        _link(descriptor, key.name, directory)
                    os.fsync(directory)
            except FileNotFoundError:
                continue
            self._sync_parents(key)
            return
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def _sync_parents(self, key: BlobKey) -> None:
        for path in (self.root / COMMITTED / key.image_id, self.root / COMMITTED):
            descriptor = os.open(path, _DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def remove(self, area: str, key: BlobKey, *, inode: int | None = None) -> None:
        """Remove the file, and the directories that this leaves empty; with ``inode`` only that very file."""
        with suppress(FileNotFoundError), self.directory(area, key) as directory:
            if area == COMMITTED:
                # Before the committed name: a writer that is about to take that fails now, or has taken it.
                _unlink(_replacing(key), directory)
            found = os.stat(key.name, dir_fd=directory, follow_symlinks=False)
            if inode is None or found.st_ino == inode:
                os.unlink(key.name, dir_fd=directory)
        self._remove_empty(area, key)

    def _remove_empty(self, area: str, key: BlobKey) -> None:
        for path in (
            self.root / area / key.image_id / key.operation_id,
            self.root / area / key.image_id,
        ):
            try:
                os.rmdir(path)
            except OSError as exc:
                if exc.errno not in (
                    errno.ENOENT,
                    errno.ENOTEMPTY,
                    errno.EEXIST,
                    errno.ENOTDIR,
                ):
                    raise
                return

    def images(self) -> list[str]:
        """The names of all directories that may belong to an image."""
        names: set[str] = set()
        for area in (COMMITTED, UNCOMMITTED):
            with suppress(FileNotFoundError), os.scandir(self.root / area) as entries:
                names.update(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        return sorted(names)

    def files(self, area: str, image_id: str) -> Iterator[tuple[str, os.stat_result]]:
        """Yield key and state of every regular file of one image."""
        base = self.root / area / image_id
        with suppress(FileNotFoundError, NotADirectoryError):
            for operation in sorted(os.listdir(base)):
                with (
                    suppress(FileNotFoundError, NotADirectoryError),
                    os.scandir(base / operation) as entries,
                ):
                    for entry in sorted(entries, key=lambda found: found.name):
                        with suppress(FileNotFoundError):
                            if entry.is_file(follow_symlinks=False):
                                yield (
                                    f"{image_id}/{operation}/{entry.name}",
                                    entry.stat(follow_symlinks=False),
                                )


def _replacing(key: BlobKey) -> str:
    """The name of a file on its way to replace the committed one; it is no key's."""
    return f".{key.name}.replacing"


def _link(descriptor: int, name: str, directory: int) -> None:
    os.link(f"/proc/self/fd/{descriptor}", name, dst_dir_fd=directory, follow_symlinks=True)


def _unlink(name: str, directory: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
