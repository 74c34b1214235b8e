"""Whether the database is one that this release may work on, found out before anything else touches it."""

from __future__ import annotations

import asyncio
import time

import structlog

from services.catalog import generations
from services.catalog.database import Database
from services.catalog.schema import schema_version
from services.catalog.settings import CatalogSection
from tintype.domain.errors import CatalogDatabaseError
from tintype.runtime.settings import TlsSettings

log = structlog.get_logger(__name__)

TIMEOUT_S = 10.0
"""As long as a database that is just being started takes; whoever runs the catalog starts it again after that."""

_PAUSE_S = 0.25


async def require_database(settings: CatalogSection, tls: TlsSettings) -> None:
    """Check that the database answers, and that no newer release has made its tables.

    Raises:
        ConfigurationError: a newer release has.
        CatalogDatabaseError: it does not answer in time, or does not let the catalog in.
    """
    end = time.monotonic() + TIMEOUT_S
    database = Database(settings.database, tls)
    try:
        while True:
            try:
                return await database.write(lambda c: generations.require_no_newer(c, schema_version()))
            except CatalogDatabaseError as exc:
                if time.monotonic() >= end:
                    raise CatalogDatabaseError(f"catalog.database_url: {exc.message}") from exc
                log.warning("database does not answer yet", error=exc.message)
            await asyncio.sleep(_PAUSE_S)
    finally:
        await database.close()
