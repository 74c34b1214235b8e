"""Certificates from a Barbican: an image's certificate id is the UUID of a secret, or of a container of certificates.

As Glance's and Nova's library keeps them, a secret holds the certificate in PEM; DER is read as well. Barbican's client
blocks, so it lives in a few threads of its own, under a deadline. A certificate never changes in Barbican, but it may
be deleted: it is kept for a short while only.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests
import structlog
from barbicanclient import exceptions as barbican_errors
from barbicanclient.v1.client import Client
from barbicanclient.v1.containers import CertificateContainer
from keystoneauth1 import exceptions as keystone_errors
from keystoneauth1.plugin import BaseAuthPlugin
from keystoneauth1.session import Session

from services.signer.barbican_settings import BarbicanSection
from services.signer.keys.directory import MAX_CERTIFICATE_BYTES
from tintype.domain.errors import (
    CertificateNotFoundError,
    ConfigurationError,
    KeyManagerUnavailableError,
)
from tintype.runtime.bounded_http import bounded_session
from tintype.runtime.keystone import keystone_plugin
from tintype.trust.private_files import read_secret

log = structlog.get_logger(__name__)

MAX_CACHED = 256
_THREADS = 4

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

_MAY_BE_CERTIFICATES = ("certificate", "opaque")
"""Types of secrets. Of all others not even the payload is asked for: some are keys."""

_NOT_THERE = (400, 403, 404, 406, 410)
"""What Barbican answers about a secret that is not there, not the signer's to see, or without a payload."""


class BarbicanCertificates:
    """A source of certificates over a Barbican, which it asks as the user that the settings name."""

    def __init__(self, settings: BarbicanSection, *, monotonic: Callable[[], float]) -> None:
        """Nothing is asked before the first certificate is.

        Raises:
            ConfigurationError: a file that the settings name cannot be used.
            KeyPermissionsError: others may read the password.
        """
        self._settings = settings
        self._auth = _credentials(settings)
        self._verify = _authorities(settings.ca_file)
        self._monotonic = monotonic
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="barbican")
        self._lock = threading.Lock()
        self._http = bounded_session(settings.timeout_s)
        self._client: Client | None = None
        self._kept: dict[str, tuple[float, bytes]] = {}

    async def certificate(self, certificate_id: str) -> bytes:
        """The certificate in PEM; of a container, its intermediate certificates follow.

        Raises:
            CertificateNotFoundError: none of that id that the signer may see, or what is there is no certificate.
            KeyManagerUnavailableError: Barbican or Keystone does not answer, or does not let the signer in.
        """
        if not _UUID.fullmatch(certificate_id):
            raise CertificateNotFoundError(f"{certificate_id[:80]!r} is not the UUID of a secret in Barbican")
        key = certificate_id.lower()
        if (kept := self._kept.get(key)) and kept[0] > self._monotonic():
            return kept[1]
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                found = await asyncio.get_running_loop().run_in_executor(self._threads, self._fetch, key)
        except TimeoutError as exc:
            raise KeyManagerUnavailableError(f"Barbican took longer than {self._settings.timeout_s:g} s") from exc
        self._keep(key, found)
        return found

    async def aclose(self) -> None:
        """Let go of the threads; one that still waits ends by its own deadline."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._http.close()

    def _keep(self, key: str, certificate: bytes) -> None:
        now = self._monotonic()
        self._kept = {name: kept for name, kept in self._kept.items() if kept[0] > now and name != key}
        while len(self._kept) >= MAX_CACHED:
            del self._kept[next(iter(self._kept))]  # the oldest
        if self._settings.cache_s:
            self._kept[key] = (now + self._settings.cache_s, certificate)

    def _fetch(self, key: str) -> bytes:
        """Blocking; what the libraries raise becomes ours."""
        try:
            client = self._connected()
            try:
                return _pem_of(client.secrets.get(key))
            except barbican_errors.HTTPClientError as exc:
                if exc.status_code != 404:
                    raise
            return _pem_of_container(client.containers.get(key), key)
        except barbican_errors.HTTPClientError as exc:
            if exc.status_code in _NOT_THERE:
                raise CertificateNotFoundError(f"Barbican has no certificate {key!r} for the signer") from exc
            raise _unavailable(exc) from exc
        except (
            barbican_errors.BarbicanException,
            barbican_errors.HTTPError,
            keystone_errors.ClientException,
            requests.RequestException,
            OSError,
            # An answer that is not what the libraries know.
            AttributeError,
            LookupError,
            RecursionError,
            TypeError,
            ValueError,
        ) as exc:
            raise _unavailable(exc) from exc

    def _connected(self) -> Client:
        """The client, which finds Barbican in Keystone's catalog when it is made."""
        with self._lock:
            if self._client is None:
                settings = self._settings
                # No redirects: a token goes to nobody else.
                session = Session(
                    self._auth, self._http, verify=self._verify, timeout=settings.timeout_s, redirect=False
                )
                where: dict[str, Any] = {"endpoint": settings.endpoint} if settings.endpoint else {}
                self._client = Client(
                    session=session,
                    service_type="key-manager",
                    interface=settings.interface,
                    region_name=settings.region or None,
                    version="v1",
                    **where,
                )
            return self._client


