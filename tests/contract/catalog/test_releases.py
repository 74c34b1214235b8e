"""Tables of other releases: those of an older one are left alone, and a newer one's are not worked beside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest
from packaging.version import Version
from sqlalchemy import Connection, inspect, select, update

from services.catalog import generations, starting
from services.catalog.database import Database
from services.catalog.schema import BUILDERS, META, schema_version
from services.catalog.settings import CatalogSection
from services.catalog.starting import require_database
from tintype import __version__
from tintype.domain.errors import CatalogDatabaseError, ConfigurationError
from tintype.runtime.settings import TlsSettings

T = TypeVar("T")
OURS = Version(__version__)
NEWER = (
    f"{OURS.major}.{OURS.minor}.{OURS.micro + 1}",
    f"{OURS.major}.{OURS.minor + 10}.0",
    "999.0.0rc1",
    "somewhat later",
)


def built_by(release: str, form: str = "another form") -> Callable[[Connection], None]:
    """Tables as that release would have made them."""

    def build(connection: Connection) -> None:
        generation = generations.added(connection, form)
        connection.execute(update(BUILDERS).where(BUILDERS.c.token == generation.token).values(release=release))

    return build


async def start(database_url: str) -> None:
    await require_database(CatalogSection(database_url=database_url), TlsSettings())


async def test_an_empty_database_is_good(database_url: str) -> None:
    await start(database_url)
    await start(database_url)


async def test_replicas_that_start_at_once_agree(database_url: str) -> None:
    await asyncio.gather(*(start(database_url) for _ in range(4)))


@pytest.mark.parametrize("release", NEWER)
async def test_a_newer_release_is_named_with_what_to_do(database: Database, database_url: str, release: str) -> None:
    await database.write(built_by("0.0.9"))
    await database.write(built_by(release))
    with pytest.raises(ConfigurationError) as caught:
        await start(database_url)
    for word in ("catalog.database_url", release, __version__, "or later", "a database of its own"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("release", ["0.0.9", __version__])
async def test_tables_of_an_older_release_are_no_hindrance(database: Database, database_url: str, release: str) -> None:
    await database.write(built_by(release))
    await start(database_url)


async def test_a_newer_release_whose_tables_have_the_same_form_is_no_hindrance(
    database: Database, database_url: str
) -> None:
    await database.write(built_by("9.0.0", schema_version()))
    await start(database_url)


async def test_tables_that_are_dropped_are_forgotten(database: Database, database_url: str) -> None:
    await database.write(built_by("9.0.0"))
    (generation,) = await database.write(generations.listed)
    await database.write(lambda c: generations.dropped(c, generation))
    await start(database_url)
    assert await database.read(lambda c: c.execute(select(BUILDERS)).all()) == []


async def test_a_database_from_before_releases_were_noted_is_good(database: Database, database_url: str) -> None:
    def build(connection: Connection) -> None:
        generations.added(connection, schema_version())
        BUILDERS.drop(connection)

    await database.write(build)
    await start(database_url)
    assert "projection_builder" in await database.read(lambda c: inspect(c).get_table_names())


async def test_each_generation_names_its_release(database: Database) -> None:
    opened = await database.write(lambda c: generations.opened(c, schema_version()))
    rows = await database.read(lambda c: c.execute(select(BUILDERS)).all())
    assert [tuple(row) for row in rows] == [(opened.token, schema_version(), __version__)]


async def test_a_database_that_does_not_answer_is_told_by_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "TIMEOUT_S", 0.0)
    with pytest.raises(CatalogDatabaseError) as caught:
        await start("postgresql://u:hunter2@127.0.0.1:1/d")
    assert caught.value.message.startswith("catalog.database_url: ") and "refused" in caught.value.message
    assert "hunter2" not in caught.value.message


async def test_a_database_that_is_slow_to_come_is_waited_for(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([CatalogDatabaseError("it is starting up"), CatalogDatabaseError("it is starting up")])
    write = Database.write

    async def slow(self: Database, body: Callable[[Connection], T]) -> T:
        for error in answers:
            raise error
        return await write(self, body)

    monkeypatch.setattr(Database, "write", slow)
    await start(database_url)
    assert next(answers, None) is None


def test_the_form_of_what_every_release_reads_stays() -> None:
    columns = [column.name for column in META.tables["projection_builder"].columns]
    assert columns == ["token", "schema_version", "release"]
