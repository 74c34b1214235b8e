"""Certificates in memory."""

from __future__ import annotations

from tintype.domain.errors import CertificateNotFoundError, KeyManagerUnavailableError


class MemoryCertificates:
    """A source of certificates that are put in by hand; ``is_away`` makes it answer nothing."""

    def __init__(self) -> None:
        self._certificates: dict[str, bytes] = {}
        self.is_away = False

    def put(self, certificate_id: str, pem: bytes) -> None:
        """Keep a certificate under an id."""
        self._certificates[certificate_id] = pem

    def remove(self, certificate_id: str) -> None:
        """Forget it."""
        del self._certificates[certificate_id]

    async def certificate(self, certificate_id: str) -> bytes:
        """The certificate in PEM.

        Raises:
            CertificateNotFoundError: none of that id.
            KeyManagerUnavailableError: the source is away.
        """
        if self.is_away:
            raise KeyManagerUnavailableError("the certificates in memory are away")
        if certificate_id not in self._certificates:
            raise CertificateNotFoundError(f"no certificate {certificate_id[:80]!r} is known here")
        return self._certificates[certificate_id]
