"""The gRPC face of operations."""

from __future__ import annotations

from services.catalog.operations import MAX_WAIT_S, Operations, OperationView
from services.catalog.requests import Context, freshness_of, request_of
from services.catalog.servicer import newest_operation
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.catalog.v1.catalog_pb2_grpc import OperationsServiceServicer
from tintype.codec.images import encode_operation
from tintype.domain.values import operation_id
from tintype.runtime.auth import current_caller


class OperationsServicer(OperationsServiceServicer):
    """Long-running uploads and imports."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def GetOperation(self, request: pb.GetOperationRequest, context: Context) -> pb.Operation:
        """How an operation stands."""
        freshness = freshness_of(context, request.min_position)
        operation = operation_id(request.operation_id)
        return encode_view(await self._operations.get(current_caller(), operation, freshness))

    async def WaitOperation(self, request: pb.WaitOperationRequest, context: Context) -> pb.Operation:
        """How an operation stands when it is done, or when the time is up."""
        timeout_s = MAX_WAIT_S
        if request.HasField("timeout"):
            timeout_s = request.timeout.seconds + request.timeout.nanos / 1e9
        freshness = freshness_of(context, request.min_position)
        operation = operation_id(request.operation_id)
        return encode_view(await self._operations.wait(current_caller(), operation, timeout_s, freshness))

    async def CancelOperation(self, request: pb.CancelOperationRequest, context: Context) -> pb.Operation:
        """End an operation."""
        asked = request_of(context, request.request_id)
        return newest_operation(await self._operations.cancel(asked, operation_id(request.operation_id)))


def encode_view(view: OperationView) -> pb.Operation:
    """An operation as it stands."""
    stored = view.stored
    return encode_operation(stored.image_id, stored.operation, stored.step, stored.position, view.progress)
