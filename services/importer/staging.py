"""The step STAGE of a web download: from the URL into the first wanted store, in one pass.

Each attempt writes under a name of its own, ``source-<nonce>``, which belongs to nobody until it is recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from services.importer.expectations import SitePolicy
from services.importer.import_pass import ImportPass
from services.importer.one_pass import OnePass, stage
from services.importer.origins import Origins
from services.importer.placement import first_writable, resolved
from services.importer.sources.http import WebSource
from tintype.adapters.stores import Stores
from tintype.domain.blob_keys import BlobKey
from tintype.domain.commands import RecordStaged
from tintype.domain.errors import InternalError
from tintype.domain.events import ImportMethod, ImportRequested, ImportSource, RecordedEvent, StagePurpose
from tintype.domain.image import Image
from tintype.domain.values import ImageId, OperationId, Placement
from tintype.ports.image_store import ImageStore
from tintype.runtime.journal import Journal
from tintype.runtime.worker import StepRun

log = structlog.get_logger(__name__)

SOURCE_PREFIX = "source-"


class Staging:
    """Does the step STAGE."""

    def __init__(
        self, source: WebSource, stores: Stores, policy: SitePolicy, journal: Journal, origins: Origins
    ) -> None:
        self._source = source
        self._origins = origins
        self._journal = journal
        self._stores = stores
        self._policy = policy

    async def stage_image(self, image: Image, run: StepRun) -> RecordStaged:
        """Download, check and keep the bytes that the import asked for.

        Raises:
            SourceError, InvalidUriError: they cannot be had, or the list that vouches for them cannot.
            PublisherKeyError: the publisher's key can verify nothing.
            RefusedContentError, ImageTooLargeError: they are not what they should be.
            StoreFullError, StoreUnavailableError: they cannot be kept.
            StoreNotFoundError: a store is asked for that there is not.
        """
        operation, asked, placement = _asked(image)
        placement = resolved(self._stores, placement)
        store = first_writable(self._stores, placement)
        is_admin = _is_admins(await self._journal.history(image.id), operation)
        plugins = self._policy.plugins
        injected = plugins.injected_into(image, is_admin=is_admin)
        await _remove_abandoned(store, image.id, operation)
        expected = await self._origins.expected_of(asked)
        key = BlobKey(image.id, operation, f"{SOURCE_PREFIX}{run.nonce}")
        run.on_discard(lambda: store.delete(str(key)))
        total = _Total(asked.expected_size)
        pieces = self._source.download(
            asked.uri, max_size=self._policy.max_size, expected_size=asked.expected_size, announce=total.announce
        )
        expectations = self._policy.expectations(
            image,
            size=asked.expected_size,
            digest=asked.expected_digest,
            listed_digest=expected.listed_digest,
        )
        writer = await store.open_write(str(key))
        one_pass = (ImportPass if self._policy.decompresses(image) else OnePass)(expectations, writer)
        blob = await stage(one_pass, pieces, store.name, lambda done: run.tell_progress(done, total.size))
        log.info("image was staged", image_id=image.id, operation_id=operation, size_bytes=blob.size)
        blob = replace(blob, facts=plugins.kept(blob.facts))
        switched_off = plugins.switched_off(is_admin=is_admin)
        received, origin = one_pass.received, expected.origin
        return RecordStaged(operation, StagePurpose.IMPORT, blob, received, injected, switched_off, origin, placement)


async def _remove_abandoned(store: ImageStore, image: ImageId, operation: OperationId) -> None:
    """Remove what an earlier attempt left unfinished when its worker was killed.

    Committed bytes stay: a worker that is slow, and not dead, may be about to record them. Whatever is not recorded
    when the operation ends is removed then.
    """
    async for stored in store.list(image):
        key = BlobKey.parse(stored.key)
        is_attempt = key.operation_id == operation and key.name.startswith(SOURCE_PREFIX)
        if is_attempt and not stored.is_committed:
            await store.delete(stored.key)


@dataclass(slots=True)
class _Total:
    size: int | None

    def announce(self, size: int | None) -> None:
        """Note the size that the server tells."""
        self.size = self.size if size is None else size


def _asked(image: Image) -> tuple[OperationId, ImportSource, Placement]:
    operation = image.operation
    if operation is None or operation.source is None or operation.source.method is not ImportMethod.WEB_DOWNLOAD:
        raise InternalError(f"image {image.id} waits for bytes, and there is no source to fetch them from")
    return operation.id, operation.source, operation.placement


def _is_admins(history: Sequence[RecordedEvent], operation: OperationId) -> bool:
    """Whether an administrator asked for the import."""
    for recorded in history:
        if isinstance(recorded.payload, ImportRequested) and recorded.payload.operation_id == operation:
            return recorded.event.context.is_admin
    return False
