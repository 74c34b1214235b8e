"""The steps PUBLISH and PURGE: the last look at an image's bytes before it is active, and their end after it is not."""

from __future__ import annotations

import structlog

from tintype.adapters.stores import Stores
from tintype.domain.commands import RecordPublished, RecordPurged
from tintype.domain.decide import final_blob
from tintype.domain.errors import BlobDamagedError, InternalError
from tintype.domain.image import Image
from tintype.runtime.worker import StepRun

log = structlog.get_logger(__name__)


class Publishing:
    """Does the steps PUBLISH and PURGE."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    async def publish_image(self, image: Image, run: StepRun) -> RecordPublished:
        """See that the final bytes are there, whole, and remove the ones that they were made from.

        Raises:
            BlobNotFoundError, BlobDamagedError: the bytes are gone, or not whole.
            StoreUnavailableError: the store does not answer.
        """
        operation = image.operation
        if operation is None or operation.staged is None:
            raise InternalError(f"image {image.id} has nothing to publish")
        blob = final_blob(operation)
        stored = await self._stores.named(blob.ref.store).stat(blob.ref.key)
        if not stored.is_committed or stored.size != blob.size:
            raise BlobDamagedError(f"image {image.id} has {blob.size} bytes, and its store has {stored.size} of them")
        if operation.staged.ref != blob.ref:
            await self._stores.named(operation.staged.ref.store).delete(operation.staged.ref.key)
        return RecordPublished(operation.id, (blob.ref,))

    async def purge_image(self, image: Image, run: StepRun) -> RecordPurged:
        """Remove every byte of a deleted image.

        Raises:
            StoreUnavailableError: a store does not answer.
        """
        for store in self._stores.by_name.values():
            async for stored in store.list(image.id):
                await store.delete(stored.key)
        return RecordPurged()
