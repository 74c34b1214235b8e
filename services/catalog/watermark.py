"""How far the projection is, for those who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from tintype.domain.errors import ProjectionLagError
from tintype.domain.values import ImageId

MAX_WAIT_S = 10.0


class Watermark:
    """The log position that the tables in use have reached. Lives in one event loop."""

    def __init__(self) -> None:
        self._position = 0
        self._moved = asyncio.Condition()
        self._waiting: dict[ImageId, set[asyncio.Event]] = {}

    @property
    def position(self) -> int:
        """What has been projected, as far as this process knows."""
        return self._position

    def restart(self) -> None:
        """Forget how far the tables were: they are built anew from another log, whose positions begin anew."""
        self._position = 0

    async def advance(self, position: int, images: Iterable[ImageId]) -> None:
        """Tell everybody that the tables are at ``position``, and that ``images`` have changed."""
        for image in images:
            for event in self._waiting.get(image, ()):
                event.set()
        if position > self._position:
            self._position = position
            async with self._moved:
                self._moved.notify_all()

    async def reach(self, position: int, timeout_s: float = MAX_WAIT_S) -> None:
        """Wait until the tables are at ``position``, at most ``timeout_s`` seconds and never over 10.

        Raises:
            ProjectionLagError: they were not there in time.
        """
        if position <= self._position:
            return
        try:
            async with asyncio.timeout(min(timeout_s, MAX_WAIT_S)), self._moved:
                await self._moved.wait_for(lambda: position <= self._position)
        except TimeoutError:
            raise ProjectionLagError(f"the catalog is at position {self._position}, not yet at {position}") from None

    @asynccontextmanager
    async def changes(self, image: ImageId) -> AsyncIterator[asyncio.Event]:
        """Within the context the event is set by every change of ``image``; clear it before you look."""
        event = asyncio.Event()
        self._waiting.setdefault(image, set()).add(event)
        try:
            yield event
        finally:
            waiting = self._waiting[image]
            waiting.discard(event)
            if not waiting:
                del self._waiting[image]
