"""Re-verification at rest: reads stored copies again, marks damaged ones in the log, and heals them from sound ones.

A copy is damaged where its bytes are others, gone, or cannot be read by a store that is otherwise well. A store that
does not answer proves nothing about its copies: it is reported, and left alone for the rest of the run. A damaged copy
is replaced at the commit of the new bytes, whose digest has been verified by then: at no instruction there are fewer
sound copies than before.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import structlog

from services.importer.copy_reading import CopyReading
from services.importer.kept_copies import KeptCopies
from tintype.adapters.decorators.verified_reads import trusted_digest
from tintype.adapters.stores import Stores, require_answer
from tintype.domain.commands import RecordCopyDamaged, RecordCopyHealed
from tintype.domain.errors import (
    BlobDamagedError,
    BlobNotFoundError,
    CopyNotFoundError,
    ImageNotFoundError,
    LogCorruptError,
    StaleStepError,
    StoreUnavailableError,
    TintypeError,
)
from tintype.domain.events import EventContext, Failure
from tintype.domain.image import Image, ImageData, failure_of
from tintype.domain.lifecycle import Status
from tintype.domain.values import BlobRef, CommandId, Digest, ImageId
from tintype.ports.event_log import EventLog
from tintype.runtime.journal import Journal
from tintype.runtime.token_bucket import TokenBucket
from tintype.runtime.tracing import current_traceparent

log = structlog.get_logger(__name__)

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a copy that is not sound, or that could not be looked at: then ``failure`` says why.

    ``found`` is the digest of what was read, ``None`` where it could not be. ``store`` is empty where it is the image's
    history that cannot be read.
    """

    image_id: ImageId
    store: str
    expected: Digest | None = None
    found: Digest | None = None
    is_healed: bool = False
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """How far a run is: bytes read of ``total``, copies looked at, and what was found since the last time."""

    done: int
    total: int
    copies: int
    finding: Finding | None = None


@dataclass(slots=True)
class _Run:
    """One run over some images."""

    pace: TokenBucket
    actor: str
    only_store: str = ""
    total: int = 0
    done: int = 0
    copies: int = 0
    away: set[str] = field(default_factory=set)
    """Stores that do not answer."""

    def told(self, finding: Finding | None = None) -> Scrubbed:
        return Scrubbed(self.done, max(self.total, self.done), self.copies, finding)


async def active_images(event_log: EventLog) -> dict[ImageId, int]:
    """All images that have bytes now, and how many in all copies; read from the log, not from each history.

    Raises:
        EventLogUnavailableError: the log does not answer.
    """
    kept = await KeptCopies(event_log).now()
    return {image_id: copies.total for image_id, copies in kept.items() if not copies.is_deleted}


class Scrubber:
    """Scrubs images in the stores of one deployment; any number may run at once, in any number of processes."""

    def __init__(self, journal: Journal, stores: Stores) -> None:
        self._journal = journal
        self._stores = stores

    async def scrub(
        self, images: Iterable[ImageId], *, pace: TokenBucket, actor: str, store: str = "", total: int = 0
    ) -> AsyncGenerator[Scrubbed, None]:
        """Scrub the copies of these images, of one ``store`` or of all; yield after every piece and every copy.

        Raises:
            EventLogUnavailableError: the log does not answer.
        """
        run = _Run(pace, actor, store, total)
        for image_id in images:
            async with aclosing(self._scrub_image(run, image_id)) as steps:
                async for step in steps:
                    yield step

    async def _scrub_image(self, run: _Run, image_id: ImageId) -> AsyncGenerator[Scrubbed, None]:
        try:
            image = await self._journal.load(image_id)
        except LogCorruptError as exc:
            log.error("image cannot be scrubbed", image_id=image_id, error=str(exc))
            yield run.told(Finding(image_id, "", failure=failure_of(exc)))
            return
        for ref in _copies(image):
            if ref.store in run.away or run.only_store not in ("", ref.store):
                continue
            async with aclosing(self._scrub_copy(run, image_id, ref)) as steps:
                async for step in steps:
                    yield step
            run.copies += 1
            yield run.told()

    async def _scrub_copy(self, run: _Run, image_id: ImageId, ref: BlobRef) -> AsyncGenerator[Scrubbed, None]:
        for _ in range(_ATTEMPTS):
            image = await self._journal.load(image_id)
            data = _data_with(image, ref)
            if image is None or data is None:  # deleted meanwhile
                return
            expected = trusted_digest(data.blob)
            finding = Finding(image.id, ref.store, expected)
            try:
                reading = CopyReading(self._stores.named(ref.store), ref, data.blob, run.pace)
                async for piece in reading.pieces():
                    run.done += len(piece)
                    yield run.told()
                if reading.is_sound:
                    if ref in data.damaged:  # put right by other hands
                        await record(self._journal, run.actor, image, RecordCopyHealed(ref, ref.store))
                    return
                finding = replace(finding, found=reading.found)
            except (BlobNotFoundError, BlobDamagedError) as exc:
                if not await self._is_well(run, ref.store):
                    yield run.told(replace(finding, failure=failure_of(_unproven(ref.store, exc))))
                    return
            except StoreUnavailableError as exc:
                await self._is_well(run, ref.store)
                yield run.told(replace(finding, failure=failure_of(exc)))
                return
            now = _data_with(await self._journal.load(image_id), ref)
            if now is None:
                return
            if (ref in now.damaged) == (ref in data.damaged):
                async with aclosing(self._mend(run, image, ref, expected, finding)) as steps:
                    async for step in steps:
                        yield step
                return
            # Somebody else has judged or healed it while it was read: read it again.

    async def _mend(
        self, run: _Run, image: Image, ref: BlobRef, expected: Digest, finding: Finding
    ) -> AsyncGenerator[Scrubbed, None]:
        """Mark a copy that is damaged, and heal it from another one."""
        log.warning(
            "copy is damaged",
            image_id=image.id,
            store=ref.store,
            expected=str(expected),
            found=str(finding.found or ""),
        )
        await record(self._journal, run.actor, image, RecordCopyDamaged(ref, expected, finding.found))
        healing = _Healing(self._journal, self._stores, run, image.id, ref)
        async with aclosing(healing.pieces()) as pieces:
            async for _ in pieces:
                yield run.told()
        if healing.failure is None and not healing.is_done:
            return  # the image was deleted
        yield run.told(replace(finding, is_healed=healing.is_done, failure=healing.failure))

    async def _is_well(self, run: _Run, store: str) -> bool:
        """Whether a store that failed a read works otherwise; if not, it is left alone from here on."""
        try:
            await require_answer(self._stores.named(store))
        except StoreUnavailableError as exc:
            log.warning("store is left out of the scrub", store=store, error=str(exc))
            run.away.add(store)
            return False
        return True


