"""Uploads and imports that go on by themselves: look at one, wait for it, follow it, end it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.client import decoding
from tintype.client.errors import CancelledOperationError, OperationFailedError, ServiceUnavailableError
from tintype.client.models import Operation, OperationState, Upload
from tintype.client.transport import Transport, new_request_id

LONGEST_WAIT_S = 30.0
"""How long the service is asked to hold one answer; a longer wait is several."""

FOLLOW_INTERVAL_S = 0.5
"""Progress is told at most twice a second: asking oftener shows no more."""


class Operations:
    """Operations, by id; an :class:`Operation` or a finished :class:`Upload` may stand for its id."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self, operation: str | Operation | Upload) -> Operation:
        """The operation as it stands.

        Raises:
            NotFoundError: there is none of that id.
        """
        request = pb.GetOperationRequest(operation_id=_id(operation), min_position=self._transport.position)
        return self._answer(await self._transport.call(self._transport.operations.GetOperation, request))

    async def wait(self, operation: str | Operation | Upload, *, timeout_s: float | None = None) -> Operation:
        """Wait until the operation is done, and return it as it ended.

        Raises:
            OperationFailedError: it failed; reason and hint say why.
            CancelledOperationError: it was cancelled.
            ServiceUnavailableError: reason ``DEADLINE_EXCEEDED`` when it goes on after ``timeout_s``.
        """
        async for state in self.follow(operation, timeout_s=timeout_s, interval_s=LONGEST_WAIT_S):
            if state.done:
                return succeeded(state)
        raise AssertionError("following ends only with an operation that is done")

    async def follow(
        self,
        operation: str | Operation | Upload,
        *,
        timeout_s: float | None = None,
        interval_s: float = FOLLOW_INTERVAL_S,
    ) -> AsyncGenerator[Operation, None]:
        """Yield the operation as it stands, then whenever its step or progress has changed, until it is done.

        The last one that is yielded is done; whether it succeeded is for the caller to see.

        Raises:
            ServiceUnavailableError: reason ``DEADLINE_EXCEEDED`` when it goes on after ``timeout_s``.
        """
        name = _id(operation)
        clock = asyncio.get_running_loop()
        deadline = None if timeout_s is None else clock.time() + timeout_s
        state = await self.get(name)
        yield state
        while not state.done:
            hold_s = interval_s if deadline is None else min(interval_s, deadline - clock.time())
            if hold_s <= 0:
                raise ServiceUnavailableError(
                    f"operation {name} goes on after {timeout_s:g} s",
                    reason="DEADLINE_EXCEEDED",
                    hint="It goes on by itself: wait for it again.",
                )
            previous, state = state, await self._hold(name, hold_s)
            if state != previous:
                yield state

    async def cancel(self, operation: str | Operation | Upload, *, request_id: str | None = None) -> Operation:
        """End a running operation; its image is queued again.

        Raises:
            NotFoundError: there is none of that id.
            PreconditionError: it is done already.
        """
        request = pb.CancelOperationRequest(operation_id=_id(operation), request_id=request_id or new_request_id())
        return self._answer(await self._transport.call(self._transport.operations.CancelOperation, request))

    async def _hold(self, name: str, hold_s: float) -> Operation:
        timeout = Duration()
        timeout.FromTimedelta(timedelta(seconds=hold_s))
        request = pb.WaitOperationRequest(operation_id=name, timeout=timeout, min_position=self._transport.position)
        answer = await self._transport.call(
            self._transport.operations.WaitOperation, request, timeout_s=self._transport.config.timeout_s + hold_s
        )
        return self._answer(answer)

    def _answer(self, message: pb.Operation) -> Operation:
        self._transport.observe(message.position)
        return decoding.operation(message)


def succeeded(operation: Operation) -> Operation:
    """Return an operation that is done.

    Raises:
        OperationFailedError: it failed.
        CancelledOperationError: it was cancelled.
    """
    if operation.state is OperationState.CANCELLED:
        raise CancelledOperationError(
            f"operation {operation.id} was cancelled", hint="Import or upload again, if it is wanted after all."
        )
    if operation.state is not OperationState.SUCCEEDED:
        raise OperationFailedError(operation)
    return operation


def _id(operation: str | Operation | Upload) -> str:
    match operation:
        case Operation():
            return operation.id
        case Upload():
            return operation.operation_id
        case _:
            return operation
