"""Where the bytes of one upload go: into one store, or into several at once; and where an interrupted one goes on.

Of an interrupted upload into several stores the furthest copy leads. Those in the other stores are written anew from
it, while its hashes are made again: so all copies are the same, whatever bytes the client sends the second time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from services.importer.beginning import begin, begin_all, in_patience
from services.importer.fan_out import Branch, FanOutWriter
from services.importer.placement import resolved
from services.importer.upload_tokens import UploadToken
from tintype.adapters.stores import Stores
from tintype.domain.errors import (
    AlreadyExistsError,
    BlobNotFoundError,
    StoreReadOnlyError,
    TintypeError,
    UploadBusyError,
    UploadNotFoundError,
)
from tintype.domain.events import FailedStore, StagePurpose
from tintype.domain.values import Blob, BlobRef, Placement
from tintype.ports.image_store import BlobWriter, ImageStore, StoredBlob

_GONE = "the upload was cancelled, or was idle for too long"


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes that are committed: ``blob`` in the first store that has them, ``copies`` in the others."""

    blob: Blob
    placement: Placement
    copies: tuple[BlobRef, ...] = ()
    failed: tuple[FailedStore, ...] = ()


class UploadTarget:
    """The stores of the upload ``token``. Bytes that wait for an import are in the first one alone.

    Raises:
        StoreNotFoundError: it names a store that there is not.
    """

    def __init__(
        self, stores: Stores, token: UploadToken, is_recorded: Callable[[], Awaitable[bool]] | None = None
    ) -> None:
        self.placement = resolved(stores, token.placement)
        names = self.placement.stores if token.purpose is StagePurpose.UPLOAD else self.placement.stores[:1]
        self._stores: Sequence[ImageStore] = [stores.named(name) for name in names]
        self._key = token.key
        self._is_recorded = is_recorded
        self._fan_out: FanOutWriter | None = None

    @property
    def first(self) -> ImageStore:
        """The store that is written first, or alone."""
        return self._stores[0]

    async def open(self, *, create: bool) -> tuple[BlobWriter, AsyncIterator[bytes]]:
        """The write, begun or gone on with, and the bytes that it has already.

        Raises:
            UploadBusyError: another replica is at it.
            UploadNotFoundError: there are no bytes of it, and none shall be begun.
            StoreFullError, StoreUnavailableError: a store that is needed fails.
        """
        if len(self._stores) == 1:
            return await self._open_one(self.first, create=create)
        found = await self._found()
        if any(isinstance(each, StoredBlob) and each.is_leased for each in found.values()):
            raise UploadBusyError("another replica writes to the same upload")
        while (leader := _furthest(found)) is not None:
            try:
                return await self._open_all(found, leader)
            except StoreReadOnlyError as exc:
                if self.placement.all_must_succeed:
                    raise
                found[leader] = exc  # the next one goes on in its place
        if not create:
            raise _first_error(found) or UploadNotFoundError(_GONE)
        return await self._open_all(found, None)

    async def size(self) -> int:
        """How many bytes are kept.

        Raises:
            UploadNotFoundError: there are none of it.
            StoreUnavailableError: a store that may have them does not answer.
        """
        found = await self._found()
        leader = _furthest(found)
        if leader is None:
            raise _first_error(found) or UploadNotFoundError(_GONE)
        stored = found[leader]
        assert isinstance(stored, StoredBlob)
        return stored.size

    async def remove(self) -> None:
        """Remove what there is of it, in every store that answers.

        Raises:
            StoreUnavailableError: one does not.
        """
        ends = await asyncio.gather(*(store.delete(self._key) for store in self._stores), return_exceptions=True)
        for error in ends:
            if error is not None:
                raise error

    def written(self, blob: Blob) -> Written:
        """What became of the write, once it is committed: ``blob`` is what was written."""
        if self._fan_out is None:
            return Written(blob, self.placement)
        first, *copies = self._fan_out.committed()
        return Written(replace(blob, ref=first), self.placement, tuple(copies), self._fan_out.failed())

    async def _found(self) -> dict[str, StoredBlob | TintypeError | None]:
        async def look(store: ImageStore) -> StoredBlob | TintypeError | None:
            try:
                async with in_patience(store) if len(self._stores) > 1 else nullcontext():
                    return await store.stat(self._key)
            except BlobNotFoundError:
                return None
            except TintypeError as exc:
                return exc

        looks = await asyncio.gather(*(look(store) for store in self._stores))
        return {store.name: each for store, each in zip(self._stores, looks, strict=True)}

    async def _open_one(self, store: ImageStore, *, create: bool) -> tuple[BlobWriter, AsyncIterator[bytes]]:
        try:
            writer = await store.open_write(self._key, resume=True)
        except AlreadyExistsError:
            # They were committed, and the importer was killed before it could record them.
            stored = await store.stat(self._key)
            return CommittedBytes(self._key, stored.size), store.read(self._key)
        except BlobNotFoundError:
            if not create:
                raise UploadNotFoundError(_GONE) from None
            writer = await store.open_write(self._key)
        return writer, store.read_uncommitted(self._key)

    async def _open_all(
        self, found: Mapping[str, StoredBlob | TintypeError | None], leader: str | None
    ) -> tuple[BlobWriter, AsyncIterator[bytes]]:
        opened: list[Branch] = []
        failed = {name: each for name, each in found.items() if isinstance(each, TintypeError)}
        pieces, leading = _nothing(), None
        try:
            for store in self._stores:
                if store.name == leader:
                    writer, pieces = await self._lead(store, found[leader])
                    leading = Branch(store, writer)
                    opened.append(leading)
            others = [store for store in self._stores if store.name != leader and store.name not in failed]
            for store, writing in await begin_all(others, lambda store: begin(store, self._key)):
                if isinstance(writing, TintypeError):
                    failed[store.name] = writing
                else:
                    opened.append(Branch(store, writing))
            for error in failed.values():
                if isinstance(error, UploadBusyError):
                    raise error
            self._fan_out = self._fanned_out(opened, failed, leading)
            self._fan_out.require_alive()
        except BaseException:
            ends = (each.keep() if each is leading else each.give_up() for each in opened)
            await asyncio.gather(*ends, return_exceptions=True)  # what is left of them is swept
            raise
        return self._fan_out, self._fan_out.caught_up(pieces, leading) if leading else pieces

    async def _lead(
        self, store: ImageStore, there: StoredBlob | TintypeError | None
    ) -> tuple[BlobWriter, AsyncIterator[bytes]]:
        if isinstance(there, StoredBlob) and there.is_committed:  # the store need not even take bytes any more
            return CommittedBytes(self._key, there.size), store.read(self._key)
        return await self._open_one(store, create=False)

    def _fanned_out(
        self, opened: Sequence[Branch], failed: Mapping[str, TintypeError], leading: Branch | None
    ) -> FanOutWriter:
        order = {store.name: index for index, store in enumerate(self._stores)}
        if not opened:
            raise next(iter(failed.values()))
        return FanOutWriter(
            sorted(opened, key=lambda branch: order[branch.store.name]),
            failed,
            offset=leading.writer.offset if leading else 0,
            is_whole=leading is not None and isinstance(leading.writer, CommittedBytes),
            all_must_succeed=self.placement.all_must_succeed,
            is_recorded=self._is_recorded,
        )


