"""What users read: images and lists from the tables, the past from the log itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile

from services.catalog import filters, paging, queries
from services.catalog.projection import Projection
from services.catalog.watermark import Watermark
from tintype.codec.events import encode_event
from tintype.domain.access import Caller, may_see, visible
from tintype.domain.errors import ImageNotFoundError, InvalidFilterError
from tintype.domain.events import RecordedEvent
from tintype.domain.evolve import fold
from tintype.domain.image import Image
from tintype.domain.lifecycle import Status
from tintype.domain.provenance import Provenance, provenance_of
from tintype.domain.values import ImageId
from tintype.runtime.journal import Journal


@dataclass(frozen=True, slots=True)
class Freshness:
    """How new an answer has to be: at least ``position``, for which the reader waits ``timeout_s`` seconds."""

    position: int = 0
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class ListRequest:
    """A page of a list, in the words of the client."""

    filter: str = ""
    order_by: str = ""
    page_size: int = 0
    page_token: str = ""


class Reading:
    """Answers questions about images. Refuses to while the tables are not caught up."""

    def __init__(
        self, journal: Journal, projection: Projection, watermark: Watermark, ready: Callable[[], Awaitable[None]]
    ) -> None:
        """``ready`` raises while the tables must not be read yet."""
        self._journal = journal
        self._projection = projection
        self._watermark = watermark
        self._ready = ready

    async def image(self, caller: Caller, image: ImageId, freshness: Freshness) -> Image:
        """An image as it is now.

        Raises:
            ImageNotFoundError: there is none for this caller.
            ProjectionLagError: the catalog is not as far as asked.
        """
        await self._wait(freshness)
        return visible(await self._projection.read(lambda c, t: queries.image_by_id(c, t, image)), caller)

    async def image_as_of(self, caller: Caller, image: ImageId, as_of: datetime, freshness: Freshness) -> Image:
        """An image as it was then; also a deleted one, for its owner.

        Raises:
            ImageNotFoundError: there was none, or it is not the caller's to see today.
        """
        past = fold(_until(await self._history(caller, image, freshness), as_of))
        if past is None or past.status is Status.DELETED:
            raise ImageNotFoundError(f"there was no image {image} at that time")
        return past

    async def images(self, caller: Caller, request: ListRequest, freshness: Freshness) -> tuple[Sequence[Image], str]:
        """A page of the images that the caller sees, and the token of the next one, empty on the last.

        Raises:
            InvalidArgumentError: filter, order, size or token cannot be read.
        """
        terms, order = filters.parsed(request.filter), paging.parsed_order(request.order_by)
        size = paging.checked_page_size(request.page_size)
        scope = ("images", caller.project, str(caller.is_admin), request.filter, request.order_by)
        types = [paging.SORTABLE[column.field] for column in order]
        after = paging.key_of(request.page_token, scope, types) if request.page_token else None
        await self._wait(freshness)
        page = await self._projection.read(lambda c, t: queries.page_of_images(c, t, caller, terms, order, after, size))
        return page.images, paging.token_of(page.next_key, scope) if page.next_key else ""

    async def events(
        self,
        caller: Caller,
        image: ImageId,
        as_of: datetime | None,
        page_size: int,
        page_token: str,
        freshness: Freshness,
    ) -> tuple[Sequence[RecordedEvent], str]:
        """A page of an image's history, oldest first, and the token of the next one.

        Raises:
            ImageNotFoundError: it is not the caller's to see; a deleted one is its owner's.
            InvalidArgumentError: size or token cannot be read.
        """
        size = paging.checked_page_size(page_size)
        scope = ("events", image, as_of.isoformat() if as_of else "")
        after = _version_of(paging.key_of(page_token, scope, [int])) if page_token else 0
        history = await self._history(caller, image, freshness)
        page = [event for event in (_until(history, as_of) if as_of else history) if event.version > after]
        count = min(size, paging.fitting(encode_event(event).ByteSize() for event in page[:size]))
        next_token = paging.token_of((page[count - 1].version,), scope) if len(page) > count else ""
        return page[:count], next_token

    async def provenance(self, caller: Caller, image: ImageId, freshness: Freshness) -> Provenance:
        """What the log tells of where an image's bytes come from, and who vouches for it; nothing of it is proven.

        Raises:
            ImageNotFoundError: it is not the caller's to see; a deleted one is its owner's.
            ImageHasNoDataError: it has no bytes yet.
        """
        return provenance_of(await self._history(caller, image, freshness))

    async def _history(self, caller: Caller, image: ImageId, freshness: Freshness) -> Sequence[RecordedEvent]:
        await self._wait(freshness)
        history = await self._journal.history(image)
        now = fold(history)
        if now is not None and now.status is Status.DELETED and _is_owner(now, caller):
            return history
        visible(now, caller)
        return history

    async def _wait(self, freshness: Freshness) -> None:
        await self._ready()
        await self._watermark.reach(freshness.position, freshness.timeout_s)


def sees(image: Image | None, caller: Caller) -> bool:
    """Whether the caller may know of what happens to the image, its deletion included."""
    return image is not None and may_see(image, caller)


def _is_owner(image: Image, caller: Caller) -> bool:
    return caller.is_admin or image.project == caller.project


def _until(history: Sequence[RecordedEvent], as_of: datetime) -> list[RecordedEvent]:
    # A prefix, also where the clocks of services disagree: a state that never was is worse than one a moment older.
    return list(takewhile(lambda event: event.event.time <= as_of, history))


def _version_of(key: paging.Key) -> int:
    version = key[0]
    if not isinstance(version, int):
        raise InvalidFilterError("page_token is not one of this service")
    return version
