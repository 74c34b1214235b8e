"""What happens around every call of a gRPC server: one context manager, whatever kind of call it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import grpc

Around = Callable[[str, "grpc.aio.ServicerContext[Any, Any]"], AbstractAsyncContextManager[None]]
"""Is entered before a call's handler runs, and left when the call has ended, with what the handler raised.

It is given the full name of the method, ``/package.Service/Method``, and the call's context, and runs in the task of
the handler: a context variable that it sets is the handler's too.
"""


class AroundCalls(grpc.aio.ServerInterceptor):
    """Puts an :data:`Around` around every call of a method that exists."""

    def __init__(self, around: Around) -> None:
        self._around = around

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the call's handler; ``None`` is that of a method that does not exist."""
        handler = await continuation(handler_call_details)
        return _wrapped(handler, handler_call_details.method, self._around) if handler else None


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
