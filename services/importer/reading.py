"""One reading of an image, from as many of its copies as it takes.

A store that fails is left for the next one at the offset that was reached. A reading of the whole image is proven by
its digest, across all the stores that it took: its last piece goes out only when all of them are right.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import structlog

from services.importer.read_order import in_reading_order
from services.importer.scrubbing import record
from tintype.adapters.decorators.verified_reads import Proof, trusted_digest
from tintype.adapters.stores import Stores
from tintype.domain.commands import RecordCopyDamaged
from tintype.domain.errors import BlobDamagedError, BlobNotFoundError, StoreUnavailableError, TintypeError
from tintype.domain.image import Image, ImageData
from tintype.domain.values import BlobRef, Digest
from tintype.runtime.journal import Journal

log = structlog.get_logger(__name__)

ACTOR = "service:importer"


class Reading:
    """The bytes of ``image`` from ``begin`` to ``end``; read once."""

    def __init__(self, journal: Journal, stores: Stores, image: Image, data: ImageData, begin: int, end: int) -> None:
        self._journal = journal
        self._stores = stores
        self._image = image
        self._data = data
        self._offset = begin
        self._end = end
        self._proof = Proof(data.blob) if begin == 0 and end == data.blob.size else None
        self._kept = b""
        self._givers: set[BlobRef] = set()
        self._is_spoilt = False

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the bytes, in pieces of at most 1 MiB.

        Raises:
            BlobNotFoundError, BlobDamagedError, StoreUnavailableError: no store has all of the bytes; or wrong ones
                have gone out already, and there is no taking them back.
        """
        failure = self._without_copies()
        for ref in in_reading_order(self._stores, self._data.sound):
            try:
                async with aclosing(self._from(ref)) as pieces:
                    async for piece in pieces:
                        yield piece
                return
            except (BlobNotFoundError, BlobDamagedError, StoreUnavailableError) as exc:
                failure = exc
                log.warning(
                    "store failed a read",
                    image_id=self._image.id,
                    store=ref.store,
                    offset=self._offset,
                    reason=exc.reason,
                )
            if self._is_spoilt:
                break
        raise failure

    def _without_copies(self) -> TintypeError:
        if self._data.damaged:
            known = len(self._data.damaged)
            return BlobDamagedError(f"no sound copy of image {self._image.id} is known: {known} are damaged")
        return BlobNotFoundError(f"the bytes of image {self._image.id} are in no store")

    async def _from(self, ref: BlobRef) -> AsyncGenerator[bytes, None]:
        """Go on with one copy."""
        async with aclosing(self._rest_of(ref)) as pieces:
            async for piece in pieces:
                if self._offset + len(piece) > self._end:
                    raise BlobDamagedError(f"store {ref.store!r} gave more bytes than it was asked for")
                if out := await self._taken(ref, piece):
                    yield out
        if self._offset != self._end:
            await self._note_size(ref)
            raise BlobDamagedError(f"store {ref.store!r} has only {self._offset} bytes of the image")
        if self._proof is not None:
            await self._conclude(self._proof, ref)
            if self._kept:
                yield self._kept

    async def _rest_of(self, ref: BlobRef) -> AsyncGenerator[bytes, None]:
        if self._offset == self._end:  # of nothing
            return
        reading = self._stores.named(ref.store).read(ref.key, offset=self._offset, length=self._end - self._offset)
        try:
            async with aclosing(reading) as pieces:  # type: ignore[type-var]  # every store's read is a generator
                async for piece in pieces:
                    yield piece
        except (BlobNotFoundError, BlobDamagedError, StoreUnavailableError):
            if self._offset < self._end:
                raise
            log.info("store failed behind the last byte", image_id=self._image.id, store=ref.store)

    async def _taken(self, ref: BlobRef, piece: bytes) -> bytes:
        """What may go out now that ``piece`` is here: of a whole image, the piece before it."""
        if self._proof is None:
            self._offset += len(piece)
            return piece
        await self._proof.feed(piece)
        self._givers.add(ref)
        self._offset += len(piece)
        out, self._kept = self._kept, piece
        return out

    async def _conclude(self, proof: Proof, ref: BlobRef) -> None:
        try:
            await proof.conclude(ref.store)
        except BlobDamagedError:
            if len(self._givers) == 1:  # else nobody knows which of them gave the wrong bytes
                await self._note(next(iter(self._givers)), proof.found)
            if len(self._kept) < self._offset:
                self._is_spoilt = True
            else:  # all of it is still here: as if nothing had been read
                self._proof, self._kept, self._offset = Proof(self._data.blob), b"", 0
                self._givers.clear()
            raise

    async def _note_size(self, ref: BlobRef) -> None:
        """Note that a copy is damaged if the store itself says that it is too short."""
        with suppress(TintypeError):
            stored = await self._stores.named(ref.store).stat(ref.key)
            if stored.is_committed and stored.size < self._data.blob.size:
                await self._note(ref, None)

    async def _note(self, ref: BlobRef, found: Digest | None) -> None:
        """Tell the log that a copy is damaged, so that nobody reads it again before the scrub has healed it."""
        expected = trusted_digest(self._data.blob)
        log.warning(
            "copy is damaged",
            image_id=self._image.id,
            store=ref.store,
            expected=str(expected),
            found=str(found or ""),
        )
        try:
            now = await self._journal.load(self._image.id)
            if now is None or now.version != self._image.version:
                return  # it may have been healed while it was read: whoever reads it next finds out
            await record(self._journal, ACTOR, now, RecordCopyDamaged(ref, expected, found))
        except TintypeError as exc:
            log.warning("damaged copy was not noted", image_id=self._image.id, store=ref.store, error=str(exc))
