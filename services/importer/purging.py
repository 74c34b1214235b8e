"""The step PURGE: the end of a deleted image's bytes, once it can be restored no more."""

from __future__ import annotations

import structlog

from tintype.adapters.stores import Stores
from tintype.domain.commands import RecordPurged
from tintype.domain.errors import StoreFullError, StoreUnavailableError
from tintype.domain.image import Image
from tintype.runtime.worker import StepRun

log = structlog.get_logger(__name__)


class Purging:
    """Does the step PURGE."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    async def purge_image(self, image: Image, run: StepRun) -> RecordPurged:
        """Remove every byte of a deleted image, from each store that answers before one that does not is reported.

        Raises:
            StoreFullError, StoreUnavailableError: a store does not let it; the others are empty of it.
        """
        away: StoreFullError | StoreUnavailableError | None = None
        for store in self._stores.by_name.values():
            try:
                async for stored in store.list(image.id):
                    await store.delete(stored.key)
            except (StoreFullError, StoreUnavailableError) as exc:
                away = exc
                log.warning("bytes of a deleted image are left", store=store.name, reason=exc.reason)
        if away is not None:
            raise away
        return RecordPurged()
