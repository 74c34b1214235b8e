"""Removing bytes that nobody wants: at once when an event makes them unwanted, and slowly whatever was missed.

What is unwanted follows from the log alone (:func:`leftovers`). Bytes whose operation the log does not know belong to
an upload that is not finished: only their age tells that it never will be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog

from tintype.adapters.stores import Stores
from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import TintypeError, UploadBusyError
from tintype.domain.events import (
    CopyRemoved,
    ImageDeleted,
    ImageExpired,
    ImagePlaced,
    ImagePublished,
    ImageStaged,
    ImageStepFailed,
    ImportRequested,
    RecordedEvent,
)
from tintype.domain.evolve import fold
from tintype.domain.image import Image
from tintype.domain.lifecycle import Status
from tintype.domain.values import BlobRef, OperationId
from tintype.ports.clock import Clock
from tintype.ports.image_store import ImageStore, StoredBlob
from tintype.runtime.journal import Journal

log = structlog.get_logger(__name__)

_ENDING = (ImageStepFailed, ImageDeleted, ImageExpired, ImageStaged, ImagePlaced, ImagePublished, CopyRemoved)
"""Events after which some of an image's bytes may be wanted no longer."""


def leftovers(history: Sequence[RecordedEvent], stored: Iterable[BlobRef]) -> tuple[BlobRef, ...]:
    """Those of ``stored`` that the image of this history will never want again.

    Safe with a history that is older than the list, or the other way round: an operation that has ended never runs
    again, and one that the history does not know is left alone.
    """
    image = fold(history)
    if image is None:
        return ()
    own = [ref for ref in stored if BlobKey.parse(ref.key).image_id == image.id]
    unwanted = tuple(ref for ref in own if not image.wants(ref))
    if image.status in (Status.ACTIVE, Status.DELETED):  # what an unfinished upload left has no use any more
        return unwanted
    ended = _known_operations(history)
    if image.operation and image.operation.is_running:
        ended -= {image.operation.id}
    return tuple(ref for ref in unwanted if BlobKey.parse(ref.key).operation_id in ended)


def _known_operations(history: Iterable[RecordedEvent]) -> set[OperationId]:
    return {
        recorded.payload.operation_id
        for recorded in history
        if isinstance(recorded.payload, ImportRequested | ImageStaged)
    }


@dataclass(frozen=True, slots=True)
class SweepLimits:
    """Ages in seconds: of an unfinished upload, and of bytes whose image the log does not know."""

    upload_ttl_s: float
    orphan_age_s: float
    interval_s: float


class Sweeper:
    """Removes leftovers from all stores."""

    def __init__(self, journal: Journal, stores: Stores, clock: Clock, limits: SweepLimits) -> None:
        self._journal = journal
        self._stores = stores
        self._clock = clock
        self._limits = limits

    async def observe(self, event: RecordedEvent, image: Image) -> None:
        """Remove what ``event`` made unwanted.

        Raises:
            EventLogUnavailableError, StoreUnavailableError: repeat it.
        """
        if not isinstance(event.payload, _ENDING):
            return
        for store in self._stores.by_name.values():
            stored = [BlobRef(store.name, blob.key) async for blob in store.list(image.id)]
            if stored:
                for ref in leftovers(await self._journal.history(image.id), stored):
                    await self._remove(store, ref.key)

    async def run(self) -> None:
        """Sweep all stores again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._limits.interval_s)
            try:
                await self.sweep()
            except TintypeError as exc:
                log.warning("sweep was ended early", reason=exc.reason, error=str(exc))

    async def sweep(self) -> None:
        """Go through all stores once.

        Raises:
            EventLogUnavailableError, StoreUnavailableError: some of it is left for the next time.
        """
        for store in self._stores.by_name.values():
            by_image: dict[str, list[StoredBlob]] = {}
            async for blob in store.list():
                by_image.setdefault(BlobKey.parse(blob.key).image_id, []).append(blob)
            for blobs in by_image.values():
                await self._sweep_image(store, blobs)

    async def _sweep_image(self, store: ImageStore, blobs: Sequence[StoredBlob]) -> None:
        # The history is read after the list: bytes that are in the list and wanted are wanted in this history.
        history = await self._journal.history(BlobKey.parse(blobs[0].key).image_id)
        unwanted = {ref.key for ref in leftovers(history, [BlobRef(store.name, blob.key) for blob in blobs])}
        known = _known_operations(history)
        now = self._clock.now()
        committed = {blob.key for blob in blobs if blob.is_committed}
        for blob in blobs:
            age = now - blob.modified_at
            if not history:
                is_due = age > timedelta(seconds=self._limits.orphan_age_s)
            elif BlobKey.parse(blob.key).operation_id not in known:
                is_due = age > timedelta(seconds=self._limits.upload_ttl_s)
            else:
                is_due = False
                is_forsaken = not blob.is_committed and blob.key in committed and blob.key not in unwanted
                if is_forsaken and age > timedelta(seconds=self._limits.upload_ttl_s):
                    await self._give_up_heal(store, blob.key)
            if is_due or blob.key in unwanted:
                await self._remove(store, blob.key)

    async def _give_up_heal(self, store: ImageStore, key: str) -> None:
        """Remove what a heal has written that was killed, and not what it should have replaced."""
        with suppress(UploadBusyError):  # it is not killed
            writer = await store.open_write(key, replace=True)
            await writer.abort()
            log.info("unfinished heal removed", store=store.name, key=key)

    async def _remove(self, store: ImageStore, key: str) -> None:
        await store.delete(key)
        log.info("unwanted bytes were removed", store=store.name, key=key)
