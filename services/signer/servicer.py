"""SignerService: questions about signatures."""

from __future__ import annotations

from typing import Any

import grpc

from services.signer.checkpoint_calls import CheckpointCalls
from services.signer.key_calls import KeyCalls
from services.signer.policy_calls import PolicyCalls
from services.signer.verifier import SignatureVerifier
from tintype.api.signer.v1 import signer_pb2 as pb
from tintype.api.signer.v1 import signer_pb2_grpc
from tintype.codec.events import encode_verification
from tintype.domain.attributes import SIGNATURE_PROPERTIES
from tintype.domain.values import Digest
from tintype.runtime.auth import current_caller


class SignerServicer(signer_pb2_grpc.SignerServiceServicer):
    """Answers for one verifier, for the service's keys, for policies, and for checkpoints."""

    def __init__(
        self, verifier: SignatureVerifier, keys: KeyCalls, policies: PolicyCalls, checkpoints: CheckpointCalls
    ) -> None:
        self._verifier = verifier
        self._keys = keys
        self._policies = policies
        self._checkpoints = checkpoints

    async def SignDigest(
        self, request: pb.SignDigestRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.SignDigestResponse:
        """Sign with the service's active key."""
        return await self._keys.sign_digest(request, context)

    async def GetCertificate(
        self, request: pb.GetCertificateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetCertificateResponse:
        """A certificate by its id."""
        return await self._keys.get_certificate(request, context)

    async def GetTrust(self, request: pb.GetTrustRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.Trust:
        """Whom this site trusts to sign the images of the caller's project."""
        return await self._policies.get_trust(request, context)

    async def ListKeys(
        self, request: pb.ListKeysRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListKeysResponse:
        """The service's keys."""
        return await self._keys.list_keys(request, context)

    async def TestPolicy(
        self, request: pb.TestPolicyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.PolicyVerdict:
        """What today's policy says about an image."""
        return await self._policies.test_policy(request, context)

    async def GetCheckpoint(
        self, request: pb.GetCheckpointRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.Checkpoint:
        """A signed checkpoint of the log."""
        return await self._checkpoints.get_checkpoint(request, context)

    async def VerifyDigest(
        self, request: pb.VerifyDigestRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.VerifyDigestResponse:
        """Verify as on the road of an image."""
        project = current_caller().project
        digest = Digest.parse(request.digest)
        properties = {name: request.properties[name] for name in SIGNATURE_PROPERTIES if name in request.properties}
        judgment = await self._verifier.verify(project, properties, {digest.algorithm: digest.hex})
        return pb.VerifyDigestResponse(verification=encode_verification(judgment.verification))
