"""The catalog's database: an engine for SQLite or PostgreSQL, with its transactions run in threads.

Synchronous drivers in a few threads: measured faster than asynchronous ones here, and the same code serves both
databases. Nothing in the database is a fact of its own; what is lost is projected anew from the log.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tintype.domain.errors import CatalogDatabaseError, CatalogValueError, ConfigurationError
from tintype.runtime.settings import TlsSettings

T = TypeVar("T")

READERS = 4
CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 30
BUSY_TIMEOUT_MS = 10_000
_WAL_PAUSE_S = 0.01
_PLAIN_MODES = ("disable", "allow", "prefer")


class Database:
    """Runs functions in transactions: any number of readers, and one writer at a time per process."""

    def __init__(self, url: str, tls: TlsSettings | None = None) -> None:
        """Prepare for the database at ``url``; nothing is opened yet. ``tls`` is for a URL that has an ``sslmode``.

        Raises:
            ConfigurationError: the URL is not one of SQLite or PostgreSQL.
        """
        self._engine = _engine(url, tls or TlsSettings())
        self._write_engine = self._engine.execution_options(tintype_is_write=True)
        self._readers = ThreadPoolExecutor(READERS, "catalog-read")
        self._writer = ThreadPoolExecutor(1, "catalog-write")
        # SQLite has one writer anyway: in one queue the live projection and a rebuild take turns, and none starves.
        self._builder = self._writer if self.dialect == "sqlite" else ThreadPoolExecutor(1, "catalog-build")

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._engine.dialect.name

    async def read(self, body: Callable[[Connection], T]) -> T:
        """Run ``body`` in a transaction that only reads.

        Raises:
            CatalogDatabaseError: the database does not answer, or refuses.
        """
        return await self._in_thread(self._readers, self._engine, body)

    async def write(self, body: Callable[[Connection], T]) -> T:
        """Run ``body`` in a transaction that is committed if it returns.

        Raises:
            CatalogDatabaseError: the database does not answer, or refuses; nothing was written as far as is known.
            CatalogValueError: it can never store one of the values.
        """
        return await self._in_thread(self._writer, self._write_engine, body)

    async def build(self, body: Callable[[Connection], T]) -> T:
        """As :meth:`write`, for a rebuild: beside the live projection where the database can, else in turns with it."""
        return await self._in_thread(self._builder, self._write_engine, body)

    async def check(self) -> None:
        """Find out whether the database answers.

        Raises:
            CatalogDatabaseError: it does not.
        """
        await self.read(lambda connection: connection.execute(select(1)).scalar_one())

    async def close(self) -> None:
        """Wait for the running transactions, and close all connections."""

        def close() -> None:
            for executor in (self._readers, self._writer, self._builder):
                executor.shutdown()
            self._engine.dispose()

        await asyncio.to_thread(close)

    async def _in_thread(self, executor: ThreadPoolExecutor, engine: Engine, body: Callable[[Connection], T]) -> T:
        def run() -> T:
            with engine.begin() as connection:
                return body(connection)

        # The deadline is the database's own (statement and busy timeouts): a thread cannot be interrupted.
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, run)
        except (DataError, IntegrityError, OverflowError) as exc:  # sqlite3 raises the last one as it is
            raise CatalogValueError(f"the catalog's database cannot store a value: {_cause(exc)}") from exc
        except (DBAPIError, PoolTimeoutError) as exc:
            raise CatalogDatabaseError(f"the catalog's database failed: {_cause(exc)}") from exc


def _cause(exc: Exception) -> str:
    # The statement and its parameters stay out of what callers read.
    cause = getattr(exc, "orig", None) or exc
    return " ".join(f"{type(cause).__name__}: {cause}".split())[:200]


def _engine(url: str, tls: TlsSettings) -> Engine:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the second for a port that is no number
        raise ConfigurationError("catalog.database_url is not a database URL") from None
    try:
        if parsed.get_backend_name() == "sqlite":
            return _sqlite(parsed)
        if parsed.get_backend_name() == "postgresql":
            return _postgresql(_with_certificates(parsed, tls))
    except NoSuchModuleError as exc:
        raise ConfigurationError(f"catalog.database_url names a driver that does not exist: {exc}") from exc
    except ImportError as exc:
        raise ConfigurationError(f"the driver for catalog.database_url is not installed: {exc}") from exc
    raise ConfigurationError("catalog.database_url must begin with sqlite:/// or postgresql://")


def _sqlite(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ConfigurationError("catalog.database_url must name a file: sqlite:////PATH")
    engine = create_engine(url.set(drivername="sqlite"), pool_size=READERS + 2, max_overflow=2)

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver's own idea of when to BEGIN does not cover DDL and reads
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        _begin_wal(cursor)
        # A power failure may lose the newest transactions, never their order: rows and position fall back together,
        # and the log fills the gap. FULL would pay an fsync per batch for nothing.
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        is_write = connection.get_execution_options().get("tintype_is_write", False)
        # A writer takes its lock at once: a read lock that is upgraded later fails without waiting.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")

    return engine


def _begin_wal(cursor: sqlite3.Cursor) -> None:
    # Two that open a new file at once: the switch fails at once for the second, whatever the busy timeout says.
    end = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= end:
                raise
        time.sleep(_WAL_PAUSE_S)


def _with_certificates(url: URL, tls: TlsSettings) -> URL:
    """The service's own certificates, where the URL asks for encryption and names none.

    libpq reads the files anew for each connection.
    """
    if url.query.get("sslmode", "disable") in _PLAIN_MODES:
        return url
    files = {"sslrootcert": tls.ca, "sslcert": tls.certificate, "sslkey": tls.key}
    return url.update_query_dict({name: str(path) for name, path in files.items() if path and name not in url.query})


def _postgresql(url: URL) -> Engine:
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=READERS + 2,
        max_overflow=2,
        pool_pre_ping=True,
        pool_timeout=10,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_S}s -c lock_timeout=10s -c timezone=UTC",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": STATEMENT_TIMEOUT_S * 1000,
        },
    )
