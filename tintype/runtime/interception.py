"""What happens around every call of a gRPC server: one context manager, whatever kind of call it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from tintype.domain.errors import InvalidArgumentError

REQUEST_TIMEOUT_S = 30.0
"""How long the one request of a call may take to come once the call has begun."""

Around = Callable[[str, "grpc.aio.ServicerContext[Any, Any]"], AbstractAsyncContextManager[None]]
"""Is entered before a call's handler runs, and left when the call has ended, with what the handler raised.

It is given the full name of the method, ``/package.Service/Method``, and the call's context, and runs in the task of
the handler: a context variable that it sets is the handler's too.
"""


class AroundCalls(grpc.aio.ServerInterceptor):
    """Puts several :data:`Around` around every call of a method that exists, the first one outermost."""

    def __init__(self, *arounds: Around) -> None:
        self._arounds = arounds

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the call's handler; ``None`` is that of a method that does not exist."""
        handler = await continuation(handler_call_details)
        return _wrapped(handler, handler_call_details.method, self._around) if handler else None

    @asynccontextmanager
    async def _around(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for around in self._arounds:
                await stack.enter_async_context(around(method, context))
            yield


class RequestsAwaited(grpc.aio.ServerInterceptor):
    """Lets calls with one request begin before that has come, and gives it a limited time to come.

    gRPC would wait for it first, and for ever: whoever sends none would hold a place among the calls that are answered
    at once, and never be asked who he is. What is put around calls has to stand before this one.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """A handler that takes a stream of requests, of which there is one."""
        handler = await continuation(handler_call_details)
        return _awaiting(handler) if handler and not handler.request_streaming else handler


def _awaiting(handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
    if handler.response_streaming:

        async def stream(requests: AsyncIterator[Any], context: Any) -> Any:
            responses = handler.unary_stream(await _only(requests), context)
            if hasattr(responses, "__aiter__"):
                async with aclosing(responses):
                    async for response in responses:
                        yield response
            else:
                await responses

        return grpc.stream_stream_rpc_method_handler(stream, handler.request_deserializer, handler.response_serializer)

    async def single(requests: AsyncIterator[Any], context: Any) -> Any:
        return await handler.unary_unary(await _only(requests), context)

    return grpc.stream_unary_rpc_method_handler(single, handler.request_deserializer, handler.response_serializer)


async def _only(requests: AsyncIterator[Any]) -> Any:
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            async for request in requests:
                return request
    except TimeoutError:
        raise InvalidArgumentError("the request did not come in time") from None
    except DecodeError:
        raise InvalidArgumentError("the request is not a message of this method") from None
    raise InvalidArgumentError("the call has no request")


def _wrapped(handler: Any, method: str, around: Around) -> grpc.RpcMethodHandler[Any, Any]:
    if handler.response_streaming:
        inner = handler.stream_stream if handler.request_streaming else handler.unary_stream

        async def stream(request: Any, context: Any) -> Any:
            async with around(method, context):
                responses = inner(request, context)
                if hasattr(responses, "__aiter__"):
                    async with aclosing(responses):  # at once when the client goes away, not when memory is collected
                        async for response in responses:
                            yield response
                else:  # a handler that writes to the context by itself
                    await responses

        make = (
            grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
        )
        return make(stream, handler.request_deserializer, handler.response_serializer)
    inner = handler.stream_unary if handler.request_streaming else handler.unary_unary

    async def single(request: Any, context: Any) -> Any:
        async with around(method, context):
            return await inner(request, context)

    make_single = (
        grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
    )
    return make_single(single, handler.request_deserializer, handler.response_serializer)
