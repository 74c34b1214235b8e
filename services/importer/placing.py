"""The step PLACE: an image's final bytes, from one proven reading, into every store that should have them too.

All those stores are written at once. None is committed before the whole reading has proven right by its digest. What a
killed attempt left under the key is written anew; what a failed one left is no copy that the log knows, and is swept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import structlog

from services.importer.beginning import begin, begin_all
from services.importer.fan_out import Branch, FanOutWriter
from services.importer.placement import resolved
from services.importer.reading import Reading
from tintype.adapters.stores import Stores
from tintype.domain.commands import RecordPlaced
from tintype.domain.decide import final_blob
from tintype.domain.errors import (
    BlobDamagedError,
    InternalError,
    TintypeError,
    UploadBusyError,
)
from tintype.domain.image import Image, ImageData, Operation
from tintype.ports.image_store import BlobWriter, ImageStore
from tintype.runtime.journal import Journal
from tintype.runtime.metrics import BYTES
from tintype.runtime.worker import StepRun

log = structlog.get_logger(__name__)

_COPIED = BYTES.labels("copy")

_LONGEST_CLAIM_S = 120.0
_PAUSE_S = 2.0


class Placing:
    """Does the step PLACE."""

    def __init__(self, journal: Journal, stores: Stores) -> None:
        self._journal = journal
        self._stores = stores

    async def place_image(self, image: Image, run: StepRun) -> RecordPlaced:
        """Copy the final bytes to the stores that lack them.

        Raises:
            StoreNotFoundError: a store is asked for that there is not.
            BlobNotFoundError, BlobDamagedError: no store has the bytes as they were.
            StoreFullError, StoreUnavailableError: a store failed, and all have to succeed; or every one has failed, and
                copies are all that was asked for.
        """
        operation = image.operation
        if operation is None:
            raise InternalError(f"image {image.id} has nothing to place")
        while True:
            data = image.data or _about_to_be_published(image, operation)
            targets = self._targets(operation, data)
            if not targets:
                return RecordPlaced(operation.id, ())
            try:
                return await self._copied(image, operation, data, targets, run)
            except BlobDamagedError:
                # A copy of a published image that gave wrong bytes is known by now: there may be a better one.
                now = await self._journal.load(image.id)
                if now is None or now.data is None or now.data.sound in ((), data.sound):
                    raise
                image = now

    def _targets(self, operation: Operation, data: ImageData) -> Sequence[ImageStore]:
        placement = resolved(self._stores, operation.placement)
        failed = {each.store for each in operation.failed_stores}
        there = {ref.store for ref in data.sound} | failed
        return [self._stores.named(name) for name in placement.stores if name not in there]

    async def _copied(
        self, image: Image, operation: Operation, data: ImageData, targets: Sequence[ImageStore], run: StepRun
    ) -> RecordPlaced:
        writer = await self._open(operation, data.blob.ref.key, targets)
        reading = Reading(self._journal, self._stores, image, data, 0, data.blob.size)
        try:
            async with aclosing(reading.pieces()) as pieces:
                async for piece in pieces:
                    await writer.append(piece)
                    _COPIED.inc(len(piece))
                    run.tell_progress(writer.offset, data.blob.size)
            await writer.commit(size=data.blob.size, digests=data.blob.digests)
        except BaseException as exc:
            # What is committed stays until it is swept: another worker may have recorded it by now.
            await writer.give_up()
            is_needed = operation.placement.all_must_succeed or image.data is not None
            if is_needed or writer.is_alive or not isinstance(exc, TintypeError):
                raise
        copies, failed = writer.committed(), writer.failed()
        log.info(
            "image was placed",
            image_id=image.id,
            operation_id=operation.id,
            stores=[ref.store for ref in copies],
            failed_stores=[each.store for each in failed],
        )
        return RecordPlaced(operation.id, copies, failed)

    async def _open(self, operation: Operation, key: str, targets: Sequence[ImageStore]) -> FanOutWriter:
        opened, failed = [], {}
        for store, writer in await begin_all(targets, lambda store: _begin(store, key)):
            if isinstance(writer, TintypeError):
                failed[store.name] = writer
            else:
                opened.append(Branch(store, writer))
        return FanOutWriter(opened, failed, all_must_succeed=operation.placement.all_must_succeed)


async def _begin(store: ImageStore, key: str) -> BlobWriter:
    waited_s = 0.0
    while True:
        try:
            return await begin(store, key)
        except UploadBusyError:  # a killed worker's claim lapses by itself
            if waited_s >= _LONGEST_CLAIM_S:
                raise
            await asyncio.sleep(_PAUSE_S)
            waited_s += _PAUSE_S


def _about_to_be_published(image: Image, operation: Operation) -> ImageData:
    if operation.staged is None or operation.verification is None:
        raise InternalError(f"image {image.id} has nothing to place")
    blob = final_blob(operation)
    copies = (ref for ref in operation.copies if ref.key == blob.ref.key)
    locations = tuple(dict.fromkeys((blob.ref, *copies)))
    return ImageData(blob, locations, operation.staged, operation.verification, image.updated_at)
