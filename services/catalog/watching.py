"""Watching images: what happens from a position on, straight from the log, for those who may see it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from services.catalog import queries
from services.catalog.projection import Projection
from services.catalog.reading import sees
from services.catalog.watermark import Watermark
from tintype.domain.access import Caller
from tintype.domain.events import Event, ImageCreated, ImageUpdated, Progress, RecordedEvent
from tintype.domain.values import ImageId, Visibility
from tintype.ports.event_log import EventLog, Selection
from tintype.runtime.following import UnreadableEvent, entries

log = structlog.get_logger(__name__)

Change = RecordedEvent | Progress
Send = Callable[[Change], Awaitable[None]]

_MAX_BUFFERED = 8  # an event may have a MiB, and any number of clients may never read
_MAX_KNOWN_IMAGES = 10_000
_OPEN_TO_ALL = (Visibility.PUBLIC, Visibility.COMMUNITY)


@dataclass(frozen=True, slots=True)
class Watch:
    """What a caller wants to hear: of one image or of all that it sees, behind a log position."""

    caller: Caller
    after: int
    image: ImageId | None = None


class Watching:
    """Serves any number of watches."""

    def __init__(self, event_log: EventLog, projection: Projection, watermark: Watermark) -> None:
        self._log = event_log
        self._projection = projection
        self._watermark = watermark

    async def run(self, watch: Watch, send: Send) -> None:
        """Send every change until cancelled. Progress is dropped where the caller is too slow; events never are.

        Raises:
            EventLogUnavailableError: the log is away.
            ProjectionLagError: whether the caller may see an image cannot be told in time.
        """
        buffer: asyncio.Queue[Change] = asyncio.Queue(_MAX_BUFFERED)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._hear_events(watch, buffer))
                tasks.create_task(self._hear_progress(watch, buffer))
                while True:
                    await send(await buffer.get())
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _hear_events(self, watch: Watch, buffer: asyncio.Queue[Change]) -> None:
        sight = _Sight(watch.caller, self._projection, self._watermark)
        selection = Selection(image_id=watch.image)
        async with aclosing(entries(self._log, after=watch.after, selection=selection)) as following:
            async for entry in following:
                if isinstance(entry, UnreadableEvent):
                    log.error("watch left out an event", position=entry.position, error=entry.error)
                elif await sight.covers(entry):
                    await buffer.put(entry)

    async def _hear_progress(self, watch: Watch, buffer: asyncio.Queue[Change]) -> None:
        # How far an import is concerns only those whose import it is.
        project = None if watch.caller.is_admin else watch.caller.project
        async for progress in self._log.follow_progress(Selection(project=project, image_id=watch.image)):
            if not buffer.full():
                buffer.put_nowait(progress)


class _Sight:
    """What one caller may see, event by event.

    Of other projects' images, what the tables say when the image is first met, and what newer events say that pass by:
    an image that is private today shows nothing of its past, and nothing is looked up twice.
    """

    def __init__(self, caller: Caller, projection: Projection, watermark: Watermark) -> None:
        self._caller = caller
        self._projection = projection
        self._watermark = watermark
        self._known: OrderedDict[ImageId, tuple[int, bool]] = OrderedDict()

    async def covers(self, event: RecordedEvent) -> bool:
        if self._caller.is_admin or event.event.project == self._caller.project:
            return True
        image = event.image_id
        if image not in self._known:
            await self._watermark.reach(event.position)
            state = await self._projection.read(lambda c, t: queries.image_by_id(c, t, image))
            self._remember(image, state.position if state else event.position, sees(state, self._caller))
        elif (visibility := _told_by(event.payload)) is not None and event.position > self._known[image][0]:
            self._remember(image, event.position, visibility in _OPEN_TO_ALL)
        return self._known[image][1]

    def _remember(self, image: ImageId, position: int, is_seen: bool) -> None:
        self._known[image] = (position, is_seen)
        if len(self._known) > _MAX_KNOWN_IMAGES:
            self._known.popitem(last=False)


def _told_by(payload: Event) -> Visibility | None:
    match payload:
        case ImageCreated(attributes) | ImageUpdated(attributes, _):
            return attributes.visibility
        case _:
            return None
