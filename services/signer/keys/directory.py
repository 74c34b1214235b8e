"""Certificates from a directory: the name of a file without its suffix is the certificate's id.

The ids come from strangers. What is read is a regular file inside the directory, of bounded size, and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

from tintype.domain.errors import CertificateNotFoundError, KeyManagerUnavailableError
from tintype.domain.values import CERTIFICATE_ID

MAX_CERTIFICATE_BYTES = 64 * 1024
READ_TIMEOUT_S = 10.0
SUFFIXES = (".pem", ".crt", ".cer")


class CertificateDirectory:
    """A source of certificates over a directory; ``None`` is a site without any."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    async def certificate(self, certificate_id: str) -> bytes:
        """The certificate in PEM.

        Raises:
            CertificateNotFoundError: none of that id, the id is malformed, or what is there is no plain, small file.
            KeyManagerUnavailableError: the directory cannot be read.
        """
        if not CERTIFICATE_ID.fullmatch(certificate_id):
            raise CertificateNotFoundError(
                f"{certificate_id[:80]!r} is not a certificate id: use letters, digits, hyphens, underscores and dots"
            )
        if self._directory is None:
            raise CertificateNotFoundError(f"no certificate {certificate_id!r}: this site has no certificate directory")
        try:
            # A network file system may hang.
            async with asyncio.timeout(READ_TIMEOUT_S):
                return await asyncio.to_thread(_read, self._directory, certificate_id)
        except (OSError, TimeoutError) as exc:
            raise KeyManagerUnavailableError(f"certificate {certificate_id!r} cannot be read") from exc


def _read(directory: Path, certificate_id: str) -> bytes:
    root = directory.resolve(strict=True)
    for suffix in SUFFIXES:
        # Links inside the directory are how Kubernetes mounts a secret; a link that leads out of it is no certificate.
        path = (root / f"{certificate_id}{suffix}").resolve()
        if path.is_relative_to(root) and path.is_file():
            return _read_small_file(path, certificate_id)
    raise CertificateNotFoundError(f"no certificate {certificate_id!r} is known here")


def _read_small_file(path: Path, certificate_id: str) -> bytes:
    # O_NONBLOCK: a FIFO must not hold the thread; O_NOFOLLOW: the path was resolved, so that a link is a new one.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise CertificateNotFoundError(f"certificate {certificate_id!r} is not a regular file")
        content = file.read(MAX_CERTIFICATE_BYTES + 1)
    if len(content) > MAX_CERTIFICATE_BYTES:
        raise CertificateNotFoundError(f"certificate {certificate_id!r} is larger than {MAX_CERTIFICATE_BYTES} bytes")
    return content
