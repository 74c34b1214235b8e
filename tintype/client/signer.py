"""The signer: signatures by the service, its keys, and certificates."""

from __future__ import annotations

from tintype.api.signer.v1 import signer_pb2 as pb
from tintype.client import decoding
from tintype.client.models import ServiceKey, SignedDigest
from tintype.client.transport import AS_ADMIN, Transport, new_request_id


class Signer:
    """What the service signs with, and who signed."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def sign_digest(self, digest: str) -> SignedDigest:
        """Have the service sign the digest (``sha256:0123…``) of an image's bytes.

        Raises:
            NotPermittedError: reason ``SIGNING_NOT_PERMITTED``: it does not sign for this project.
            InvalidRequestError: it is not a SHA-224 or SHA-256 digest.
            ConfigurationError: the configuration names no signer.
        """
        answer = await self._transport.call(self._transport.signer.SignDigest, pb.SignDigestRequest(digest=digest))
        return SignedDigest(dict(answer.properties), answer.certificate.decode(errors="replace"))

    async def certificate(self, certificate_id: str) -> str:
        """A publisher's certificate, or that of a key of the service, in PEM.

        Raises:
            ContentError: reason ``CERTIFICATE_NOT_FOUND``: there is none of that id.
        """
        request = pb.GetCertificateRequest(certificate_id=certificate_id)
        return (await self._transport.call(self._transport.signer.GetCertificate, request)).certificate.decode(
            errors="replace"
        )

    async def keys(self) -> tuple[ServiceKey, ...]:
        """The service's keys, newest first; the active one signs, the others verify what they signed before."""
        answer = await self._transport.call(self._transport.signer.ListKeys, pb.ListKeysRequest())
        return tuple(decoding.service_key(message) for message in answer.keys)

    async def rotate(self, *, request_id: str | None = None) -> ServiceKey:
        """Make a new key, which signs from now on, as an administrator. The same ``request_id`` twice makes one key."""
        request = pb.RotateKeyRequest(request_id=request_id or new_request_id())
        call = self._transport.signer_admin.RotateKey
        return decoding.service_key(await self._transport.call(call, request, extra_metadata=(AS_ADMIN,)))
