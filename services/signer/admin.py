"""SignerAdminService: what operators ask of the signer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from services.signer.answers import encode_verdict
from services.signer.policy_tests import PolicyTests
from tintype.api.signer.v1 import signer_pb2 as pb
from tintype.api.signer.v1 import signer_pb2_grpc
from tintype.domain.errors import NotPermittedError
from tintype.domain.values import project_id
from tintype.runtime.grpc_server import caller_of


class SignerAdminServicer(signer_pb2_grpc.SignerAdminServiceServicer):
    """For administrators alone."""

    def __init__(self, policy_tests: PolicyTests) -> None:
        self._policy_tests = policy_tests

    async def RotateKey(
        self, request: pb.RotateKeyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ServiceKey:
        """Make a new key."""
        raise NotImplementedError

    async def ReplayPolicy(
        self, request: pb.ReplayPolicyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.ReplayPolicyResponse]:
        """Judge every image of the log; a client that goes away ends it."""
        if not caller_of(context).is_admin:
            raise NotPermittedError("only an administrator may replay policies")
        project = project_id(request.project) if request.project else None
        async with aclosing(self._policy_tests.replay(project)) as steps:
            async for step in steps:
                verdict = encode_verdict(step.verdict) if step.verdict else None
                yield pb.ReplayPolicyResponse(position=step.position, head=step.head, verdict=verdict)
