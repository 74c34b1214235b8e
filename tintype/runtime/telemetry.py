"""How a service logs: structured, one event per line on standard error, the libraries' logs included.

The level of the libraries is at least ``warning``: what they tell below that is about themselves.
"""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from tintype.runtime.settings import LogSettings
from tintype.runtime.tracing import name_trace


def configure_logging(settings: LogSettings, service: str) -> None:
    """Make every log line of the process go to standard error, with the service's name on it."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]

    def name_service(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event.setdefault("service", service)
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_service,
        name_trace,
    ]
    renderers = _renderers(settings)
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    logging.getLogger("asyncio").addFilter(_says_something)
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


def _says_something(record: logging.LogRecord) -> bool:
    """Whether a line of asyncio's log does: NATS' client ends each TLS connection with one that means nothing."""
    return "returning true from eof_received() has no effect" not in record.getMessage()


def _renderers(settings: LogSettings) -> list[Processor]:
    if settings.format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
