"""The calls about the service's keys and about certificates."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from cryptography.hazmat.primitives.serialization import Encoding

from services.signer.digest_signing import DigestSigning
from tintype.api.signer.v1 import signer_pb2 as pb
from tintype.codec.values import encode_time
from tintype.domain.values import Digest
from tintype.ports.certificates import CertificateSource
from tintype.ports.service_keys import ServiceKey, ServiceKeys
from tintype.runtime.auth import current_caller
from tintype.trust.pem import certificates_of

Context = grpc.aio.ServicerContext[Any, Any]


class KeyCalls:
    """Answers for the service's keys, and for certificates of one source."""

    def __init__(self, keys: ServiceKeys, signing: DigestSigning, certificates: CertificateSource) -> None:
        self._keys = keys
        self._signing = signing
        self._certificates = certificates

    async def sign_digest(self, request: pb.SignDigestRequest, context: Context) -> pb.SignDigestResponse:
        """Sign with the service's active key."""
        signed = await self._signing.sign(current_caller(), Digest.parse(request.digest))
        return pb.SignDigestResponse(properties=dict(signed.properties), certificate=signed.certificate)

    async def get_certificate(self, request: pb.GetCertificateRequest, context: Context) -> pb.GetCertificateResponse:
        """A certificate by its id, and those that lead from it to a root."""
        current_caller()
        found = await self._certificates.certificate(request.certificate_id)
        # Everybody may ask. What the signer may read under an id, and what lies beside a certificate, is no matter of
        # theirs: a private key, or somebody's secret.
        only = await asyncio.to_thread(_certificates_alone, found, f"certificate {request.certificate_id[:80]!r}")
        return pb.GetCertificateResponse(certificate=only)

    async def list_keys(self, request: pb.ListKeysRequest, context: Context) -> pb.ListKeysResponse:
        """The service's keys, newest first."""
        current_caller()
        return pb.ListKeysResponse(keys=[encode_key(key) for key in await self._keys.keys()])

    async def rotate_key(self, request: pb.RotateKeyRequest, context: Context) -> pb.ServiceKey:
        """Make a new key."""
        return encode_key(await self._signing.rotate(current_caller(), request.request_id))


def _certificates_alone(pem: bytes, what: str) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates_of(pem, what))


def encode_key(key: ServiceKey) -> pb.ServiceKey:
    """A key as the API shows it."""
    return pb.ServiceKey(
        id=key.id,
        key_type=key.key_type,
        certificate=key.certificate,
        created_at=encode_time(key.created_at),
        active=key.is_active,
    )
