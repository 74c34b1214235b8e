"""gRPC health by itself, on a port of its own: for probes that have no certificate and no token.

It answers what the service's own port answers, and nothing else; there is nothing to learn but whether the service is
well. Everything is bounded, as anybody may call who reaches the port: only ``Check`` is served, since a ``Watch`` would
hold a place for ever.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tintype.domain.errors import ConfigurationError
from tintype.runtime.grpc_server import Health

_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", 4096),
    ("grpc.max_concurrent_streams", 16),
    ("grpc.max_connection_idle_ms", 60_000),
    ("grpc.max_connection_age_ms", 60_000),
    ("grpc.max_connection_age_grace_ms", 5_000),  # a call whose request never comes ends here
    ("grpc.so_reuseport", 0),
)
_MAX_CALLS = 64
_DRAIN_S = 1.0


class Readiness:
    """How the service is, for whoever probes it; not ready before it is built."""

    def __init__(self) -> None:
        self._health: Health | None = None

    def follow(self, health: Health) -> None:
        """From here on, tell what that says."""
        self._health = health

    @property
    def health(self) -> Health | None:
        """What the service's own port answers, once there is one."""
        return self._health

    @property
    def is_ready(self) -> bool:
        """Whether calls are answered now."""
        return self._health is not None and self._health.is_serving


class ProbeServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # generated, without types
    """Answers ``Check`` alone."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        """Say how the service, or a part of it, is."""
        health = self._readiness.health
        if health is None:
            return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING)
        answer: health_pb2.HealthCheckResponse = await health.servicer.Check(request, context)
        return answer


@asynccontextmanager
async def health_port(listen: str, readiness: Readiness) -> AsyncIterator[str]:
    """Answer probes while the context lasts; yields the address, with the port that was taken.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_MAX_CALLS)
    health_pb2_grpc.add_HealthServicer_to_server(ProbeServicer(readiness), server)
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as exc:
        raise ConfigurationError(f"health_listen: {listen} cannot be listened on") from exc
    await server.start()
    try:
        yield f"{listen.rpartition(':')[0]}:{port}"
    finally:
        await server.stop(_DRAIN_S)
