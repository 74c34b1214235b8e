"""SignerService: questions about signatures."""

from __future__ import annotations

from typing import Any

import grpc

from services.signer.answers import encode_trust, encode_verdict
from services.signer.policy_tests import PolicyTests
from services.signer.trust import Trust
from services.signer.verifier import SignatureVerifier
from tintype.api.signer.v1 import signer_pb2 as pb
from tintype.api.signer.v1 import signer_pb2_grpc
from tintype.codec.events import encode_verification
from tintype.domain.attributes import SIGNATURE_PROPERTIES
from tintype.domain.values import Digest, image_id
from tintype.runtime.grpc_server import caller_of


class SignerServicer(signer_pb2_grpc.SignerServiceServicer):
    """Answers by the policies of the callers' projects."""

    def __init__(self, verifier: SignatureVerifier, trust: Trust, policy_tests: PolicyTests) -> None:
        self._verifier = verifier
        self._trust = trust
        self._policy_tests = policy_tests

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
        """Whom this site trusts to sign the images of the caller's project."""
        project = caller_of(context).project
        return encode_trust(await self._trust.rules(project), await self._trust.service_keys())

    async def ListKeys(
        self, request: pb.ListKeysRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListKeysResponse:
        """The service's keys."""
        raise NotImplementedError

    async def TestPolicy(
        self, request: pb.TestPolicyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.PolicyVerdict:
        """What today's policy says about an image."""
        return encode_verdict(await self._policy_tests.test(caller_of(context), image_id(request.image_id)))

    async def GetCheckpoint(
        self, request: pb.GetCheckpointRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.Checkpoint:
        """A signed checkpoint of the log."""
        raise NotImplementedError

    async def VerifyDigest(
        self, request: pb.VerifyDigestRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.VerifyDigestResponse:
        """Verify as on the road of an image."""
        project = caller_of(context).project
        digest = Digest.parse(request.digest)
        properties = {name: request.properties[name] for name in SIGNATURE_PROPERTIES if name in request.properties}
        judgment = await self._verifier.verify(project, properties, {digest.algorithm: digest.hex})
        return pb.VerifyDigestResponse(verification=encode_verification(judgment.verification))
