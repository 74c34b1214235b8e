"""Whom a site, or a user, trusts: roots, revocation lists, and the certificates of a service's own keys.

A directory of it holds PEM files: certificates of authorities, and such that are signed with their own key, are roots;
``*.crl``, and revocation lists in any other file, count for the authority that they name. The subfolder
``intermediates`` holds certificates that only help to find a way to a root; ``service-keys`` those of a service's own
keys, a file's name without its suffix being the key's id.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from tintype.domain.errors import CertificateInvalidError, TrustStoreError
from tintype.trust.pem import MAX_PEM_BYTES, certificates_and_lists, certificates_of
from tintype.trust.public_keys import MALFORMED, name_of

MAX_FILES = 256
MAX_CERTIFICATES = 512
MAX_STORE_BYTES = MAX_PEM_BYTES
"""Of all files of a directory: they travel in one message."""

INTERMEDIATES = "intermediates"
SERVICE_KEYS = "service-keys"
SUFFIXES = (".pem", ".crt", ".cer", ".crl")


@dataclass(frozen=True)
class TrustStore:
    """Who is trusted. ``service_certificates`` are those of a service's own keys, by key id."""

    roots: tuple[x509.Certificate, ...] = ()
    intermediates: tuple[x509.Certificate, ...] = ()
    revocation_lists: tuple[x509.CertificateRevocationList, ...] = ()
    service_certificates: Mapping[str, x509.Certificate] = field(default_factory=dict)


def load_trust_store(directory: Path) -> TrustStore:
    """Read a directory of PEM files; files with other suffixes than ``SUFFIXES``, and hidden ones, are left alone.

    Raises:
        TrustStoreError: a file cannot be read, holds something else, or there is too much; the message names it.
    """
    budget = _Budget(directory)
    roots: list[x509.Certificate] = []
    intermediates: list[x509.Certificate] = []
    lists: list[x509.CertificateRevocationList] = []
    for path, content in budget.files(directory):
        found, revoked = _parsed(path, content)
        roots += (_root(certificate, str(path)) for certificate in found)
        lists += revoked
    for path, content in budget.files(directory / INTERMEDIATES):
        found, revoked = _parsed(path, content)
        intermediates += found
        lists += revoked
    service = {path.stem: _only(path, content) for path, content in budget.files(directory / SERVICE_KEYS)}
    if len(roots) + len(intermediates) + len(lists) > MAX_CERTIFICATES:
        raise TrustStoreError(f"{directory} holds more than {MAX_CERTIFICATES} certificates")
    return TrustStore(tuple(roots), tuple(intermediates), tuple(lists), service)


def trust_store_of(
    roots: Iterable[bytes],
    *,
    intermediates: Iterable[bytes] = (),
    revocation_lists: Iterable[bytes] = (),
    service_certificates: Mapping[str, bytes] | None = None,
) -> TrustStore:
    """The store that PEM texts make up, as :class:`tintype.api.signer.v1.signer_pb2.Trust` carries them.

    Raises:
        TrustStoreError: one of them cannot be read, or holds something else, or there is too much.
    """
    try:
        found = TrustStore(
            tuple(_root(each, "a root") for pem in roots for each in certificates_of(pem, "a root")),
            tuple(each for pem in intermediates for each in certificates_of(pem, "an intermediate certificate")),
            tuple(each for pem in revocation_lists for each in certificates_and_lists(pem, "a revocation list")[1]),
            {key: certificates_of(pem, f"key {key[:80]!r}")[0] for key, pem in (service_certificates or {}).items()},
        )
    except CertificateInvalidError as exc:
        raise TrustStoreError(exc.message) from exc
    if len(found.roots) + len(found.intermediates) + len(found.revocation_lists) > MAX_CERTIFICATES:
        raise TrustStoreError(f"the trust store holds more than {MAX_CERTIFICATES} certificates")
    return found


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether its basic constraints say that it may issue certificates.

    Raises:
        CertificateInvalidError: its extensions are malformed.
    """
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
    except MALFORMED as exc:
        raise CertificateInvalidError(f"{name_of(certificate)} has malformed extensions") from exc


class _Budget:
    """Reads small regular files until their number or size is used up."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files = MAX_FILES
        self._bytes = MAX_STORE_BYTES

    def files(self, directory: Path) -> Sequence[tuple[Path, bytes]]:
        """The files of a folder in the order of their names; a subfolder that is not there has none."""
        try:
            names = sorted(os.listdir(directory))
        except FileNotFoundError as exc:
            if directory != self._directory:
                return []
            raise TrustStoreError(f"{directory} does not exist") from exc
        except OSError as exc:
            raise TrustStoreError(f"{directory} cannot be read: {exc.strerror}") from exc
        paths = [directory / name for name in names if not name.startswith(".") and name.endswith(SUFFIXES)]
        return [(path, self._content(path)) for path in paths]

    def _content(self, path: Path) -> bytes:
        self._files -= 1
        if self._files < 0:
            raise TrustStoreError(f"{self._directory} holds more than {MAX_FILES} files: {path} is one too many")
        try:
            # O_NONBLOCK: a FIFO must not hold the thread.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise TrustStoreError(f"{path} is not a regular file")
                content = file.read(self._bytes + 1)
        except OSError as exc:
            raise TrustStoreError(f"{path} cannot be read: {exc.strerror}") from exc
        self._bytes -= len(content)
        if self._bytes < 0:
            raise TrustStoreError(f"{path}: {self._directory} holds more than {MAX_STORE_BYTES} bytes")
        return content


def _parsed(
    path: Path, content: bytes
) -> tuple[tuple[x509.Certificate, ...], tuple[x509.CertificateRevocationList, ...]]:
    try:
        return certificates_and_lists(content, str(path))
    except CertificateInvalidError as exc:
        raise TrustStoreError(exc.message) from exc


def _only(path: Path, content: bytes) -> x509.Certificate:
    certificates, lists = _parsed(path, content)
    if len(certificates) != 1 or lists:
        raise TrustStoreError(f"{path} must hold one certificate, that of the key {path.stem!r}")
    return certificates[0]


def _root(certificate: x509.Certificate, what: str) -> x509.Certificate:
    try:
        is_root = certificate.subject == certificate.issuer or is_authority(certificate)
    except (CertificateInvalidError, ValueError, TypeError) as exc:
        raise TrustStoreError(f"{what}: a certificate in it has malformed names or extensions") from exc
    if not is_root:
        raise TrustStoreError(
            f"{what}: {name_of(certificate)} can be no root: it is neither an authority's nor signed with its own key"
        )
    return certificate
