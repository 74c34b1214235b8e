"""The bytes of active images, from any offset, from whichever store has them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from services.importer.reading import Reading
from tintype.adapters.stores import Stores
from tintype.domain.access import Caller, visible
from tintype.domain.errors import ImageHasNoDataError, RangeNotSatisfiableError
from tintype.domain.image import Image, ImageData
from tintype.domain.lifecycle import Status
from tintype.domain.values import ImageId
from tintype.runtime.journal import Journal
from tintype.runtime.metrics import BYTES

_DOWNLOADED = BYTES.labels("download")


class Downloads:
    """Reads images for those who may see them."""

    def __init__(self, journal: Journal, stores: Stores) -> None:
        self._journal = journal
        self._stores = stores

    async def read(self, caller: Caller, image_id: ImageId, *, offset: int, limit: int) -> AsyncIterator[bytes]:
        """Yield the image's bytes from ``offset``, ``limit`` at most (0 is all), in pieces of at most 1 MiB.

        A store that fails in the middle is left for the next one that has the image. A copy that is known to be damaged
        is never read. Of the whole image the last piece goes out only when the digest of all of them is right.

        Raises:
            ImageNotFoundError: no such image for this caller.
            ImageHasNoDataError: it is not active.
            RangeNotSatisfiableError: ``offset`` is negative or beyond the end, or ``limit`` is negative.
            BlobNotFoundError, BlobDamagedError, StoreUnavailableError: no store has all of the bytes, or they have
                turned out to be others.
        """
        image = visible(await self._journal.load(image_id), caller)
        data = data_of(image)
        end = _end(data.blob.size, offset, limit)
        reading = Reading(self._journal, self._stores, image, data, offset, end)
        async with aclosing(reading.pieces()) as pieces:
            async for piece in pieces:
                _DOWNLOADED.inc(len(piece))
                yield piece


def data_of(image: Image) -> ImageData:
    """What an active image has.

    Raises:
        ImageHasNoDataError: it is not active.
    """
    if image.status is not Status.ACTIVE or image.data is None:
        raise ImageHasNoDataError(f"image {image.id} is {image.status}, and has no bytes to read")
    return image.data


def _end(size: int, offset: int, limit: int) -> int:
    if not 0 <= offset <= size or limit < 0:
        raise RangeNotSatisfiableError(f"the image has {size} bytes; offset {offset}, limit {limit} is no part of it")
    return min(size, offset + limit) if limit else size
