"""Removing bytes that nobody wants: at once when an event makes them unwanted, and slowly whatever was missed.

What is unwanted follows from the log alone. Bytes whose operation the log does not know belong to an upload that is not
finished: only their age tells that it never will be (:mod:`services.importer.sweep_judgement`).

Bytes are judged twice: by what was found, and once more by what is there, and in the log, in the moment before they go.
An unfinished write goes only into the hands of its one writer, and so never under another one, nor with what is
committed under the same key. What is left is the time that one ``delete`` takes: where an upload is gone on with in
just that moment, after longer than the sweep leaves it, its bytes are found gone when they should be published.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import structlog

from services.importer.kept_copies import Copies, KeptCopies
from services.importer.sweep_judgement import Kind, SweepLimits, judged
from tintype.adapters.stores import Stores, require_answer
from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import (
    BlobNotFoundError,
    LogCorruptError,
    StoreFullError,
    StoreUnavailableError,
    TintypeError,
    UploadBusyError,
)
from tintype.domain.events import (
    CopyRemoved,
    Failure,
    ImageDeleted,
    ImageExpired,
    ImagePlaced,
    ImagePublished,
    ImageStaged,
    ImageStepFailed,
    RecordedEvent,
)
from tintype.domain.image import Image, ImageData, failure_of
from tintype.domain.lifecycle import Status
from tintype.domain.values import ImageId
from tintype.ports.clock import Clock
from tintype.ports.image_store import ImageStore, StoredBlob
from tintype.runtime.journal import Journal

__all__ = ["Kind", "SweepFinding", "SweepLimits", "Sweeper", "Swept"]

log = structlog.get_logger(__name__)

_ENDING = (ImageStepFailed, ImageDeleted, ImageExpired, ImageStaged, ImagePlaced, ImagePublished, CopyRemoved)
"""Events after which some of an image's bytes may be wanted no longer."""


@dataclass(frozen=True, slots=True)
class SweepFinding:
    """Bytes, or a copy, that are not as they should be, and what became of them.

    ``failure`` is why bytes that should go did not. ``kind`` is ``None`` where it is the store that could not be swept,
    or the image's history that cannot be read: then ``failure`` says why.
    """

    store: str
    kind: Kind | None = None
    key: str = ""
    image_id: str = ""
    size: int = 0
    is_removed: bool = False
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Swept:
    """How far a run is: ``blobs`` looked at so far, and what was found since the last time."""

    blobs: int
    finding: SweepFinding | None = None


