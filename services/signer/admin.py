"""SignerAdminService: what operators ask of the signer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from services.signer.key_calls import KeyCalls
from services.signer.policy_calls import PolicyCalls
from tintype.api.signer.v1 import signer_pb2 as pb
from tintype.api.signer.v1 import signer_pb2_grpc


class SignerAdminServicer(signer_pb2_grpc.SignerAdminServiceServicer):
    """Answers for the service's keys, and for policies."""

    def __init__(self, keys: KeyCalls, policies: PolicyCalls) -> None:
        self._keys = keys
        self._policies = policies

    async def RotateKey(
        self, request: pb.RotateKeyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ServiceKey:
        """Make a new key, which signs from now on."""
        return await self._keys.rotate_key(request, context)

    def ReplayPolicy(
        self, request: pb.ReplayPolicyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.ReplayPolicyResponse]:
        """What today's policies say about every image in the log."""
        return self._policies.replay_policy(request, context)
