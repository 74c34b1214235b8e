"""Operations: followed until they are done."""

from __future__ import annotations

import uuid

import pytest

from tests.unit.client.fake_services import FakeServices, operation
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.types.v1 import types_pb2
from tintype.client import (
    CancelledOperationError,
    Client,
    NotFoundError,
    OperationFailedError,
    OperationState,
    PreconditionError,
    ServiceUnavailableError,
    Step,
)

RUNNING, FAILED = pb.OPERATION_STATE_RUNNING, pb.OPERATION_STATE_FAILED
SUCCEEDED, CANCELLED = pb.OPERATION_STATE_SUCCEEDED, pb.OPERATION_STATE_CANCELLED


def states(*ends: pb.OperationState.ValueType, failure: types_pb2.Failure | None = None) -> list[pb.Operation]:
    image, name = str(uuid.uuid4()), str(uuid.uuid4())
    steps = (types_pb2.STEP_STAGE, types_pb2.STEP_STAGE, types_pb2.STEP_PUBLISH)
    running = [operation(image, name=name, step=step) for step in steps]
    return [*running, *(operation(image, name=name, state=end, failure=failure) for end in ends)]


async def test_following_tells_each_change_once_and_ends(client: Client, services: FakeServices) -> None:
    name = services.add_operation(*states(SUCCEEDED))

    seen = [(state.step, state.state) async for state in client.operations.follow(name)]

    assert seen == [
        (Step.STAGE, OperationState.RUNNING),
        (Step.PUBLISH, OperationState.RUNNING),
        (None, OperationState.SUCCEEDED),
    ]


async def test_waiting_answers_how_it_ended(client: Client, services: FakeServices) -> None:
    done = await client.operations.wait(services.add_operation(*states(SUCCEEDED)))

    assert done.done
    assert (await client.operations.wait(done)).state is OperationState.SUCCEEDED


async def test_waiting_for_what_fails_raises_why(client: Client, services: FakeServices) -> None:
    failure = types_pb2.Failure(reason="SIZE_MISMATCH", message="too few bytes", hint="look", retryable=True)

    with pytest.raises(OperationFailedError, match="too few bytes") as caught:
        await client.operations.wait(services.add_operation(*states(FAILED, failure=failure)))

    assert (caught.value.reason, caught.value.hint, caught.value.retryable) == ("SIZE_MISMATCH", "look", True)
    assert caught.value.operation.state is OperationState.FAILED


async def test_waiting_for_what_is_cancelled_raises(client: Client, services: FakeServices) -> None:
    with pytest.raises(CancelledOperationError):
        await client.operations.wait(services.add_operation(*states(CANCELLED)))


async def test_waiting_has_an_end(client: Client, services: FakeServices) -> None:
    with pytest.raises(ServiceUnavailableError) as caught:
        await client.operations.wait(services.add_operation(*states(RUNNING)), timeout_s=0)

    assert caught.value.reason == "DEADLINE_EXCEEDED"


async def test_a_running_operation_is_cancelled_and_one_that_is_done_is_not(
    client: Client, services: FakeServices
) -> None:
    running, done = services.add_operation(*states(RUNNING)), services.add_operation(*states(SUCCEEDED)[-1:])

    assert (await client.operations.cancel(running)).state is OperationState.CANCELLED
    with pytest.raises(PreconditionError) as caught:
        await client.operations.cancel(done)
    assert caught.value.reason == "OPERATION_DONE"


async def test_an_unknown_operation_is_not_found(client: Client) -> None:
    with pytest.raises(NotFoundError):
        await client.operations.get(str(uuid.uuid4()))