async def record(journal: Journal, actor: str, image: Image, command: RecordCopyDamaged | RecordCopyHealed) -> None:
    """Note in the log what became of a copy; it is no error that it is known already, or that the image is gone."""
    command_id = CommandId(f"scrub:{uuid.uuid4()}")
    context = EventContext(actor, correlation_id=command_id, causation_id=command_id, traceparent=current_traceparent())
    try:
        await journal.execute(image.id, command, project=image.project, command_id=command_id, context=context)
    except (StaleStepError, ImageNotFoundError, CopyNotFoundError):
        log.debug("copy was judged already, or is gone", image_id=image.id, store=command.ref.store)


class _Healing:
    """Writes one damaged copy anew, from the first copy of the image that proves to be sound."""

    def __init__(self, journal: Journal, stores: Stores, run: _Run, image_id: ImageId, ref: BlobRef) -> None:
        self._journal = journal
        self._stores = stores
        self._run = run
        self._image_id = image_id
        self._ref = ref
        self.is_done = False
        self.failure: Failure | None = None

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield what is read and written; then :attr:`is_done`, or ``failure`` says why not. Neither: it is deleted."""
        image = await self._journal.load(self._image_id)
        data = _data_with(image, self._ref)
        if data is None:
            return
        others = sorted((ref for ref in data.locations if ref != self._ref), key=lambda ref: ref in data.damaged)
        self.failure = failure_of(BlobDamagedError(f"image {self._image_id} has no sound copy to heal it from"))
        for source in others:
            try:
                async with aclosing(self._from(source)) as pieces:
                    async for piece in pieces:
                        yield piece
            except TintypeError as exc:
                log.warning("copy was not healed", image_id=self._image_id, store=self._ref.store, error=str(exc))
                self.failure = failure_of(exc)
            if self.is_done or self.failure is None:
                return

    async def _from(self, source: BlobRef) -> AsyncGenerator[bytes, None]:
        writer = await self._stores.named(self._ref.store).open_write(self._ref.key, replace=True)
        try:
            # Now that the write is begun: a purge that comes later finds it, and removes it.
            image = await self._journal.load(self._image_id)
            data = _data_with(image, self._ref)
            if image is None or data is None:
                self.failure = None
                await writer.abort()
                return
            reading = CopyReading(self._stores.named(source.store), source, data.blob, self._run.pace)
            async for piece in reading.pieces():
                await writer.append(piece)
                yield piece
            if not reading.is_sound:
                raise BlobDamagedError(f"the copy in store {source.store!r} is damaged too")
            await writer.commit(size=data.blob.size, digests=data.blob.digests)
        except BaseException:
            await writer.abort()
            raise
        again = CopyReading(self._stores.named(self._ref.store), self._ref, data.blob, self._run.pace)
        async for piece in again.pieces():
            yield piece
        if not again.is_sound:
            raise BlobDamagedError(f"store {self._ref.store!r} does not give back what was written")
        await record(self._journal, self._run.actor, image, RecordCopyHealed(self._ref, source.store))
        self.is_done, self.failure = True, None
        log.info("copy was healed", image_id=self._image_id, store=self._ref.store, source=source.store)


def _copies(image: Image | None) -> tuple[BlobRef, ...]:
    return image.data.locations if image and image.data and image.status is Status.ACTIVE else ()


def _data_with(image: Image | None, ref: BlobRef) -> ImageData | None:
    """The published bytes of an active image that has a copy at ``ref``."""
    return image.data if image and ref in _copies(image) else None


def _unproven(store: str, error: TintypeError) -> StoreUnavailableError:
    return StoreUnavailableError(f"store {store!r} does not work, which proves nothing about its copies: {error}")