class CommittedBytes:
    """A write that was committed already, so that its bytes can pass the same checks once more."""

    def __init__(self, key: str, size: int) -> None:
        self._key = key
        self._size = size

    @property
    def key(self) -> str:
        """What the bytes are called."""
        return self._key

    @property
    def offset(self) -> int:
        """How many there are."""
        return self._size

    @property
    def local_path(self) -> Path | None:
        """Nothing is written."""
        return None

    async def append(self, data: bytes | memoryview) -> None:
        """Refuse: committed bytes never change.

        Raises:
            AlreadyExistsError: always.
        """
        raise AlreadyExistsError("the upload has all its bytes already")

    async def commit(self, *, size: int, digests: Mapping[str, str]) -> None:
        """They are committed."""

    async def abort(self) -> None:
        """Keep them: the replica that committed them may have recorded them by now; if not, they are swept."""

    async def close(self) -> None:
        """Keep them."""


def _furthest(found: Mapping[str, StoredBlob | TintypeError | None]) -> str | None:
    """The store with the most of it: with all, where it is committed."""
    there = [(each.is_committed, each.size, name) for name, each in found.items() if isinstance(each, StoredBlob)]
    return max(there)[2] if there else None


def _first_error(found: Mapping[str, StoredBlob | TintypeError | None]) -> TintypeError | None:
    return next((each for each in found.values() if isinstance(each, TintypeError)), None)


async def _nothing() -> AsyncIterator[bytes]:
    no_pieces: tuple[bytes, ...] = ()
    for piece in no_pieces:
        yield piece
