"""The image store in directories: ``ROOT/uncommitted/KEY`` while it is written, ``ROOT/blobs/KEY`` from its commit on.

A key is in one directory, which its first writer chose by weight and room; whoever reads looks into each of them. One
writer per key is held by a lock on the uncommitted file, which the kernel releases when the writer is killed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path

from tintype.adapters.filesystem.directory import PIECE_SIZE, StoreDirectory, stored
from tintype.adapters.filesystem.examination import examined
from tintype.adapters.filesystem.open_file import OpenFile
from tintype.adapters.filesystem.tree import COMMITTED, UNCOMMITTED, Tree
from tintype.adapters.filesystem.writer import FileWriter
from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import (
    BlobNotFoundError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
    UploadBusyError,
)
from tintype.domain.values import image_id
from tintype.ports.image_store import (
    DirectLocation,
    Finding,
    HandoverKind,
    StoreCapabilities,
    StoredBlob,
    StoreMode,
    StoreSpace,
    StoreState,
)

HOP_SIZE = 2 * 1024 * 1024
"""So many bytes are read by one call of a thread, because calls cost; more would leave the processor's cache."""

_CHECK_TIMEOUT_S = 10.0
_BETTER_MODES = (StoreMode.READ_WRITE, StoreMode.READ_ONLY, StoreMode.AWAY)


