"""The catalog's tables, and the fingerprint by which a generation of them is known to be readable.

The tables of one generation carry its number as a suffix, so that a new generation can be built beside the one in use.
Nobody migrates them: another fingerprint means another generation, built from the log.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import msgspec
from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table, Text, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from tintype.domain.events import EVENT_TOKENS
from tintype.domain.image import Image, Operation

PROJECTION_REVISION = 2
"""Raised when rows get another meaning while tables and domain types keep their form."""

# Bytewise order on every database: what a page token compares must not depend on a locale.
_Name = String().with_variant(String(collation="C"), "postgresql")
_Json = Text()

LISTED = text("status <> 'deleted'")
"""The predicate of the partial indexes; written as text because a bound parameter would hide it from the planner."""

WAITING = text("purge_after IS NOT NULL")
"""The predicate of the index by which deleted images are found whose time to be restored has passed."""

RUNNING = text("ended_at IS NULL")
"""The predicate of the index by which running operations are found, the oldest first."""

FAILED = text("reason IS NOT NULL")
"""The predicate of the index by which recent failures are found."""

META = MetaData()

GENERATIONS = Table(
    "projection",
    META,
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("token", String(36), nullable=False),
    Column("schema_version", String(64), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("is_active", Boolean, nullable=False),
)
"""Every generation of tables that exists: whether it is in use, and the log position that it has reached."""


BUILDERS = Table(
    "projection_builder",
    META,
    Column("token", String(36), primary_key=True),
    Column("schema_version", String(64), nullable=False),
    Column("release", String(64), nullable=False),
)
"""The release that made each generation. Every release reads it before anything else: its form never changes."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of one generation."""

    generation: int
    metadata: MetaData
    images: Table
    tags: Table
    properties: Table
    operations: Table
    parked: Table


@lru_cache(maxsize=8)
def tables_of(generation: int) -> Tables:
    """The tables of a generation, whether they exist or not."""
    metadata = MetaData()
    return Tables(
        generation,
        metadata,
        _images(metadata, generation),
        _tags(metadata, generation),
        _properties(metadata, generation),
        _operations(metadata, generation),
        _parked(metadata, generation),
    )


def schema_version() -> str:
    """The fingerprint of everything that rows depend on: the tables, and the form of the states inside them."""
    tables = tables_of(0)
    dialect = sqlite.dialect()
    # A release that learns another type of event has to read again what the one before had parked.
    parts = [str(PROJECTION_REVISION), *sorted(EVENT_TOKENS.values())]
    for table in tables.metadata.sorted_tables:
        parts.append(str(CreateTable(table).compile(dialect=dialect)))
        parts.extend(sorted(str(CreateIndex(index).compile(dialect=dialect)) for index in table.indexes))
    parts.extend(msgspec.json.encode(msgspec.json.schema(state), order="deterministic").decode() for state in _STATES)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


_STATES = (Image, Operation)


def _images(metadata: MetaData, generation: int) -> Table:
    table = Table(
        f"images_{generation}",
        metadata,
        Column("id", _Name, primary_key=True),
        Column("project", _Name, nullable=False),
        Column("name", _Name, nullable=False),
        Column("status", _Name, nullable=False),
        Column("visibility", _Name, nullable=False),
        Column("disk_format", _Name),
        Column("container_format", _Name),
        Column("size", BigInteger),
        Column("min_disk", BigInteger, nullable=False),
        Column("min_ram", BigInteger, nullable=False),
        Column("protected", Boolean, nullable=False),
        Column("hidden", Boolean, nullable=False),
        # Microseconds since 1970: the same integer on every database, and on the wire of a page token.
        Column("created_at", BigInteger, nullable=False),
        Column("updated_at", BigInteger, nullable=False),
        # Of a deleted image that can be restored; no other has one.
        Column("purge_after", BigInteger),
        Column("version", BigInteger, nullable=False),
        Column("position", BigInteger, nullable=False),
        Column("state", _Json, nullable=False),
    )
    # A list is the union of the caller's own images and of those open to all: each half walks one of these.
    for columns in (
        ("created_at", "id"),
        ("project", "created_at", "id"),
        ("visibility", "created_at", "id"),
        ("project", "name", "id"),
        ("visibility", "name", "id"),
    ):
        Index(
            f"ix_images_{generation}_{'_'.join(columns)}",
            *(table.c[column] for column in columns),
            sqlite_where=LISTED,
            postgresql_where=LISTED,
        )
    # Counted without a look at the rows themselves, deleted ones included.
    Index(f"ix_images_{generation}_status", table.c.status)
    Index(
        f"ix_images_{generation}_purge_after_id",
        table.c.purge_after,
        table.c.id,
        sqlite_where=WAITING,
        postgresql_where=WAITING,
    )
    return table


def _tags(metadata: MetaData, generation: int) -> Table:
    table = Table(
        f"image_tags_{generation}",
        metadata,
        Column("image_id", _Name, primary_key=True),
        Column("tag", _Name, primary_key=True),
    )
    Index(f"ix_image_tags_{generation}_tag", table.c.tag, table.c.image_id)
    return table


def _properties(metadata: MetaData, generation: int) -> Table:
    table = Table(
        f"image_properties_{generation}",
        metadata,
        Column("image_id", _Name, primary_key=True),
        Column("key", _Name, primary_key=True),
        # Short enough for an index; see `property_term`.
        Column("term", _Name, nullable=False),
    )
    Index(f"ix_image_properties_{generation}_key_term", table.c.key, table.c.term, table.c.image_id)
    return table


def _operations(metadata: MetaData, generation: int) -> Table:
    table = Table(
        f"operations_{generation}",
        metadata,
        Column("id", _Name, primary_key=True),
        Column("image_id", _Name, nullable=False),
        Column("project", _Name, nullable=False),
        Column("step", _Name),
        Column("started_at", BigInteger, nullable=False),
        Column("ended_at", BigInteger),
        # Why it failed; no other has one.
        Column("reason", _Name),
        Column("position", BigInteger, nullable=False),
        Column("state", _Json, nullable=False),
    )
    Index(
        f"ix_operations_{generation}_running",
        table.c.started_at,
        table.c.id,
        sqlite_where=RUNNING,
        postgresql_where=RUNNING,
    )
    Index(
        f"ix_operations_{generation}_failed",
        table.c.ended_at,
        table.c.reason,
        sqlite_where=FAILED,
        postgresql_where=FAILED,
    )
    return table


def _parked(metadata: MetaData, generation: int) -> Table:
    return Table(
        f"parked_events_{generation}",
        metadata,
        Column("position", BigInteger, primary_key=True, autoincrement=False),
        Column("image_id", _Name, nullable=False),
        Column("event_id", _Name, nullable=False),
        Column("event_type", _Name, nullable=False),
        Column("reason", _Name, nullable=False),
        Column("error", Text, nullable=False),
    )
