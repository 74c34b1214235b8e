"""The signer's answers as messages."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography.hazmat.primitives.serialization import Encoding

from services.signer.policy_tests import PolicyVerdict
from services.signer.trust import Rules
from tintype.api.signer.v1 import signer_pb2 as pb
from tintype.codec.events import encode_verification
from tintype.codec.values import encode_failure
from tintype.ports.service_keys import ServiceKey


def encode_trust(rules: Rules, keys: Iterable[ServiceKey]) -> pb.Trust:
    """Whom a project trusts."""
    store = rules.store
    return pb.Trust(
        roots=[each.public_bytes(Encoding.PEM) for each in store.roots],
        intermediates=[each.public_bytes(Encoding.PEM) for each in store.intermediates],
        revocation_lists=[each.public_bytes(Encoding.PEM) for each in store.revocation_lists],
        service_keys=[encode_key(key) for key in keys],
        allowed_signers=sorted(rules.policy.allowed_signers),
        requires_chain=rules.policy.requires_chain,
        policy=rules.fingerprint,
    )


def encode_key(key: ServiceKey) -> pb.ServiceKey:
    """The public part of one of the service's keys."""
    message = pb.ServiceKey(id=key.id, key_type=key.key_type, certificate=key.certificate, active=key.is_active)
    message.created_at.FromDatetime(key.created_at)
    return message


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