class Sweeper:
    """Removes leftovers from all stores; any number may run at once, in any number of processes."""

    def __init__(self, journal: Journal, stores: Stores, clock: Clock, limits: SweepLimits) -> None:
        self._journal = journal
        self._stores = stores
        self._clock = clock
        self._limits = limits
        self._kept = KeptCopies(journal.event_log)

    async def observe(self, event: RecordedEvent, image: Image) -> None:
        """Remove what ``event`` made unwanted, from every store that answers.

        Raises:
            EventLogUnavailableError: repeat it.
            StoreUnavailableError: a store does not answer, and a copy is to go from it: repeat it. Elsewhere, and of an
                event that is older than a sweep's interval, it is left to the sweep.
        """
        if not isinstance(event.payload, _ENDING):
            return
        away: StoreUnavailableError | None = None
        for store in self._stores.by_name.values():
            try:
                found = [blob async for blob in store.list(image.id)]
                async with aclosing(self._judge(store, image.id, found, is_dry=False)) as findings:
                    async for finding in findings:
                        if finding.failure:
                            log.warning("unwanted bytes are left", store=store.name, key=finding.key)
            except StoreUnavailableError as exc:
                log.warning("unwanted bytes may be left", store=store.name, image_id=image.id, reason=exc.reason)
                if self._is_to_be_repeated(event, store.name):
                    away = exc
        if away is not None:
            raise away

    def _is_to_be_repeated(self, event: RecordedEvent, store: str) -> bool:
        removed = isinstance(event.payload, CopyRemoved) and event.payload.ref.store == store
        return removed and (self._clock.now() - event.event.time).total_seconds() < self._limits.interval_s

    async def run(self) -> None:
        """Sweep all stores again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._limits.interval_s)
            try:
                await self.sweep()
            except TintypeError as exc:
                log.warning("sweep was ended early", reason=exc.reason, error=str(exc))
            except Exception:  # what ends a background task ends the process, and with it the uploads
                log.exception("sweep crashed")

    async def sweep(self) -> None:
        """Go through all stores once.

        Raises:
            EventLogUnavailableError: some of it is left for the next time.
        """
        blobs, removed, size, missing, away = 0, 0, 0, 0, 0
        async with aclosing(self.steps()) as steps:
            async for step in steps:
                blobs, finding = step.blobs, step.finding
                if finding is None:
                    continue
                away += finding.kind is None
                missing += finding.kind is Kind.MISSING
                if finding.is_removed:
                    removed += 1
                    size += finding.size
        log.info("sweep ended", blobs=blobs, removed=removed, removed_bytes=size, missing=missing, failures=away)

    async def steps(self, *, store: str = "", dry_run: bool = False) -> AsyncGenerator[Swept, None]:
        """Go through one ``store``, or through all; yield after every piece of bytes and every finding.

        With ``dry_run`` nothing is removed. A store that does not answer is a finding, and keeps no other from being
        swept.

        Raises:
            EventLogUnavailableError: the log does not answer.
        """
        kept = await self._kept.now()
        blobs = 0
        for each in self._stores.by_name.values():
            if store not in ("", each.name):
                continue
            try:
                async with aclosing(self._sweep_store(each, kept, is_dry=dry_run)) as found:
                    async for finding in found:
                        if finding is None:
                            blobs += 1
                        yield Swept(blobs, finding)
            except StoreUnavailableError as exc:
                log.warning("store cannot be swept", store=each.name, reason=exc.reason, error=str(exc))
                yield Swept(blobs, SweepFinding(each.name, failure=failure_of(exc)))

    async def _sweep_store(
        self, store: ImageStore, kept: Mapping[ImageId, Copies], *, is_dry: bool
    ) -> AsyncGenerator[SweepFinding | None, None]:
        """Yield ``None`` for each piece of bytes that was looked at, and findings."""
        expected = {image_id for image_id, copies in kept.items() if store.name in copies.stores}
        suspects: dict[ImageId, list[StoredBlob]] = {}
        async for blob in store.list():
            image_id = BlobKey.parse(blob.key).image_id
            if blob.is_committed and image_id in expected and kept[image_id].key == blob.key:
                expected.discard(image_id)  # it is where it should be, as nearly all is: no look at its history
            else:
                suspects.setdefault(image_id, []).append(blob)
            yield None
        for image_id, blobs in suspects.items():
            async with aclosing(self._judge(store, image_id, blobs, is_dry=is_dry)) as findings:
                async for finding in findings:
                    yield finding
        for image_id in expected:
            if (lacking := await self._missing(store, image_id)) is not None:
                yield lacking

    async def _judge(
        self, store: ImageStore, image_id: ImageId, blobs: Sequence[StoredBlob], *, is_dry: bool
    ) -> AsyncGenerator[SweepFinding, None]:
        """Judge what was found of one image in one store, and remove what may go."""
        try:
            judgements = await self._judged(store, image_id, blobs)
        except LogCorruptError as exc:
            yield _unreadable(store, image_id, exc)
            return
        for blob, kind in judgements.items():
            finding = SweepFinding(store.name, kind, blob.key, image_id, blob.size)
            if is_dry or kind is Kind.SPARED:
                yield finding
            elif (outcome := await self._remove_or_tell(store, blob, finding)) is not None:
                yield outcome

    async def _judged(
        self, store: ImageStore, image_id: ImageId, blobs: Iterable[StoredBlob]
    ) -> Mapping[StoredBlob, Kind]:
        history = await self._journal.history(image_id)
        return judged(history, store.name, blobs, self._clock.now(), self._limits)

    async def _remove_or_tell(self, store: ImageStore, blob: StoredBlob, finding: SweepFinding) -> SweepFinding | None:
        """What became of bytes that may go; ``None`` where they are wanted by now, or are gone.

        Raises:
            StoreUnavailableError: the store is away altogether.
        """
        try:
            kind = await self._remove(store, blob)
        except UploadBusyError:
            kind = Kind.SPARED
        except StoreUnavailableError as exc:
            await require_answer(store)  # either it is these bytes alone that cannot be removed, or nothing can
            return replace(finding, failure=failure_of(exc))
        except (StoreFullError, LogCorruptError) as exc:
            return replace(finding, failure=failure_of(exc))
        if kind is None:
            return None
        if kind is Kind.SPARED:
            return replace(finding, kind=kind)
        log.info("bytes were removed", store=store.name, key=blob.key, size_bytes=blob.size, kind=kind)
        return replace(finding, kind=kind, is_removed=True)

    async def _remove(self, store: ImageStore, blob: StoredBlob) -> Kind | None:
        """Look once more at what is there, and remove it if it is still the same, and still may go."""
        image_id = BlobKey.parse(blob.key).image_id
        there = [found async for found in store.list(image_id) if found.key == blob.key]
        now = next((found for found in there if found.is_committed is blob.is_committed), None)
        if now is None:
            return None
        # And not earlier: the history has to be newer than the list.
        kinds = await self._judged(store, image_id, there)
        if (now.size, now.modified_at) != (blob.size, blob.modified_at):
            return Kind.SPARED
        if kinds.get(now, Kind.SPARED) is Kind.SPARED:
            return kinds.get(now)
        if not blob.is_committed:
            await _discard(store, blob.key, is_alone=len(there) == 1)
            return kinds[now]
        # Both go by the same name.
        if any(found.is_leased or kinds.get(found, Kind.SPARED) is Kind.SPARED for found in there):
            return Kind.SPARED
        await store.delete(blob.key)
        return kinds[now]

    async def _missing(self, store: ImageStore, image_id: ImageId) -> SweepFinding | None:
        """Whether the store lacks a copy that it did not list.

        Raises:
            StoreUnavailableError: it does not work, which proves nothing about its copies.
        """
        try:
            data = await self._data_in(store, image_id)
            if data is None or await _has(store, data.blob.ref.key):
                return None
            await require_answer(store)
            if await self._data_in(store, image_id) is None:  # deleted, or given up in this store, meanwhile
                return None
        except LogCorruptError as exc:
            return _unreadable(store, image_id, exc)
        log.error("copy is missing", store=store.name, image_id=image_id)
        return SweepFinding(store.name, Kind.MISSING, data.blob.ref.key, image_id, data.blob.size)

    async def _data_in(self, store: ImageStore, image_id: ImageId) -> ImageData | None:
        image = await self._journal.load(image_id)
        if image is None or image.data is None or image.status is not Status.ACTIVE:
            return None
        return image.data if store.name in {ref.store for ref in image.data.locations} else None


async def _discard(store: ImageStore, key: str, *, is_alone: bool) -> None:
    """Remove an unfinished write that no writer is at, and not what is committed under the same key.

    Raises:
        UploadBusyError: a writer is at it.
        StoreFullError, StoreUnavailableError: it cannot be removed.
    """
    try:
        writer = await store.open_write(key, replace=True)
    except StoreFullError:
        if not is_alone:
            raise
        await store.delete(key)  # of all stores, a full one has to be swept
    else:
        await writer.abort()


async def _has(store: ImageStore, key: str) -> bool:
    try:
        return (await store.stat(key)).is_committed
    except BlobNotFoundError:
        return False


def _unreadable(store: ImageStore, image_id: ImageId, error: LogCorruptError) -> SweepFinding:
    log.error("image cannot be swept", image_id=image_id, error=str(error))
    return SweepFinding(store.name, image_id=image_id, failure=failure_of(error))
