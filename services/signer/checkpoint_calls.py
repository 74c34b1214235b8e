"""The call about the checkpoints of the log."""

from __future__ import annotations

from typing import Any

import grpc

from services.signer.checkpointing import Checkpointing
from tintype.api.signer.v1 import signer_pb2 as pb
from tintype.codec.values import encode_failure
from tintype.domain.image import failure_of
from tintype.runtime.auth import current_caller
from tintype.trust.checkpoints import opened


class CheckpointCalls:
    """Answers for one replica's checkpoints."""

    def __init__(self, checkpointing: Checkpointing) -> None:
        self._checkpointing = checkpointing

    async def get_checkpoint(
        self, request: pb.GetCheckpointRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.Checkpoint:
        """The newest one, or the newest up to a position."""
        current_caller()
        found = await self._checkpointing.find(request.max_position)
        complaint = self._checkpointing.complaint
        return pb.Checkpoint(
            envelope=found.envelope,
            position=opened(found.envelope).checkpoint.state.position,
            number=found.number,
            complaint=encode_failure(failure_of(complaint)) if complaint else None,
        )
