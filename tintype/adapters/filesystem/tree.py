"""The directories of a file store: opening and naming files without ever following a symbolic link.

Every step from the root down is opened relative to the directory above (``openat``) with ``O_NOFOLLOW``, so that nobody
who can write into the store leads it out of its root. The root itself is shown to a :class:`RootCheck` once it is open:
what is created afterwards lies on the very file system that was looked at, whatever is mounted or unmounted meanwhile.
All of it blocks; the store calls it in threads.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Protocol

from tintype.adapters.filesystem.file_errors import PlaceMissingError
from tintype.domain.blob_keys import BlobKey

COMMITTED = "blobs"
UNCOMMITTED = "uncommitted"

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE_ATTEMPTS = 10


class Purpose(Enum):
    """What a root is opened for."""

    READ = "read"
    WRITE = "write"
    COMMIT = "commit"


class RootCheck(Protocol):
    """Says whether an open root is the directory that the store should be in."""

    def require(self, purpose: Purpose) -> None:
        """Refuse, before the root is opened, what it is known not to be good for: opening it might hang.

        Raises:
            StoreUnavailableError: it may not be used for that now.
        """
        ...

    def admit(self, root: int, purpose: Purpose) -> None:
        """Let it pass.

        Raises:
            StoreUnavailableError: it is another one, or may not be used for that now.
        """
        ...


class Tree:
    """Two areas under one root: what is committed, and what is being written.

    ``file_mode`` and ``directory_mode``: as the umask leaves them, unless they are ``is_exact``.
    """

    def __init__(
        self,
        root: Path,
        *,
        check: RootCheck | None = None,
        file_mode: int = 0o640,
        directory_mode: int = 0o750,
        is_exact: bool = False,
    ) -> None:
        self.root = root
        self._check = check
        self._file_mode = file_mode
        self._directory_mode = directory_mode
        self._is_exact = is_exact

    def checked_by(self, check: RootCheck | None) -> Tree:
        """The same directories, whose root is looked at by another check."""
        return Tree(
            self.root,
            check=check,
            file_mode=self._file_mode,
            directory_mode=self._directory_mode,
            is_exact=self._is_exact,
        )

    def prepare(self, *, make_root: bool = True) -> None:
        """Make the areas where they are missing, and the root, unless it is a mount's business to be there."""
        if make_root:
            self.root.mkdir(mode=self._directory_mode, parents=True, exist_ok=True)
        with self.opened_root(Purpose.WRITE) as root:
            for area in (COMMITTED, UNCOMMITTED):
                self._make(area, root)

    def path(self, area: str, key: BlobKey) -> Path:
        """Where the file is or would be."""
        return self.root / area / str(key)

    @contextmanager
    def opened_root(self, purpose: Purpose) -> Iterator[int]:
        """Open the root and have it looked at.

        Raises:
            PlaceMissingError: it does not exist.
            StoreUnavailableError: it is not to be used.
        """
        if self._check is not None:
            self._check.require(purpose)
        try:
            descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise PlaceMissingError from None
        try:
            if self._check is not None:
                self._check.admit(descriptor, purpose)
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def opened_area(self, area: str, purpose: Purpose) -> Iterator[int]:
        """Open one of the two areas.

        Raises:
            PlaceMissingError: it does not exist.
        """
        with self.opened_root(purpose) as root:
            try:
                descriptor = os.open(area, _DIRECTORY, dir_fd=root)
            except FileNotFoundError:
                raise PlaceMissingError from None
            try:
                yield descriptor
            finally:
                os.close(descriptor)

    @contextmanager
    def directory(
        self, area: str, key: BlobKey, *, create: bool = False, purpose: Purpose = Purpose.READ
    ) -> Iterator[int]:
        """Open the directory of ``key``; it may be removed meanwhile, when the last other file in it is.

        Raises:
            FileNotFoundError: it does not exist.
        """
        with self.opened_area(area, purpose) as top:
            opened = [top]
            try:
                for name in (key.image_id, key.operation_id):
                    if create:
                        self._make(name, opened[-1])
                    opened.append(os.open(name, _DIRECTORY, dir_fd=opened[-1]))
                yield opened[-1]
            finally:
                for descriptor in reversed(opened[1:]):
                    os.close(descriptor)

    def open_file(self, area: str, key: BlobKey, flags: int) -> int:
        """Open the file of ``key``; with ``O_CREAT`` its directories are made.

        Raises:
            FileNotFoundError: it does not exist.
        """
        create = bool(flags & os.O_CREAT)
        purpose = Purpose.READ if flags & os.O_ACCMODE == os.O_RDONLY else Purpose.WRITE
        for _ in range(_CREATE_ATTEMPTS):
            try:
                with self.directory(area, key, create=create, purpose=purpose) as directory:
                    return self._open(key.name, flags, directory)
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
            if not self._has_its_name(descriptor, key):
                break
            try:
                with self.directory(COMMITTED, key, create=True, purpose=Purpose.COMMIT) as directory:
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
            if not self._has_its_name(descriptor, key):
                # NFS keeps a file that is removed while it is open under a hidden name, and so lets it be linked.
                self.remove(COMMITTED, key, inode=os.fstat(descriptor).st_ino)
                break
            return
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def remove(self, area: str, key: BlobKey, *, inode: int | None = None) -> None:
        """Remove the file, and the directories that this leaves empty; with ``inode`` only that very file."""
        with suppress(FileNotFoundError), self.directory(area, key, purpose=Purpose.WRITE) as directory:
            if area == COMMITTED and inode is None:
                # Before the committed name: a writer that is about to take that fails now, or has taken it.
                _unlink(_replacing(key), directory)
            found = os.stat(key.name, dir_fd=directory, follow_symlinks=False)
            if inode is None or found.st_ino == inode:
                os.unlink(key.name, dir_fd=directory)
        self.remove_empty(area, key)

    def remove_empty(self, area: str, key: BlobKey) -> None:
        """Remove the directories of ``key`` that nothing is in."""
        with self.opened_area(area, Purpose.WRITE) as top:
            for path in (f"{key.image_id}/{key.operation_id}", key.image_id):
                try:
                    _rmdir_below(top, path)
                except OSError as exc:
                    if exc.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.ELOOP):
                        raise
                    return

    def images(self) -> list[str]:
        """The names of all directories that may belong to an image."""
        names: set[str] = set()
        for area in (COMMITTED, UNCOMMITTED):
            with self.opened_area(area, Purpose.READ) as top, os.scandir(top) as entries:
                names.update(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        return sorted(names)

    def files(self, area: str, image_id: str) -> Iterator[tuple[str, os.stat_result]]:
        """Yield key and state of every regular file of one image."""
        with (
            self.opened_area(area, Purpose.READ) as top,
            suppress(FileNotFoundError, NotADirectoryError),
            _below(image_id, top) as image,
        ):
            for operation in sorted(os.listdir(image)):
                with suppress(FileNotFoundError, NotADirectoryError), _below(operation, image) as directory:
                    for name, state in _regular_files(directory):
                        yield f"{image_id}/{operation}/{name}", state

    def _make(self, name: str, directory: int) -> None:
        try:
            os.mkdir(name, self._directory_mode, dir_fd=directory)
        except FileExistsError:
            return
        if self._is_exact:
            os.chmod(name, self._directory_mode, dir_fd=directory)  # whatever the umask is

    def _open(self, name: str, flags: int, directory: int) -> int:
        descriptor = os.open(name, flags | _FILE, self._file_mode, dir_fd=directory)
        try:
            if self._is_exact and flags & os.O_CREAT:
                os.fchmod(descriptor, self._file_mode)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _has_its_name(self, descriptor: int, key: BlobKey) -> bool:
        opened = os.fstat(descriptor)
        if opened.st_nlink == 0:
            return False
        try:
            named = self.stat(UNCOMMITTED, key)
        except FileNotFoundError:
            return False
        return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)

    def _sync_parents(self, key: BlobKey) -> None:
        with self.opened_area(COMMITTED, Purpose.COMMIT) as top:
            with _below(key.image_id, top) as image:
                os.fsync(image)
            os.fsync(top)


@contextmanager
def _below(name: str, directory: int) -> Iterator[int]:
    try:
        descriptor = os.open(name, _DIRECTORY, dir_fd=directory)
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
        raise
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _regular_files(directory: int) -> Iterator[tuple[str, os.stat_result]]:
    for name in sorted(os.listdir(directory)):
        with suppress(FileNotFoundError):
            state = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISREG(state.st_mode):
                yield name, state


def _rmdir_below(top: int, path: str) -> None:
    parent, _, name = path.rpartition("/")
    if not parent:
        os.rmdir(name, dir_fd=top)
        return
    with _below(parent, top) as directory:
        os.rmdir(name, dir_fd=directory)


def _replacing(key: BlobKey) -> str:
    """The name of a file on its way to replace the committed one; it is no key's."""
    return f".{key.name}.replacing"


def _link(descriptor: int, name: str, directory: int) -> None:
    os.link(f"/proc/self/fd/{descriptor}", name, dst_dir_fd=directory, follow_symlinks=True)


def _unlink(name: str, directory: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
