"""Whether the database is one that this release may work on, found out before anything else touches it."""

from __future__ import annotations

import asyncio
import sqlite3
import time

import structlog

from services.catalog import generations
from services.catalog.database import Database
from services.catalog.schema import schema_version
from services.catalog.settings import CatalogSection
from tintype.domain.errors import CatalogDatabaseError, ConfigurationError
from tintype.runtime.settings import TlsSettings

log = structlog.get_logger(__name__)

TIMEOUT_S = 10.0
"""As long as a database that is just being started takes; whoever runs the catalog starts it again after that."""

_PAUSE_S = 0.25
_HOPELESS = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)


async def require_database(settings: CatalogSection, tls: TlsSettings) -> None:
    """Check that the database answers, and that no newer release has made its tables.

    Raises:
        ConfigurationError: a newer release has, or the file is none of SQLite, or cannot be opened.
        CatalogDatabaseError: it does not answer in time, or does not let the catalog in.
    """
    end = time.monotonic() + TIMEOUT_S
    database = Database(settings.database, tls)
    try:
        while True:
            try:
                return await database.write(lambda c: generations.require_no_newer(c, schema_version()))
            except CatalogDatabaseError as exc:
                if _is_hopeless(exc):
                    raise ConfigurationError(f"catalog.database_url: {exc.message}") from exc
                if time.monotonic() >= end:
                    raise CatalogDatabaseError(f"catalog.database_url: {exc.message}{_hint(exc)}") from exc
                log.warning("database does not answer yet", error=exc.message)
            await asyncio.sleep(_PAUSE_S)
    finally:
        await database.close()


def _is_hopeless(error: CatalogDatabaseError) -> bool:
    """Whether trying again would not help: the file is the wrong one."""
    cause = getattr(error.__cause__, "orig", None)
    # The primary code: extended ones keep it in their lowest byte.
    return isinstance(cause, sqlite3.Error) and (cause.sqlite_errorcode & 0xFF) in _HOPELESS


def _hint(error: CatalogDatabaseError) -> str:
    """libpq does not say why it does not trust a certificate."""
    if "certificate verify failed" not in error.message:
        return ""
    return ": the server's certificate has expired, is for another host, or is of no CA in tls.ca"
