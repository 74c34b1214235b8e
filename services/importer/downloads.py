"""The bytes of active images, from any offset, from whichever store has them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import structlog

from tintype.adapters.stores import Stores
from tintype.domain.access import Caller, visible
from tintype.domain.errors import (
    BlobDamagedError,
    BlobNotFoundError,
    ImageHasNoDataError,
    RangeNotSatisfiableError,
    StoreUnavailableError,
    TintypeError,
)
from tintype.domain.image import Image, ImageData
from tintype.domain.lifecycle import Status
from tintype.domain.values import BlobRef, ImageId
from tintype.runtime.journal import Journal

log = structlog.get_logger(__name__)


class Downloads:
    """Reads images for those who may see them."""

    def __init__(self, journal: Journal, stores: Stores) -> None:
        self._journal = journal
        self._stores = stores

    async def read(self, caller: Caller, image_id: ImageId, *, offset: int, limit: int) -> AsyncIterator[bytes]:
        """Yield the image's bytes from ``offset``, ``limit`` at most (0 is all), in pieces of at most 1 MiB.

        A store that fails in the middle is left for the next one that has the image. A copy that is known to be damaged
        is never read.

        Raises:
            ImageNotFoundError: no such image for this caller.
            ImageHasNoDataError: it is not active.
            RangeNotSatisfiableError: ``offset`` is negative or beyond the end, or ``limit`` is negative.
            BlobNotFoundError, BlobDamagedError, StoreUnavailableError: no store has all of the bytes.
        """
        image = visible(await self._journal.load(image_id), caller)
        data = _data(image)
        end = _end(data.blob.size, offset, limit)
        failure: TintypeError = BlobNotFoundError(f"the bytes of image {image_id} are in no store")
        if data.damaged:
            failure = BlobDamagedError(f"no sound copy of image {image_id} is known: {len(data.damaged)} are damaged")
        for ref in (ref for ref in data.locations if ref not in data.damaged):
            try:
                async with aclosing(self._from(ref, offset, end)) as pieces:  # type: ignore[type-var]  # a generator
                    async for piece in pieces:
                        offset += len(piece)
                        yield piece
                return
            except (BlobNotFoundError, BlobDamagedError, StoreUnavailableError) as exc:
                failure = exc
                log.warning("store failed a read", image_id=image_id, store=ref.store, offset=offset, reason=exc.reason)
        raise failure

    async def _from(self, ref: BlobRef, offset: int, end: int) -> AsyncIterator[bytes]:
        if offset == end:
            return
        reading = self._stores.named(ref.store).read(ref.key, offset=offset, length=end - offset)
        async with aclosing(reading) as pieces:  # type: ignore[type-var]  # every store's read is a generator
            async for piece in pieces:
                offset += len(piece)
                yield piece
        if offset != end:
            raise BlobDamagedError(f"store {ref.store!r} has only {offset} bytes of the image")


def _data(image: Image) -> ImageData:
    if image.status is not Status.ACTIVE or image.data is None:
        raise ImageHasNoDataError(f"image {image.id} is {image.status}, and has no bytes to read")
    return image.data


def _end(size: int, offset: int, limit: int) -> int:
    if not 0 <= offset <= size or limit < 0:
        raise RangeNotSatisfiableError(f"the image has {size} bytes; offset {offset}, limit {limit} is no part of it")
    return min(size, offset + limit) if limit else size
