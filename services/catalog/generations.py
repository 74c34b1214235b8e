"""The generations of the catalog's tables: which exist, which is in use, how far each is.

Each release reads the generation of its own schema version, so that during a rolling upgrade replicas of both releases
go on; but none starts where a newer one has made tables. All functions run inside a write transaction of the caller's.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, text, update

from services.catalog.schema import BUILDERS, GENERATIONS, META, tables_of
from tintype import __version__
from tintype.domain.errors import ConfigurationError

_ROWS = select(
    GENERATIONS.c.generation,
    GENERATIONS.c.token,
    GENERATIONS.c.schema_version,
    GENERATIONS.c.position,
    GENERATIONS.c.is_active,
)
_RELEASE = re.compile(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})")
_LOCK_KEY = 0x74696E74  # "tint": the advisory lock that guards the list of generations on PostgreSQL


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation: ``position`` is how far it is, and only one of a schema version is active, which is in use.

    The number of a generation that was given up may come again; its ``token`` never does.
    """

    number: int
    token: str
    schema_version: str
    position: int
    is_active: bool


def prepare(connection: Connection) -> None:
    """Take the lock that guards the list of generations, and make the table that lists them if there is none."""
    if connection.dialect.name == "postgresql":
        # Two replicas that start at once would both find no table, and both create it.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
    META.create_all(connection)


def listed(connection: Connection) -> list[Generation]:
    """All generations, oldest first."""
    return [Generation(*row) for row in connection.execute(_ROWS.order_by(GENERATIONS.c.generation))]


def active(connection: Connection, schema_version: str) -> Generation | None:
    """The generation in use; ``None`` while there is none."""
    return next((g for g in listed(connection) if g.is_active and g.schema_version == schema_version), None)


def opened(connection: Connection, schema_version: str) -> Generation:
    """The generation in use; else the one being built, which any number of replicas build together; else a new one."""
    prepare(connection)
    mine = [g for g in listed(connection) if g.schema_version == schema_version]
    in_use = next((g for g in mine if g.is_active), None)
    return in_use or (mine[0] if mine else added(connection, schema_version))


def require_no_newer(connection: Connection, schema_version: str, release: str = __version__) -> None:
    """Check that no newer release has made tables of another form.

    What it understood of the log, this one may not; and whether its list of generations is ours, nobody knows.

    Raises:
        ConfigurationError: one has; the message names both releases, and what to do.
    """
    prepare(connection)
    others = select(BUILDERS.c.release).where(BUILDERS.c.schema_version != schema_version)
    newer = [found for found in connection.execute(others).scalars() if _order(found) > _order(release)]
    if newer:
        newest = max(newer, key=_order)[:40]
        raise ConfigurationError(
            f"catalog.database_url: Tintype {newest} has made tables there, and this is {release}: run {newest} or "
            f"later, or give this release a database of its own, which it fills from the log"
        )


def _order(release: str) -> tuple[float, ...]:
    """Of what is no version we know as little as of the future."""
    found = _RELEASE.match(release)
    return tuple(float(number) for number in found.groups()) if found else (float("inf"),)


def added(connection: Connection, schema_version: str) -> Generation:
    """Make the tables of a new generation, empty and not in use."""
    prepare(connection)
    newest: int | None = connection.execute(select(func.max(GENERATIONS.c.generation))).scalar()
    generation = Generation((newest or 0) + 1, str(uuid.uuid4()), schema_version, 0, False)
    tables_of(generation.number).metadata.create_all(connection, checkfirst=False)
    connection.execute(
        insert(GENERATIONS).values(
            generation=generation.number,
            token=generation.token,
            schema_version=schema_version,
            position=0,
            is_active=False,
        )
    )
    connection.execute(
        insert(BUILDERS).values(token=generation.token, schema_version=schema_version, release=__version__)
    )
    return generation


def locked(connection: Connection, generation: Generation) -> Generation | None:
    """A generation as it is now, unchanged by others until the transaction ends; ``None`` if it was dropped."""
    is_it = (GENERATIONS.c.generation == generation.number) & (GENERATIONS.c.token == generation.token)
    row = connection.execute(_ROWS.where(is_it).with_for_update()).one_or_none()
    return Generation(*row) if row else None


def move(connection: Connection, number: int, position: int) -> None:
    """Note that a generation has reached ``position``."""
    connection.execute(update(GENERATIONS).where(GENERATIONS.c.generation == number).values(position=position))


def switched(connection: Connection, new: Generation) -> bool:
    """Put a generation into use instead of the one before; ``False`` if it is still behind that one, or gone.

    Afterwards the tables in use are never at a lower position than before: a reader does not travel back in time.
    """
    prepare(connection)
    candidate = locked(connection, new)
    if candidate is None:
        return False
    before = active(connection, candidate.schema_version)
    if before is not None and before.number != new.number:
        before = locked(connection, before)
        if before is not None and candidate.position < before.position:
            return False
        connection.execute(
            update(GENERATIONS)
            .where(GENERATIONS.c.schema_version == candidate.schema_version, GENERATIONS.c.generation != new.number)
            .values(is_active=False)
        )
    connection.execute(update(GENERATIONS).where(GENERATIONS.c.generation == new.number).values(is_active=True))
    return True


def dropped(connection: Connection, generation: Generation) -> None:
    """Remove a generation and its tables, if it is still there."""
    prepare(connection)
    if locked(connection, generation) is not None:
        _drop(connection, generation)


def superseded(connection: Connection, generation: Generation, other: Generation) -> None:
    """Remove ``other`` as ``generation`` is in use; nothing where that one has been superseded itself meanwhile."""
    prepare(connection)
    current = active(connection, generation.schema_version)
    if current is not None and current.token == generation.token and locked(connection, other) is not None:
        _drop(connection, other)


def _drop(connection: Connection, generation: Generation) -> None:
    connection.execute(delete(GENERATIONS).where(GENERATIONS.c.generation == generation.number))
    connection.execute(delete(BUILDERS).where(BUILDERS.c.token == generation.token))
    tables_of(generation.number).metadata.drop_all(connection)
