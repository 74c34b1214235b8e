"""Certificates of a service: what it shows to callers, and how it trusts and is trusted where it connects.

Every file is checked when it is read: that it holds what it should, that key and certificate fit, and that nothing in
it has expired, so that a wrong one is named at the start and not met later as a handshake that fails.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from tintype.domain.errors import ConfigurationError
from tintype.ports.service_info import Certificate
from tintype.runtime.bounded_file import read_bounded
from tintype.runtime.metrics import CERTIFICATE_EXPIRY
from tintype.runtime.reloading import Reloading
from tintype.runtime.settings import TlsSettings

MAX_PEM_BYTES = 1024 * 1024

Now = Callable[[], datetime]


def utc_now() -> datetime:
    """The time."""
    return datetime.now(UTC)


def certificates_in_use() -> tuple[Certificate, ...]:
    """Those that this process has read, by file, with the end of each file's use."""
    samples = [sample for metric in CERTIFICATE_EXPIRY.collect() for sample in metric.samples]
    return tuple(
        Certificate(sample.labels["file"], datetime.fromtimestamp(sample.value, UTC))
        for sample in sorted(samples, key=lambda sample: sample.labels["file"])
    )


def server_credentials(settings: TlsSettings, *, now: Now = utc_now) -> grpc.ServerCredentials | None:
    """What a gRPC server shows to callers, read again when it changes; ``None`` where nothing is encrypted.

    With ``client_ca`` a caller without a certificate of it does not get past the handshake.

    Raises:
        ConfigurationError: a file cannot be used; names the setting and the file.
    """
    certificate, key = settings.certificate, settings.key
    if certificate is None or key is None:
        return None
    client_ca = settings.client_ca

    def read() -> grpc.ServerCertificateConfiguration:
        pair = _pair(certificate, key, now)
        roots = _authorities("tls.client_ca", client_ca, now) if client_ca else None
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=roots)

    paths = [path for path in (certificate, key, client_ca) if path]
    files = Reloading("the server's certificate", paths, read)
    last = files.current()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal last
        newest = files.current()
        if newest is last:
            return None
        last = newest
        return newest

    # The stubs do not know that no answer is no change.
    return grpc.dynamic_ssl_server_credentials(last, changed, client_ca is not None)  # type: ignore[arg-type]


class ClientTls:
    """How one trusts a server, and shows who one is; :meth:`context` is made anew when a file changes."""

    def __init__(self, settings: TlsSettings, *, now: Now = utc_now) -> None:
        """Read the files.

        Raises:
            ConfigurationError: a file cannot be used; names the setting and the file.
        """
        self._settings = settings
        self._now = now
        paths = [path for path in (settings.ca, settings.certificate, settings.key) if path]
        self._files = Reloading("the certificate for NATS", paths, self._read)

    def context(self) -> ssl.SSLContext:
        """For the next connection."""
        return self._files.current()

    def _read(self) -> ssl.SSLContext:
        settings = self._settings
        authorities = _authorities("tls.ca", settings.ca, self._now) if settings.ca else None
        # Without CAs of its own it trusts the system's.
        context = ssl.create_default_context(cadata=_der(authorities) if authorities else None)
        if settings.certificate and settings.key:
            _pair(settings.certificate, settings.key, self._now)
            try:
                context.load_cert_chain(settings.certificate, settings.key)
            except (OSError, ssl.SSLError) as exc:
                raise ConfigurationError(f"tls.certificate: {settings.certificate} cannot be used: {exc}") from exc
        return context


def _pair(certificate: Path, key: Path, now: Now) -> tuple[bytes, bytes]:
    """The private key and the chain of certificates, as gRPC wants them, once they are known to fit."""
    chain = _pem("tls.certificate", certificate)
    secret = _pem("tls.key", key)
    certificates = _certificates("tls.certificate", certificate, chain)
    for each in certificates:
        if complaint := _validity_complaint(each, now()):
            raise ConfigurationError(f"tls.certificate: {certificate}: {complaint}")
    try:
        public = load_pem_private_key(secret, password=None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(f"tls.key: {key} holds no private key in PEM without a password") from None
    if _encoded(public) != _encoded(certificates[0].public_key()):
        raise ConfigurationError(f"tls.key: {key} is not the key of the certificate in {certificate}")
    CERTIFICATE_EXPIRY.labels(str(certificate)).set(min(_end(each) for each in certificates))
    return secret, chain


def _authorities(setting: str, path: Path, now: Now) -> bytes:
    """The CAs of a file. An expired one is no error beside one that is not: during a change both are in it."""
    content = _pem(setting, path)
    certificates = _certificates(setting, path, content)
    complaints = [_validity_complaint(each, now()) for each in certificates]
    if all(complaints):
        raise ConfigurationError(f"{setting}: {path}: {complaints[0]}")
    CERTIFICATE_EXPIRY.labels(str(path)).set(max(_end(each) for each in certificates))
    return content


def _der(content: bytes) -> bytes:
    """The certificates of a PEM file without what stands between them, such as names in any language."""
    return b"".join(each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(content))


def _certificates(setting: str, path: Path, content: bytes) -> Sequence[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise ConfigurationError(f"{setting}: {path} holds no certificate in PEM") from None


def _validity_complaint(certificate: x509.Certificate, now: datetime) -> str:
    """Why the certificate is not valid now; empty if it is."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    subject = f"the certificate of {certificate.subject.rfc4514_string()[:100]}"
    if now > end:
        return f"{subject} expired on {end:%Y-%m-%d %H:%M} UTC"
    return f"{subject} is valid only from {begin:%Y-%m-%d %H:%M} UTC on" if now < begin else ""


def _end(certificate: x509.Certificate) -> float:
    return certificate.not_valid_after_utc.timestamp()


def _pem(setting: str, path: Path) -> bytes:
    return read_bounded(path, MAX_PEM_BYTES, f"{setting}: {path}")


def _encoded(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]
