"""Rate, errors and duration of every call of a gRPC server.

It stands around all else that is around a call, so that refusals are counted too, whoever refuses.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
from google.protobuf import descriptor_pool

from tintype.runtime.metrics import RPC_IN_PROGRESS, RPC_SECONDS

Context = grpc.aio.ServicerContext[Any, Any]

OTHER = "other"
"""The label of what is no method of the service: its name is the caller's choice."""

_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


def expect_calls(service_names: Iterable[str]) -> None:
    """Let the series of calls that succeed begin at 0: Prometheus sees no increase where a series begins at 1."""
    pool = descriptor_pool.Default()
    for service in service_names:
        with suppress(KeyError):  # a service that was made by hand, without a descriptor
            for method in pool.FindServiceByName(service).methods:
                RPC_IN_PROGRESS.labels(service, method.name)
                RPC_SECONDS.labels(service, method.name, grpc.StatusCode.OK.name)


@asynccontextmanager
async def rpc_counted(method: str, context: Context) -> AsyncIterator[None]:
    """Count a call, and the time until it has ended."""
    service, name = split_method(method)
    begin = time.perf_counter()
    code = "UNKNOWN"
    with RPC_IN_PROGRESS.labels(service, name).track_inprogress():
        try:
            yield
            code = code_of(context)
        except (asyncio.CancelledError, GeneratorExit):
            code = _code_of_cancelled(context)
            raise
        except grpc.aio.AbortError:
            code = code_of(context)
            raise
        finally:
            RPC_SECONDS.labels(service, name, code).observe(time.perf_counter() - begin)


class UnknownMethodsCounted(grpc.aio.ServerInterceptor):
    """Counts the calls that no method answers."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Leave the handler as it is; ``None`` is that of a method that does not exist."""
        handler = await continuation(handler_call_details)
        if handler is None:
            RPC_SECONDS.labels(OTHER, OTHER, grpc.StatusCode.UNIMPLEMENTED.name).observe(0)
        return handler


def split_method(method: str) -> tuple[str, str]:
    """``/package.Service/Method`` as the service's name and the method's."""
    service, _, name = method.removeprefix("/").partition("/")
    return service, name


def code_of(context: Context) -> str:
    """The name of the status that a call has ended with."""
    code: Any = context.code()  # the stubs know a member of StatusCode only, and gRPC answers its number, too
    return code.name if isinstance(code, grpc.StatusCode) else _CODES.get(code or 0, "UNKNOWN")


def _code_of_cancelled(context: Context) -> str:
    """What the client sees of a call that it waits for no more: one whose time is over ends in the same way here."""
    remaining_s: float | None = context.time_remaining()  # the stubs know only calls with a deadline
    is_late = remaining_s is not None and remaining_s <= 0
    return (grpc.StatusCode.DEADLINE_EXCEEDED if is_late else grpc.StatusCode.CANCELLED).name
