"""Building the tables anew from the log, beside those in use, and switching over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

import structlog
from sqlalchemy import Connection, func, select

from services.catalog import generations
from services.catalog.database import Database
from services.catalog.generations import Generation
from services.catalog.projection import apply_events
from services.catalog.schema import schema_version, tables_of
from tintype.domain.errors import CatalogDatabaseError, ProjectionReplacedError, RebuildBusyError
from tintype.ports.event_log import EventLog
from tintype.runtime.following import Entry, entries

log = structlog.get_logger(__name__)

BATCH = 1000
"""Events per transaction: small enough that the live projection, which waits for it on SQLite, stays quick."""


@dataclass(frozen=True, slots=True)
class RebuildProgress:
    """How far new tables are: their log position, the log's head, their images, and whether they are in use."""

    position: int
    head: int
    images: int
    is_switched: bool


class Rebuild:
    """Rebuilds the tables, one at a time."""

    def __init__(self, event_log: EventLog, database: Database) -> None:
        self._log = event_log
        self._database = database
        self._lock = asyncio.Lock()

    async def run(self) -> AsyncGenerator[RebuildProgress, None]:
        """Build a new generation from position 0, put it into use and drop all others; yields after every batch.

        If it ends early, the new tables are dropped and those in use stay. The others include the tables of other
        releases: during a rolling upgrade, a replica of the old release would have to build its own again.

        Raises:
            RebuildBusyError: a rebuild is running, or another replica began one and dropped this one's tables.
        """
        if self._lock.locked():
            raise RebuildBusyError("the catalog's tables are being rebuilt already")
        async with self._lock:
            generation = await self._begin()
            is_switched = False
            try:
                async with aclosing(self._build(generation)) as steps:
                    async for progress in steps:
                        is_switched = progress.is_switched
                        yield progress
            except ProjectionReplacedError as exc:
                raise RebuildBusyError("another rebuild took the place of this one") from exc
            finally:
                if not is_switched:
                    await asyncio.shield(self._drop(generation))

    async def _begin(self) -> Generation:
        version = schema_version()
        for leftover in await self._database.build(generations.listed):
            if leftover.schema_version == version and not leftover.is_active:
                await self._drop(leftover)
        generation = await self._database.build(lambda c: generations.added(c, version))
        log.info("rebuild began", generation=generation.number)
        return generation

    async def _build(self, generation: Generation) -> AsyncGenerator[RebuildProgress, None]:
        head = await self._log.head()
        position = 0
        if head > 0:
            async with aclosing(self._batches(head)) as batches:
                async for batch in batches:
                    position = (await apply_events(self._database.build, generation, batch)).position
                    if position >= head and await self._database.build(lambda c: generations.switched(c, generation)):
                        break
                    yield await self._progress(generation, position, head)
        else:
            await self._database.build(lambda c: generations.switched(c, generation))
        yield await self._progress(generation, position, head, is_switched=True)
        await self._drop_others(generation)
        log.info("rebuild ended", generation=generation.number, position=position)

    async def _batches(self, head: int) -> AsyncGenerator[list[Entry], None]:
        """The whole log in batches; beyond ``head`` each event by itself, as the switch may wait for any of them."""
        batch: list[Entry] = []
        async with aclosing(entries(self._log, after=0)) as following:
            async for entry in following:
                batch.append(entry)
                if len(batch) >= BATCH or entry.position >= head:
                    yield batch
                    batch = []

    async def _progress(
        self, generation: Generation, position: int, head: int, *, is_switched: bool = False
    ) -> RebuildProgress:
        images = await self._database.build(lambda c: _images(c, generation))
        return RebuildProgress(position, head, images, is_switched)

    async def _drop_others(self, generation: Generation) -> None:
        for other in await self._database.build(generations.listed):
            if other.token != generation.token:
                await self._dropping(other, partial(generations.superseded, generation=generation, other=other))

    async def _drop(self, generation: Generation) -> None:
        await self._dropping(generation, partial(generations.dropped, generation=generation))

    async def _dropping(self, generation: Generation, drop: Callable[[Connection], None]) -> None:
        try:
            await self._database.build(drop)
        except CatalogDatabaseError as exc:  # a reader holds them; the next rebuild drops what is left over
            log.warning("old tables could not be dropped", generation=generation.number, error=str(exc))


def _images(connection: Connection, generation: Generation) -> int:
    if generations.locked(connection, generation) is None:  # another replica's rebuild has dropped its tables
        raise ProjectionReplacedError(f"generation {generation.number} of the catalog's tables was replaced")
    count: int = connection.execute(select(func.count()).select_from(tables_of(generation.number).images)).scalar_one()
    return count