class FileImageStore:
    """An :class:`~tintype.ports.image_store.ImageStore` in one directory or several, NFS mounts included.

    ``root`` is one that nothing guards or bounds; ``directories`` are further ones, as they were made.
    """

    def __init__(
        self,
        name: str,
        root: Path | None = None,
        *,
        threads: int = 8,
        directories: Sequence[StoreDirectory] = (),
    ) -> None:
        self._name = name
        own = (StoreDirectory(name, Tree(root), threads=threads),) if root is not None else ()
        # The greatest weight first: new bytes go there, and reads look there first.
        self._directories: tuple[StoreDirectory, ...] = tuple(
            sorted((*own, *directories), key=lambda directory: -directory.weight)
        )
        self._probing: asyncio.Future[None] | None = None

    @property
    def name(self) -> str:
        """The configured name."""
        return self._name

    @property
    def directories(self) -> Sequence[StoreDirectory]:
        """Where the bytes are, the greatest weight first."""
        return self._directories

    @property
    def capabilities(self) -> StoreCapabilities:
        """Zeros are holes, a killed writer's bytes stay, and others may have the directory mounted."""
        return StoreCapabilities(is_sparse=True, handover=HandoverKind.FILE)

    @property
    def state(self) -> StoreState:
        """The best of its directories': a store takes bytes as long as one of them does."""
        return min((directory.state for directory in self._directories), key=lambda s: _BETTER_MODES.index(s.mode))

    async def prepare(self) -> None:
        """Make the store's directories where they are missing, and look at their permissions.

        Raises:
            ConfigurationError: a directory's permissions are wrong; the message has the command that mends them.
            StoreUnavailableError: they cannot be made.
        """
        for directory in self._directories:
            await directory.prepare()

    async def aclose(self) -> None:
        """End the store's threads."""
        for directory in self._directories:
            await directory.aclose()

    async def open_write(self, key: str, *, resume: bool = False, replace: bool = False) -> FileWriter:
        """Begin a staged write, or go on with an interrupted one.

        Raises:
            UploadBusyError: another writer is at it.
            BlobNotFoundError: there is nothing to resume.
            AlreadyExistsError: bytes of that key are committed, and are not to be replaced.
            StoreReadOnlyError, StoreFullError: there is no directory that takes bytes.
        """
        parsed = BlobKey.parse(key)
        directory = await self._directory_to_write(parsed, resume, replace)
        # A descriptor that nobody closed would keep its lock, and every later writer out.
        file, offset = await directory.run(
            lambda: directory.open_locked(parsed, resume, replace), undo=lambda opened: opened[0].close()
        )
        writer = FileWriter(directory, parsed, file, offset, replace=replace)
        try:
            await self._require_only_writer(directory, parsed)
        except BaseException:
            await (writer.close() if resume else writer.abort())
            raise
        return writer

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield committed bytes from ``offset``, ``length`` at most, in pieces of at most 1 MiB.

        Raises:
            BlobNotFoundError: nothing committed under that key.
            BlobDamagedError: the disk cannot read some of them.
        """
        return self._read(COMMITTED, BlobKey.parse(key), offset, length)

    def read_uncommitted(self, key: str) -> AsyncIterator[bytes]:
        """Yield the bytes of an unfinished write from the beginning.

        Raises:
            BlobNotFoundError: no unfinished write under that key.
        """
        return self._read(UNCOMMITTED, BlobKey.parse(key), 0, None)

    async def stat(self, key: str) -> StoredBlob:
        """What is under ``key``, committed or not.

        Raises:
            BlobNotFoundError: nothing.
            StoreUnavailableError: nothing where it can be looked, and one of the directories cannot.
        """
        parsed = BlobKey.parse(key)
        for area in (COMMITTED, UNCOMMITTED):
            with_it = await self._holding(area, parsed)
            if with_it is not None and (found := await with_it.run(partial(with_it.found, area, parsed))) is not None:
                return stored(key, found, is_committed=area == COMMITTED)
        raise self._not_found(parsed)

    def local_path(self, key: str) -> Path | None:
        """The committed file; where none is yet, that of the first directory."""
        parsed = BlobKey.parse(key)
        paths = [directory.tree.path(COMMITTED, parsed) for directory in self._directories]
        if len(paths) == 1:
            return paths[0]
        return next((path for path in paths if path.exists()), paths[0])

    async def delete(self, key: str) -> None:
        """Remove the bytes of ``key``, committed or not; it is no error that there are none.

        Raises:
            StoreUnavailableError: a directory could not be asked; it is done in the others.
        """
        parsed = BlobKey.parse(key)
        failed: list[StoreUnavailableError] = []
        for directory in self._directories:
            try:
                for area in (UNCOMMITTED, COMMITTED):
                    await directory.run(partial(directory.tree.remove, area, parsed))
            except StoreUnavailableError as exc:
                failed.append(exc)
        if failed:
            raise failed[0]

    async def list(self, prefix: str = "") -> AsyncIterator[StoredBlob]:
        """Yield all that is stored under an image's id, or under everything: committed and not.

        Raises:
            StoreUnavailableError: a directory cannot be listed; those of greater weight were.
        """
        wanted: list[str] = [image_id(prefix)] if prefix else []
        for directory in self._directories:
            for image in wanted or await directory.run(directory.tree.images):
                for found in await directory.run(partial(directory.list_image, image)):
                    yield found

    async def check(self) -> None:
        """Find out whether the store can be written and read.

        Raises:
            StoreUnavailableError: it cannot; the message says what is wrong.
        """
        if self._probing is None or self._probing.done():  # one that hangs takes one thread, however often it is asked
            self._probing = asyncio.ensure_future(self._probe())
        try:
            # And not wait_for, which before Python 3.12 loses a cancellation that comes together with the answer.
            async with asyncio.timeout(_CHECK_TIMEOUT_S):
                await asyncio.shield(self._probing)
        except TimeoutError:
            raise StoreUnavailableError(f"store {self._name!r} did not answer in {_CHECK_TIMEOUT_S:.0f} s") from None

    async def examine(self) -> Sequence[Finding]:
        """Access, permissions, room, durability, names, locks and, where there is one, the mount of each directory."""
        found: list[Finding] = []
        for directory in self._directories:
            found += await examined(directory)
        return found

    async def space(self) -> StoreSpace | None:
        """What its file systems have left for the service's user, within the store's caps.

        Raises:
            StoreUnavailableError: none of them answers.
        """
        spaces: dict[Path, StoreSpace] = {}
        failed: StoreUnavailableError | None = None
        for directory in self._directories:
            try:
                spaces[directory.tree.root] = await directory.run(directory.room.space)
            except StoreUnavailableError as exc:
                failed = exc
        if failed is not None and not spaces:
            raise failed
        return StoreSpace(sum(space.free for space in spaces.values()), sum(space.total for space in spaces.values()))

    async def locate(self, key: str, *, expires_in_s: float) -> DirectLocation | None:
        """The path, for whoever has the same file system mounted at the same place.

        Raises:
            BlobNotFoundError: nothing committed under that key.
            StoreUnavailableError: the file system failed.
        """
        parsed = BlobKey.parse(key)
        directory = await self._holding(COMMITTED, parsed)
        if directory is None:
            raise self._not_found(parsed)
        return DirectLocation(HandoverKind.FILE, directory.tree.path(COMMITTED, parsed).absolute().as_uri())

    async def _probe(self) -> None:
        failed: StoreUnavailableError | None = None
        for directory in self._directories:
            try:
                await directory.run(directory.probe)
            except StoreUnavailableError as exc:
                failed = exc
        if failed is not None:
            raise failed

    async def _holding(self, area: str, key: BlobKey) -> StoreDirectory | None:
        """The directory that has the key: of several, which an outage may lead to, the one with the newest bytes.

        Raises:
            StoreUnavailableError: none of those that could be asked has it, and one could not be asked.
        """
        if len(self._directories) == 1:
            (only,) = self._directories
            return only if await only.run(partial(only.found, area, key)) is not None else None
        holding: list[tuple[float, StoreDirectory]] = []
        failed: StoreUnavailableError | None = None
        for directory in self._directories:
            try:
                found = await directory.run(partial(directory.found, area, key))
            except StoreUnavailableError as exc:
                failed = exc
                continue
            if found is not None:
                holding.append((found.st_mtime, directory))
        if not holding and failed is not None:
            raise failed
        return max(holding, key=lambda pair: pair[0])[1] if holding else None

    async def _directory_to_write(self, key: BlobKey, resume: bool, replace: bool) -> StoreDirectory:
        if len(self._directories) == 1:
            return self._directories[0]
        for area in (COMMITTED, UNCOMMITTED) if replace or resume else (UNCOMMITTED, COMMITTED):
            try:
                holding = await self._holding(area, key)
            except StoreUnavailableError:
                if resume:
                    raise
                continue
            if holding is not None:
                return holding
        if resume:
            return self._directories[0]  # which says that there is nothing
        return await self._with_room()

    async def _with_room(self) -> StoreDirectory:
        failed: StoreUnavailableError | StoreFullError | None = None
        for directory in self._directories:
            if directory.state.mode is not StoreMode.READ_WRITE:
                continue
            try:
                space = await directory.run(directory.room.space)
            except StoreUnavailableError as exc:
                failed = exc
                continue
            if space.free > 0 or space.total == 0:
                return directory
            failed = StoreFullError(f"store {self._name!r} has no room left")
        raise failed or StoreReadOnlyError(self.state.message or f"store {self._name!r} takes no bytes now")

    async def _require_only_writer(self, chosen: StoreDirectory, key: BlobKey) -> None:
        """Two that began at once may have chosen different directories: each has its own file by now, and sees it."""
        for directory in self._directories:
            if directory is chosen:
                continue
            try:
                if await directory.run(partial(directory.is_locked, key)):
                    raise UploadBusyError(f"another writer is at the bytes of image {key.image_id}")
                await directory.run(partial(directory.tree.remove, UNCOMMITTED, key))
            except StoreUnavailableError:
                continue

    def _not_found(self, key: BlobKey) -> BlobNotFoundError:
        return BlobNotFoundError(f"store {self._name!r} has nothing under that key of image {key.image_id}")

    async def _opened(self, area: str, key: BlobKey) -> tuple[StoreDirectory, OpenFile]:
        directory = self._directories[0]
        if len(self._directories) > 1:
            holding = await self._holding(area, key)
            if holding is None:
                raise self._not_found(key)
            directory = holding
        opening: Callable[[], OpenFile] = partial(directory.open_for_reading, area, key)
        return directory, await directory.run(opening, undo=OpenFile.close)

    async def _read(self, area: str, key: BlobKey, offset: int, length: int | None) -> AsyncIterator[bytes]:
        directory, file = await self._opened(area, key)
        ahead: asyncio.Task[Sequence[bytes]] | None = None
        end = None if length is None else offset + length

        def begin(position: int, most: int) -> asyncio.Task[Sequence[bytes]]:
            count = most if end is None else min(most, end - position)
            return asyncio.create_task(directory.run(partial(directory.read_pieces, file, count, position)))

        try:
            ahead = begin(offset, PIECE_SIZE)  # the first piece comes soon
            while pieces := await ahead:
                offset += sum(map(len, pieces))
                ahead = begin(offset, HOP_SIZE)  # some pieces are read while the caller works on the others
                for piece in pieces:
                    yield piece
        finally:
            if ahead is not None:
                await asyncio.wait([ahead])
                if not ahead.cancelled():
                    ahead.exception()
            await directory.run(file.close)
