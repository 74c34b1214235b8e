"""Several places in which certificates are looked for, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from tintype.domain.errors import CertificateNotFoundError
from tintype.ports.certificates import CertificateSource


class SeveralSources:
    """A source of certificates over others: the first that has a certificate of the id is believed."""

    def __init__(self, sources: Sequence[CertificateSource]) -> None:
        """``sources`` are asked in this order; at least one."""
        self._sources = sources

    async def certificate(self, certificate_id: str) -> bytes:
        """The certificate in PEM.

        Raises:
            CertificateNotFoundError: none of the sources has it.
            UnavailableError: a source that was asked does not answer, so that nobody knows.
        """
        missing = CertificateNotFoundError(f"no certificate {certificate_id[:80]!r} is known here")
        for source in self._sources:
            try:
                return await source.certificate(certificate_id)
            except CertificateNotFoundError as exc:
                missing = exc
        raise missing
