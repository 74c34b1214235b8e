"""The catalog put together: wiring, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial

from services.catalog.admin import AdminServicer
from services.catalog.census import Counting
from services.catalog.commands import Commands, Rules
from services.catalog.database import Database
from services.catalog.expiry import Expiry
from services.catalog.measuring import Measuring
from services.catalog.operations import Operations, ProgressBoard
from services.catalog.operations_servicer import OperationsServicer
from services.catalog.projection import Projection
from services.catalog.projector import Projector
from services.catalog.reading import Reading
from services.catalog.rebuild import Rebuild
from services.catalog.servicer import CatalogServicer
from services.catalog.settings import CatalogSection, CatalogSettings
from services.catalog.starting import require_database
from services.catalog.system_status import LogSources, StatusReports
from services.catalog.watching import Watching
from services.catalog.watermark import Watermark
from tintype.adapters.event_log import open_event_log
from tintype.api.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from tintype.domain.errors import ConfigurationError
from tintype.ports.clock import Clock
from tintype.ports.event_log import EventLog
from tintype.runtime.clock import SystemClock
from tintype.runtime.grpc_server import Registration
from tintype.runtime.journal import Journal
from tintype.runtime.service import Service
from tintype.runtime.settings import TlsSettings

SERVICES = tuple(service.full_name for service in catalog_pb2.DESCRIPTOR.services_by_name.values())


async def build(settings: CatalogSettings, stack: AsyncExitStack) -> Service:
    """Make the service's parts; what must be closed goes onto the stack.

    Raises:
        ConfigurationError: a setting cannot be worked with.
        CatalogDatabaseError: the database does not answer.
        EventLogUnavailableError: the log does not answer.
    """
    make_data_dir(settings.catalog)
    await require_database(settings.catalog, settings.tls)
    opened = await stack.enter_async_context(open_event_log(settings.nats, settings.tls, client_name="catalog"))
    sources = LogSources(opened.state, opened.roll_call)
    service = assemble(settings.catalog, stack, opened.log, SystemClock(), sources, settings.store_names, settings.tls)
    return replace(
        service, health_checks={**service.health_checks, "event log": opened.check}, roll_call=opened.roll_call
    )


def make_data_dir(settings: CatalogSection) -> None:
    """Make the directory of an SQLite database that nobody has chosen another place for.

    Raises:
        ConfigurationError: it cannot be made.
    """
    if settings.database_url:
        return
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigurationError(f"catalog.data_dir {settings.data_dir} cannot be made: {exc.strerror}") from exc


def assemble(
    settings: CatalogSection,
    stack: AsyncExitStack,
    event_log: EventLog,
    clock: Clock,
    sources: LogSources,
    stores: Collection[str] | None = None,
    tls: TlsSettings | None = None,
) -> Service:
    """The service on a given log and clock; ``stores`` are the names that users may give, if it is known."""
    database = Database(settings.database, tls)
    stack.push_async_callback(database.close)
    projection, watermark, board = Projection(database), Watermark(), ProgressBoard(event_log)
    projector = Projector(event_log, projection, watermark)
    journal = Journal(event_log, clock)
    commands = Commands(journal, clock, Rules(settings.max_image_bytes, settings.delete_delay_s, stores))
    reading = Reading(journal, projection, watermark, projector.check)
    expiry = Expiry(journal, projection, clock, projector.caught_up)
    operations = Operations(event_log, commands, projection, watermark, board, projector.check)
    counting = Counting(projection, clock)
    stack.push_async_callback(counting.close)
    reports = StatusReports(sources, database, projector, counting, board, clock)
    catalog = CatalogServicer(commands, reading, Watching(event_log, projection, watermark), event_log)
    admin = AdminServicer(Rebuild(event_log, database), reports)
    add: list[tuple[Callable[..., object], object]] = [
        (catalog_pb2_grpc.add_CatalogServiceServicer_to_server, catalog),
        (catalog_pb2_grpc.add_OperationsServiceServicer_to_server, OperationsServicer(operations)),
        (catalog_pb2_grpc.add_CatalogAdminServiceServicer_to_server, admin),
    ]
    registrations: list[Registration] = [partial(function, servicer) for function, servicer in add]
    return Service(
        registrations,
        SERVICES,
        background={
            "projector": projector.run,
            "progress": board.run,
            "expiry": expiry.run,
            "measuring": Measuring(event_log, counting, projector, clock).run,
        },
        health_checks={"projection": projector.check, "database": database.check},
    )
