"""The calls about policies: whom a project trusts, and what its rules say."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc
from cryptography.hazmat.primitives.serialization import Encoding

from services.signer.key_calls import encode_key
from services.signer.policy_tests import PolicyTests, PolicyVerdict
from services.signer.trust import Rules, Trust
from tintype.api.signer.v1 import signer_pb2 as pb
from tintype.codec.events import encode_verification
from tintype.codec.values import encode_failure
from tintype.domain.access import require_admin
from tintype.domain.values import image_id, project_id
from tintype.runtime.auth import current_caller

Context = grpc.aio.ServicerContext[Any, Any]


class PolicyCalls:
    """Answers by the rules of today."""

    def __init__(self, trust: Trust, tests: PolicyTests) -> None:
        self._trust = trust
        self._tests = tests

    async def get_trust(self, request: pb.GetTrustRequest, context: Context) -> pb.Trust:
        """Whom this site trusts to sign the images of the caller's project."""
        message = encode_trust(await self._trust.rules(current_caller().project))
        message.service_keys.extend(encode_key(key) for key in await self._trust.service_keys())
        return message

    async def test_policy(self, request: pb.TestPolicyRequest, context: Context) -> pb.PolicyVerdict:
        """What today's policy says about an image."""
        return encode_verdict(await self._tests.test(current_caller(), image_id(request.image_id)))

    async def replay_policy(
        self, request: pb.ReplayPolicyRequest, context: Context
    ) -> AsyncGenerator[pb.ReplayPolicyResponse, None]:
        """Judge every image of the log; a client that goes away ends it."""
        require_admin(current_caller(), "replay policies")
        project = project_id(request.project) if request.project else None
        async with aclosing(self._tests.replay(project)) as steps:
            async for step in steps:
                verdict = encode_verdict(step.verdict) if step.verdict else None
                yield pb.ReplayPolicyResponse(position=step.position, head=step.head, verdict=verdict)


def encode_trust(rules: Rules) -> pb.Trust:
    """Whom a project trusts, but for the service's own keys."""
    store = rules.store
    return pb.Trust(
        roots=[each.public_bytes(Encoding.PEM) for each in store.roots],
        intermediates=[each.public_bytes(Encoding.PEM) for each in store.intermediates],
        revocation_lists=[each.public_bytes(Encoding.PEM) for each in store.revocation_lists],
        allowed_signers=sorted(rules.policy.allowed_signers),
        requires_chain=rules.policy.requires_chain,
        policy=rules.fingerprint,
    )


def encode_verdict(verdict: PolicyVerdict) -> pb.PolicyVerdict:
    """What a policy says about an image."""
    return pb.PolicyVerdict(
        image_id=verdict.image_id,
        project=verdict.project,
        allowed=verdict.failure is None,
        verification=encode_verification(verdict.verification) if verdict.verification else None,
        failure=encode_failure(verdict.failure),
        policy=verdict.policy,
    )
