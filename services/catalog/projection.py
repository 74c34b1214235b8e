"""The projection: applies events to the tables of one generation, and reads from the generation in use.

Rows and position change in the same transaction, under a lock on the generation's position: an event is applied once,
also when several replicas project onto one database, and also when one of them is killed between any two instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection, Table, bindparam, delete, insert, select, update

from services.catalog import generations
from services.catalog.database import Database
from services.catalog.folding import Changes, fold_batch, parked_row
from services.catalog.generations import Generation
from services.catalog.log_identity import Seen
from services.catalog.rows import Row, image_of, image_row, property_rows, tag_rows
from services.catalog.schema import Tables, schema_version, tables_of
from tintype.domain.errors import CatalogDatabaseError, CatalogValueError, ProjectionReplacedError
from tintype.domain.events import RecordedEvent
from tintype.domain.image import Image
from tintype.domain.values import ImageId
from tintype.runtime.following import Entry

log = structlog.get_logger(__name__)

T = TypeVar("T")

_IDS_PER_QUERY = 500


@dataclass(frozen=True, slots=True)
class Applied:
    """How far the tables are after a batch, and how many of its events had to be parked."""

    position: int
    parked: int = 0


class Projection:
    """The tables in use, as one process knows them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version = schema_version()
        self._generation: Generation | None = None

    @property
    def generation(self) -> Generation:
        """The generation that was opened, as it was then.

        Raises:
            ProjectionReplacedError: none is open.
        """
        if self._generation is None:
            raise ProjectionReplacedError("the catalog's tables are not open yet")
        return self._generation

    async def open(self) -> Generation:
        """Find the tables of this release, in use or being built, or begin to build them."""
        self._generation = await self._database.write(lambda c: generations.opened(c, self._version))
        return self._generation

    async def put_into_use(self) -> None:
        """Declare the opened tables complete; to do so again changes nothing."""
        generation = self.generation
        if not await self._database.write(lambda c: generations.switched(c, generation)):
            raise ProjectionReplacedError(f"generation {generation.number} of the catalog's tables was replaced")
        await self.open()

    async def newest_seen(self) -> Seen | None:
        """The newest event of those that made the opened tables what they are; ``None`` where there are no images."""
        number = self.generation.number
        return await self._database.read(lambda c: _newest_seen(c, tables_of(number)))

    async def give_up(self) -> None:
        """Drop the opened tables, whoever uses them: they are of another log. Opening makes new ones."""
        generation = self.generation
        await self._database.write(lambda c: generations.dropped(c, generation))

    async def apply(self, events: Sequence[Entry]) -> Applied:
        """Bring the opened tables forward by ``events``, which are in the log's order.

        Raises:
            ProjectionReplacedError: another generation is in use now; open it.
            CatalogDatabaseError: nothing was applied as far as is known; repeat.
        """
        generation = self.generation
        return await apply_events(self._database.write, generation, events)

    async def read(self, body: Callable[[Connection, Tables], T]) -> T:
        """Run ``body`` on the tables in use, in one transaction.

        Raises:
            CatalogDatabaseError: the database does not answer.
        """
        number = self.generation.number
        try:
            return await self._database.read(lambda c: body(c, tables_of(number)))
        except CatalogDatabaseError:
            # A rebuild, in this process or another, may have dropped these tables under the query.
            current = await self._database.read(lambda c: generations.active(c, self._version))
            if current is None or current.number == number:
                raise
            log.info("tables were replaced", before=number, now=current.number)
            # They are no older than those before, and skip what they have: the projector may go on with them as well.
            self._generation = current
        return await self._database.read(lambda c: body(c, tables_of(current.number)))


async def apply_events(
    write: Callable[[Callable[[Connection], Applied]], Any], generation: Generation, events: Sequence[Entry]
) -> Applied:
    """Apply a batch in one transaction; if a value in it cannot be stored, one by one, and that event is parked."""
    try:
        applied: Applied = await write(lambda c: apply_batch(c, generation, events))
        return applied
    except CatalogValueError as exc:
        if len(events) == 1:
            log.error("event was parked", position=events[0].position, reason=exc.reason, error=str(exc))
            error = str(exc)
            applied = await write(lambda c: _park(c, generation, events[0], error))
            return applied
    results = [await apply_events(write, generation, [event]) for event in events]
    return Applied(results[-1].position, sum(result.parked for result in results))


