"""Reads of one image's bytes that prove what they give: all of it, and by its digest.

A store's own decorators cannot do this, because a store does not know what its bytes should be: whoever reads an image
does, and puts ``VerifiedReads`` around the store for that reading. :class:`Proof` is what it is made of, for who reads
one image from several stores in turn.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing

from tintype.adapters.decorators.delegation import DelegatingStore
from tintype.domain.errors import BlobDamagedError, InternalError
from tintype.domain.values import STRONG_DIGESTS, Blob, Digest
from tintype.ports.image_store import ImageStore


def trusted_digest(blob: Blob) -> Digest:
    """The digest to compare with.

    Raises:
        InternalError: the image has none that counts.
    """
    for algorithm in STRONG_DIGESTS:
        if value := blob.digests.get(algorithm):
            return Digest(algorithm, value)
    raise InternalError("the image has no digest that its bytes could be compared with")


class Proof:
    """Compares bytes that come piece by piece, from the first to the last one of an image, with what they should be."""

    def __init__(self, expected: Blob) -> None:
        self._expected = trusted_digest(expected)
        self._expected_size = expected.size
        self._hash = hashlib.new(self._expected.algorithm, usedforsecurity=False)
        self._hashing: asyncio.Task[None] | None = None
        self._size = 0
        self.found: Digest | None = None
        """The digest of what was fed, once :meth:`conclude` had all of the bytes."""

    @property
    def expected(self) -> Digest:
        """The digest that the bytes should have."""
        return self._expected

    async def feed(self, piece: bytes) -> None:
        """Take the next piece; it is hashed in a thread while the caller goes on."""
        await self._settle()
        self._size += len(piece)
        self._hashing = asyncio.create_task(asyncio.to_thread(self._hash.update, piece))

    async def conclude(self, store: str) -> None:
        """All of the bytes were fed.

        Raises:
            BlobDamagedError: they are not the image's; ``store`` is where the last of them came from.
        """
        await self._settle()
        if self._size != self._expected_size:
            raise BlobDamagedError(f"store {store!r} has {self._size} bytes of an image of {self._expected_size}")
        self.found = Digest(self._expected.algorithm, self._hash.hexdigest())
        if self.found != self._expected:
            evidence = {"expected": str(self._expected), "found": str(self.found)}
            raise BlobDamagedError(f"the bytes from store {store!r} have another digest", evidence=evidence)

    async def _settle(self) -> None:
        if self._hashing is not None:
            await self._hashing
            self._hashing = None


class VerifiedReads(DelegatingStore):
    """A store whose readings of ``expected``, and of nothing else, are proven; of a part, that it is whole."""

    def __init__(self, inner: ImageStore, expected: Blob) -> None:
        super().__init__(inner)
        self._expected = expected

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield the image's bytes; the last piece of a whole reading only once all of them have proven right.

        Raises:
            BlobDamagedError: there are fewer bytes than there should be, or others.
            InternalError: the image has no digest that counts.
        """
        size = self._expected.size
        if offset == 0 and (length is None or length >= size):
            return self._whole(key)
        return self._part(key, offset, size - offset if length is None else min(length, size - offset))

    async def _whole(self, key: str) -> AsyncIterator[bytes]:
        proof = Proof(self._expected)
        kept = b""
        # One byte more than there should be, so that a longer copy is found as well.
        reading = self._inner.read(key, length=self._expected.size + 1)
        async with aclosing(reading) as pieces:  # type: ignore[type-var]  # every store's read is a generator
            async for piece in pieces:
                await proof.feed(piece)
                if kept:
                    yield kept
                kept = piece
        await proof.conclude(self.name)
        if kept:
            yield kept

    async def _part(self, key: str, offset: int, length: int) -> AsyncIterator[bytes]:
        left = length
        reading = self._inner.read(key, offset=offset, length=length)
        async with aclosing(reading) as pieces:  # type: ignore[type-var]  # as above
            async for piece in pieces:
                left -= len(piece)
                yield piece
        if left > 0:
            raise BlobDamagedError(f"store {self.name!r} lacks {left} bytes of the image")
