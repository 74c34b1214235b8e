"""The step PUBLISH: the last look at an image's bytes before it is active."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from tintype.adapters.stores import Stores
from tintype.domain.commands import RecordPublished
from tintype.domain.decide import final_blob
from tintype.domain.errors import (
    BlobDamagedError,
    BlobNotFoundError,
    InternalError,
    StoreFullError,
    StoreUnavailableError,
)
from tintype.domain.image import Image
from tintype.domain.values import Blob, BlobRef
from tintype.runtime.worker import StepRun

log = structlog.get_logger(__name__)


class Publishing:
    """Does the step PUBLISH."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    async def publish_image(self, image: Image, run: StepRun) -> RecordPublished:
        """See that the final bytes are there, whole, and remove the ones that they were made from.

        Raises:
            BlobNotFoundError, BlobDamagedError: the bytes are gone, or not whole.
            StoreUnavailableError: no store that has them answers.
        """
        operation = image.operation
        if operation is None or operation.staged is None:
            raise InternalError(f"image {image.id} has nothing to publish")
        blob = final_blob(operation)
        asked = operation.placement
        # What waited for its import may lie where the import does not want it. An earlier attempt, which was killed
        # before it was recorded, or one that runs beside this, may have removed it from there.
        is_needed = asked.in_all or not asked.stores or blob.ref.store in asked.stores
        copies = [ref for ref in operation.copies if ref.key == blob.ref.key]
        final, seen = await self._found(blob, copies, is_first_needed=is_needed)
        wanted = [ref for ref in final if asked.in_all or ref.store in asked.stores]
        if seen.isdisjoint(wanted):  # the one copy that was seen whole is kept, wherever it is
            wanted = final
        for ref in dict.fromkeys((operation.staged.ref, blob.ref, *operation.copies)):
            if ref not in wanted:
                await self._remove(ref)
        return RecordPublished(operation.id, tuple(wanted))

    async def _remove(self, ref: BlobRef) -> None:
        """Remove bytes that are not published; a store that does not let it keeps no image from being so."""
        try:
            await self._stores.named(ref.store).delete(ref.key)
        except (StoreFullError, StoreUnavailableError) as exc:
            log.warning("unwanted bytes are left to the sweep", store=ref.store, reason=exc.reason)

    async def _found(
        self, blob: Blob, copies: Sequence[BlobRef], *, is_first_needed: bool
    ) -> tuple[list[BlobRef], set[BlobRef]]:
        """Where the bytes are, and where they were seen: in one store that answers at least.

        An image is not held up by a further copy that is gone, nor by a store that is away: what is there was committed
        whole.

        Raises:
            BlobNotFoundError, BlobDamagedError: the first copy is gone, and is needed, or there is no other.
            StoreUnavailableError: no store that may have a copy answers.
        """
        lost: BlobNotFoundError | BlobDamagedError | None = None
        found: list[BlobRef] = []
        away: dict[BlobRef, StoreUnavailableError] = {}
        for ref in dict.fromkeys((blob.ref, *copies)):
            try:
                await self._check(blob, ref)
            except StoreUnavailableError as exc:
                away[ref] = exc
                log.warning("a copy is published unseen", store=ref.store, reason=exc.reason)
            except (BlobNotFoundError, BlobDamagedError) as exc:
                if ref == blob.ref and is_first_needed:
                    raise
                lost = exc
                log.warning("a copy is not published", store=ref.store, reason=exc.reason)
                continue
            found.append(ref)
        if lost is not None and not found:
            raise lost
        if len(away) == len(found):
            raise next(iter(away.values()))
        return found, set(found) - set(away)

    async def _check(self, blob: Blob, ref: BlobRef) -> None:
        stored = await self._stores.named(ref.store).stat(ref.key)
        if not stored.is_committed or stored.size != blob.size:
            raise BlobDamagedError(
                f"the image has {blob.size} bytes, and store {ref.store!r} has {stored.size} of them"
            )
