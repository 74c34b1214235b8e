"""SignerService: questions about signatures."""

from __future__ import annotations

from typing import Any

import grpc

from services.signer.checkpointing import Checkpointing
from services.signer.verifier import SignatureVerifier
from tintype.api.signer.v1 import signer_pb2 as pb
from tintype.api.signer.v1 import signer_pb2_grpc
from tintype.codec.events import encode_verification
from tintype.codec.values import encode_failure
from tintype.domain.attributes import SIGNATURE_PROPERTIES
from tintype.domain.errors import CheckpointNotFoundError
from tintype.domain.image import failure_of
from tintype.domain.values import Digest
from tintype.runtime.grpc_server import caller_of
from tintype.trust.checkpoints import opened


class SignerServicer(signer_pb2_grpc.SignerServiceServicer):
    """Answers for one verifier, and for one replica's checkpoints where it has them."""

    def __init__(self, verifier: SignatureVerifier, checkpointing: Checkpointing | None = None) -> None:
        self._verifier = verifier
        self._checkpointing = checkpointing

    async def SignDigest(
        self, request: pb.SignDigestRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.SignDigestResponse:
        """Sign with the service's active key."""
        raise NotImplementedError

    async def GetCertificate(
        self, request: pb.GetCertificateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetCertificateResponse:
        """A certificate by its id."""
        raise NotImplementedError

    async def GetTrust(self, request: pb.GetTrustRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.Trust:
        """Whom this site trusts."""
        raise NotImplementedError

    async def ListKeys(
        self, request: pb.ListKeysRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListKeysResponse:
        """The service's keys."""
        raise NotImplementedError

    async def TestPolicy(
        self, request: pb.TestPolicyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.PolicyVerdict:
        """What today's policy says about an image."""
        raise NotImplementedError

    async def GetCheckpoint(
        self, request: pb.GetCheckpointRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.Checkpoint:
        """A signed checkpoint of the log."""
        caller_of(context)
        if self._checkpointing is None:
            raise CheckpointNotFoundError("this signer has no checkpoints")
        found = await self._checkpointing.find(request.max_position)
        complaint = self._checkpointing.complaint
        return pb.Checkpoint(
            envelope=found.envelope,
            position=opened(found.envelope).checkpoint.state.position,
            number=found.number,
            complaint=encode_failure(failure_of(complaint)) if complaint else None,
        )

    async def VerifyDigest(
        self, request: pb.VerifyDigestRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.VerifyDigestResponse:
        """Verify as on the road of an image."""
        caller_of(context)
        digest = Digest.parse(request.digest)
        properties = {name: request.properties[name] for name in SIGNATURE_PROPERTIES if name in request.properties}
        verification = await self._verifier.verify(properties, {digest.algorithm: digest.hex})
        return pb.VerifyDigestResponse(verification=encode_verification(verification))