def _credentials(settings: BarbicanSection) -> BaseAuthPlugin:
    if settings.password_file is None:
        raise ConfigurationError("signer.barbican.password_file is missing")
    try:
        password = read_secret(settings.password_file)
    except OSError as exc:
        raise ConfigurationError(
            f"signer.barbican.password_file: {settings.password_file} cannot be read: {exc.strerror}"
        ) from exc
    return keystone_plugin(settings, password)


def _authorities(ca_file: Path | None) -> str | bool:
    if ca_file is None:
        return True
    try:
        ssl.create_default_context(cafile=str(ca_file))
    except OSError as exc:  # an ssl.SSLError is one as well
        raise ConfigurationError(f"signer.barbican.ca_file: {ca_file} is not a file of authorities in PEM") from exc
    return str(ca_file)


def _pem_of(secret: Any) -> bytes:
    kind = secret.secret_type
    if kind not in _MAY_BE_CERTIFICATES:
        raise CertificateNotFoundError(f"what Barbican has is a secret of type {str(kind)[:40]!r}, and no certificate")
    payload = secret.payload
    content = payload.encode() if isinstance(payload, str) else payload
    if not content:
        raise CertificateNotFoundError("the secret in Barbican is empty")
    if len(content) > MAX_CERTIFICATE_BYTES:
        raise CertificateNotFoundError(f"the secret in Barbican is larger than {MAX_CERTIFICATE_BYTES} bytes")
    # DER begins with a SEQUENCE; whether it is a certificate is found out by whoever parses it.
    return ssl.DER_cert_to_PEM_cert(content).encode() if content[0] == 0x30 else bytes(content)


def _pem_of_container(container: Any, key: str) -> bytes:
    if not isinstance(container, CertificateContainer) or container.certificate is None:
        raise CertificateNotFoundError(f"container {key!r} in Barbican holds no certificate")
    found = _pem_of(container.certificate)
    # Of a container that has a private key as well, that is never asked for.
    if container.intermediates is not None:
        found += b"\n" + _pem_of(container.intermediates)
    if len(found) > MAX_CERTIFICATE_BYTES:
        raise CertificateNotFoundError(f"container {key!r} is larger than {MAX_CERTIFICATE_BYTES} bytes")
    return found


def _unavailable(exc: Exception) -> KeyManagerUnavailableError:
    # The class says enough: the text is the server's.
    log.warning("barbican failed a question", error=type(exc).__name__)
    return KeyManagerUnavailableError(f"Barbican or Keystone does not answer as it should ({type(exc).__name__})")