def apply_batch(connection: Connection, generation: Generation, events: Sequence[Entry]) -> Applied:
    """Apply the events that the tables have not seen, inside the caller's transaction.

    Raises:
        ProjectionReplacedError: the generation was dropped, or is no longer the one in use.
    """
    tables = tables_of(generation.number)
    position = _locked_position(connection, generation)
    fresh = [event for event in events if event.position > position]
    if not fresh:
        return Applied(position)
    stored = _stored(connection, tables, {event.image_id for event in fresh if isinstance(event, RecordedEvent)})
    changes = fold_batch(stored, fresh)
    _write(connection, tables, stored, changes)
    for row in changes.parked:
        log.error("event was parked", **{key: row[key] for key in ("position", "image_id", "reason", "error")})
    generations.move(connection, generation.number, fresh[-1].position)
    return Applied(fresh[-1].position, len(changes.parked))


def _newest_seen(connection: Connection, tables: Tables) -> Seen | None:
    images = tables.images.c
    query = select(images.id, images.version, images.position).order_by(images.position.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return Seen(*row) if row else None


def _park(connection: Connection, generation: Generation, event: Entry, error: str) -> Applied:
    position = _locked_position(connection, generation)
    if event.position <= position:
        return Applied(position)
    row = parked_row(event, CatalogValueError.reason, error)
    connection.execute(insert(tables_of(generation.number).parked), [row])
    generations.move(connection, generation.number, event.position)
    return Applied(event.position, 1)


def _locked_position(connection: Connection, generation: Generation) -> int:
    now = generations.locked(connection, generation)
    if now is None or (generation.is_active and not now.is_active):
        raise ProjectionReplacedError(f"generation {generation.number} of the catalog's tables was replaced")
    return now.position


def _stored(connection: Connection, tables: Tables, ids: Iterable[ImageId]) -> dict[ImageId, Image]:
    wanted = sorted(ids)
    found: dict[ImageId, Image] = {}
    for start in range(0, len(wanted), _IDS_PER_QUERY):
        query = select(tables.images.c.state).where(tables.images.c.id.in_(wanted[start : start + _IDS_PER_QUERY]))
        for state in connection.execute(query).scalars():
            image = image_of(state)
            found[image.id] = image
    return found


def _write(connection: Connection, tables: Tables, stored: dict[ImageId, Image], changes: Changes) -> None:
    new = [image for image in changes.images.values() if image.id not in stored]
    changed = [image for image in changes.images.values() if image.id in stored]
    _insert(connection, tables.images, [image_row(image) for image in new])
    _update_images(connection, tables.images, changed)
    relabelled = [image for image in changed if _labels(image) != _labels(stored[image.id])]
    for table in (tables.tags, tables.properties):
        _delete(connection, table, "image_id", [image.id for image in relabelled])
    labelled = [*new, *relabelled]
    _insert(connection, tables.tags, [row for image in labelled for row in tag_rows(image)])
    _insert(connection, tables.properties, [row for image in labelled for row in property_rows(image)])
    _delete(connection, tables.operations, "id", list(changes.operations))
    _insert(connection, tables.operations, list(changes.operations.values()))
    _insert(connection, tables.parked, changes.parked)


def _labels(image: Image) -> tuple[list[Row], list[Row]]:
    return tag_rows(image), property_rows(image)


def _insert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    if rows:
        connection.execute(insert(table), rows)


def _delete(connection: Connection, table: Table, column: str, values: Sequence[str]) -> None:
    if values:
        statement = delete(table).where(table.c[column] == bindparam("value"))
        connection.execute(statement, [{"value": value} for value in values])


def _update_images(connection: Connection, table: Table, images: Sequence[Image]) -> None:
    if images:
        columns = [column.name for column in table.c if column.name != "id"]
        statement = (
            update(table)
            .where(table.c.id == bindparam("key_id"))
            .values({column: bindparam(f"new_{column}") for column in columns})
        )
        rows = [{"key_id": row["id"], **{f"new_{c}": row[c] for c in columns}} for row in map(image_row, images)]
        connection.execute(statement, rows)
