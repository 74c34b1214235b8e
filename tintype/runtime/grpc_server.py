"""The gRPC server of every service: limits, health, reflection, and errors as google.rpc.Status.

What the calls do is the servicers' business. Who calls is told by :mod:`tintype.runtime.auth`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from tintype.codec.call_metadata import STATUS_TRAILER
from tintype.domain.errors import ConfigurationError, InternalError, TintypeError
from tintype.runtime.auth import Authenticate, around_callers, claimed_caller
from tintype.runtime.error_table import status_code, to_rpc_status
from tintype.runtime.interception import AroundCalls, RequestsAwaited
from tintype.runtime.rpc_metrics import UnknownMethodsCounted, expect_calls, rpc_counted
from tintype.runtime.tracing import rpc_traced

log = structlog.get_logger(__name__)

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
MAX_CONCURRENT_STREAMS = 256
MAX_CONCURRENT_CALLS = 1024

OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_concurrent_streams", MAX_CONCURRENT_STREAMS),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.so_reuseport", 0),  # two processes on one port would share its calls unnoticed
)

Registration = Callable[[grpc.aio.Server], object]
"""Adds a servicer to a server: ``partial(add_XServicer_to_server, servicer)``."""


class Health:
    """What ``grpc.health.v1`` answers: the server as a whole, and each of its services, serve or do not."""

    def __init__(self, service_names: Sequence[str]) -> None:
        self._names = ("", *service_names)
        self.servicer = health.aio.HealthServicer()
        self.is_serving = False

    async def set(self, is_serving: bool) -> None:
        """Say whether calls are answered now."""
        serving = health_pb2.HealthCheckResponse.SERVING
        not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
        for name in self._names:
            await self.servicer.set(name, serving if is_serving else not_serving)
        self.is_serving = is_serving

    async def set_part(self, name: str, is_serving: bool) -> None:
        """Say whether a part works that is no service of its own; the server as a whole does not go by it."""
        status = health_pb2.HealthCheckResponse.SERVING if is_serving else health_pb2.HealthCheckResponse.NOT_SERVING
        await self.servicer.set(name, status)


@asynccontextmanager
async def serving(
    registrations: Sequence[Registration],
    service_names: Sequence[str],
    listen: str,
    drain_s: float,
    *,
    authenticate: Authenticate = claimed_caller,
    credentials: grpc.ServerCredentials | None = None,
) -> AsyncIterator[tuple[str, Health]]:
    """Serve calls while the context lasts; yields the address that is listened on, and the health to set.

    At the end new calls are refused, and running ones have ``drain_s`` seconds to finish. Without ``credentials``
    nothing is encrypted.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    server = grpc.aio.server(
        interceptors=(
            UnknownMethodsCounted(),
            AroundCalls(rpc_counted, errors_told, around_callers(authenticate), rpc_traced),
            RequestsAwaited(),  # innermost: who calls is known before anything of a request is waited for
        ),
        options=OPTIONS,
        maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS,
    )
    expect_calls(service_names)
    state = Health(service_names)
    await state.set(False)
    health_pb2_grpc.add_HealthServicer_to_server(state.servicer, server)
    for register in registrations:
        register(server)
    reflection.enable_server_reflection((*service_names, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    try:
        port = server.add_secure_port(listen, credentials) if credentials else server.add_insecure_port(listen)
    except RuntimeError as exc:
        raise ConfigurationError(f"{listen} cannot be listened on: another program has it, or it is not ours") from exc
    await server.start()
    try:
        yield f"{listen.rpartition(':')[0]}:{port}", state
    finally:
        await state.set(False)
        await server.stop(drain_s)


@asynccontextmanager
async def errors_told(method: str, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """Turn errors into statuses: ours with their reason, all others into INTERNAL without a word of what it was."""
    try:
        yield
    except grpc.aio.AbortError:
        raise
    except Exception as exc:
        await _abort(context, exc, method)


async def _abort(context: Any, exc: Exception, method: str) -> NoReturn:
    error = (
        exc if isinstance(exc, TintypeError) else InternalError("an internal error occurred; the log has the details")
    )
    status = to_rpc_status(error)
    if error is exc:
        log.info("call was refused", method=method, reason=error.reason, error=status.message)
    else:
        log.error("call crashed", method=method, exc_info=exc)
    trailer = (STATUS_TRAILER, status.SerializeToString())
    await context.abort(status_code(type(error)), status.message, trailing_metadata=(trailer,))
    raise AssertionError("abort always raises")
