"""Certificates by the id that an image names: a publisher's, or that of a key of the service itself."""

from __future__ import annotations

from tintype.domain.errors import CertificateInvalidError, CertificateNotFoundError
from tintype.ports.certificates import CertificateSource
from tintype.ports.service_keys import ServiceKey, ServiceKeys


class CertificatesWithOwn:
    """A source of certificates: the publishers' own source first, and then the keys of the service.

    Neither may pass for the other: an id that both know names nobody.
    """

    def __init__(self, publishers: CertificateSource, keys: ServiceKeys) -> None:
        self._publishers = publishers
        self._keys = keys

    async def certificate(self, certificate_id: str) -> bytes:
        """The certificate in PEM.

        Raises:
            CertificateNotFoundError: none of that id, or the id is malformed.
            CertificateInvalidError: the id is a publisher's, and that of a key of the service too.
            UnavailableError: the source or the key manager does not answer.
        """
        own = await self.service_key(certificate_id)
        try:
            found = await self._publishers.certificate(certificate_id)
        except CertificateNotFoundError:
            if own is None:
                raise
            return own.certificate
        if own is not None:
            raise CertificateInvalidError(
                f"certificate id {certificate_id!r} names a publisher's certificate and a key of the service: "
                "an operator must rename one"
            )
        return found

    async def service_key(self, certificate_id: str) -> ServiceKey | None:
        """The key of the service that has this id.

        Raises:
            KeyManagerUnavailableError: the key manager does not answer.
        """
        return next((key for key in await self._keys.keys() if key.id == certificate_id), None)
