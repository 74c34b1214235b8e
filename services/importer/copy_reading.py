"""Reading one stored copy of an image from its beginning to its end, and what its bytes prove to be."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing

from tintype.adapters.decorators.verified_reads import trusted_digest
from tintype.domain.values import Blob, BlobRef, Digest
from tintype.ports.image_store import ImageStore
from tintype.runtime.metrics import BYTES
from tintype.runtime.token_bucket import TokenBucket

_SCRUBBED = BYTES.labels("scrub")


class CopyReading:
    """One reading of the copy at ``ref``, which should be ``blob``; at most as many bytes as tell it from that."""

    def __init__(self, store: ImageStore, ref: BlobRef, blob: Blob, pace: TokenBucket) -> None:
        self._store = store
        self._ref = ref
        self._blob = blob
        self._pace = pace
        self._expected = trusted_digest(blob)
        self._hash = hashlib.new(self._expected.algorithm, usedforsecurity=False)
        self._size = 0

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the bytes as they are hashed.

        Raises:
            BlobNotFoundError, BlobDamagedError: they are gone, or cannot be read.
            StoreUnavailableError: the store does not answer.
        """
        reading = self._store.read(self._ref.key, length=self._blob.size + 1)
        async with aclosing(reading) as pieces:  # type: ignore[type-var]  # every store's read is a generator
            async for piece in pieces:
                await self._pace.take(len(piece))
                await asyncio.to_thread(self._hash.update, piece)
                self._size += len(piece)
                _SCRUBBED.inc(len(piece))
                yield piece

    @property
    def found(self) -> Digest:
        """The digest of what was read, of all of it or of one byte more than there should be."""
        return Digest(self._expected.algorithm, self._hash.hexdigest())

    @property
    def is_sound(self) -> bool:
        """Whether these are the image's bytes, all of them and no more."""
        return self._size == self._blob.size and self.found == self._expected
