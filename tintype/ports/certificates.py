"""Where the certificates of publishers are found."""

from __future__ import annotations

from typing import Protocol


class CertificateSource(Protocol):
    """Finds a publisher's certificate by the id that an image names."""

    async def certificate(self, certificate_id: str) -> bytes:
        """The certificate in PEM.

        Raises:
            CertificateNotFoundError: none of that id, or the id is malformed.
            UnavailableError: the source does not answer.
        """
        ...
