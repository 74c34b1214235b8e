"""Direct handover: where a compute service fetches or clones an image by itself, without Tintype in between.

Whoever has a location may be able to read the bytes: it is told to those alone whom the deployment names, of images
that they may see, from stores that hand over; and it is written nowhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from services.importer.read_order import in_reading_order
from tintype.adapters.stores import Stores
from tintype.domain.access import Caller, visible
from tintype.domain.errors import (
    BlobDamagedError,
    ImageHasNoDataError,
    InvalidArgumentError,
    NotPermittedError,
    StoreTimeoutError,
    StoreUnavailableError,
    TintypeError,
)
from tintype.domain.lifecycle import Status
from tintype.domain.values import BlobRef, ImageId
from tintype.ports.image_store import DirectLocation
from tintype.runtime.journal import Journal

log = structlog.get_logger(__name__)

STORE_TIMEOUT_S = 15.0
"""A store that takes longer is left out: whoever boots a machine waits for the answer of all."""

MAX_URL_CHARACTERS = 8192


@dataclass(frozen=True, slots=True)
class LocationRules:
    """``projects`` may ask besides administrators; a location works for ``expires_s`` seconds at most."""

    projects: frozenset[str]
    expires_s: int


@dataclass(frozen=True, slots=True)
class ImageLocation:
    """Where a copy is that ``store`` hands over."""

    store: str
    location: DirectLocation


class Locations:
    """Tells where images are."""

    def __init__(
        self, journal: Journal, stores: Stores, rules: LocationRules, *, timeout_s: float = STORE_TIMEOUT_S
    ) -> None:
        self._journal = journal
        self._stores = stores
        self._rules = rules
        self._timeout_s = timeout_s

    async def of(self, caller: Caller, image_id: ImageId, expires_in_s: int) -> Sequence[ImageLocation]:
        """The locations of an image, the best one first; none where no store that has it hands over.

        ``expires_in_s`` seconds they shall work, if the deployment allows so many; 0 is what it allows.

        Raises:
            NotPermittedError: the caller is none of those whom the deployment names.
            ImageNotFoundError: no such image for this caller.
            ImageHasNoDataError: it is not active.
            InvalidArgumentError: it cannot work for a negative time.
            BlobDamagedError: no sound copy is known.
            StoreUnavailableError, BlobNotFoundError: stores hand over, and none of them answers, or has it.
        """
        if not (caller.is_admin or caller.project in self._rules.projects):
            raise NotPermittedError("locations of images are told to compute services that the deployment names")
        if expires_in_s < 0:
            raise InvalidArgumentError("a location cannot work for a negative time")
        image = visible(await self._journal.load(image_id), caller)
        if image.status is not Status.ACTIVE or image.data is None:
            raise ImageHasNoDataError(f"image {image.id} is {image.status}, and has no bytes to hand over")
        if not image.data.sound:
            raise BlobDamagedError(f"no sound copy of image {image.id} is known")
        refs = [
            ref
            for ref in in_reading_order(self._stores, image.data.sound)
            if ref.store in self._stores.by_name and self._stores.section(ref.store).hand_over
        ]
        seconds = min(expires_in_s or self._rules.expires_s, self._rules.expires_s)
        found = await asyncio.gather(*(self._locate(ref, seconds) for ref in refs))
        located = [each for each in found if isinstance(each, ImageLocation)]
        if not located and (error := next((each for each in found if isinstance(each, TintypeError)), None)):
            raise error
        stores = [each.store for each in located]
        log.info("image was handed over", image_id=image.id, project=caller.project, actor=caller.actor, stores=stores)
        return located

    async def _locate(self, ref: BlobRef, seconds: int) -> ImageLocation | TintypeError | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                location = await self._stores.named(ref.store).locate(ref.key, expires_in_s=seconds)
            if location is None:
                return None
            _require_a_url(ref.store, location.url)
        except TimeoutError:
            error: TintypeError = StoreTimeoutError(f"store {ref.store!r} did not answer in {self._timeout_s:g} s")
        except TintypeError as exc:
            error = exc
        else:
            return ImageLocation(ref.store, location)
        log.warning("store does not hand over", store=ref.store, reason=error.reason)
        return error


def _require_a_url(store: str, url: str) -> None:
    """Part of it is what a server says of itself.

    Raises:
        StoreUnavailableError: nobody could use it.
    """
    is_plain = url.isascii() and url.isprintable() and " " not in url
    if not is_plain or "://" not in url or len(url) > MAX_URL_CHARACTERS:
        raise StoreUnavailableError(f"store {store!r} made a location that is no URL")
