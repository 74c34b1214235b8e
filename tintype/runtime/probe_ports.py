"""The ports beside a service's own: for probes, and for Prometheus. Each is off unless it is set."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import structlog

from tintype.runtime.health_port import Readiness, health_port
from tintype.runtime.metrics_port import metrics_port
from tintype.runtime.settings import ServiceSettings

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Probes:
    """What the ports tell, and where they are; an empty address is none."""

    readiness: Readiness = field(default_factory=Readiness)
    addresses: dict[str, str] = field(default_factory=dict)
    """By ``health`` and ``metrics``, those that there are."""


@asynccontextmanager
async def probe_ports(own: ServiceSettings) -> AsyncIterator[Probes]:
    """Listen while the context lasts, which is from before the service is built until all of it has ended.

    Raises:
        ConfigurationError: an address cannot be listened on.
    """
    probes = Probes()
    async with AsyncExitStack() as stack:
        if own.health_listen:
            port = health_port(own.health_listen, probes.readiness)
            probes.addresses["health"] = await stack.enter_async_context(port)
        if own.metrics_listen:
            port = metrics_port(own.metrics_listen, probes.readiness)
            probes.addresses["metrics"] = await stack.enter_async_context(port)
        if probes.addresses:
            log.info("probes are answered", **probes.addresses)
        yield probes
