"""Signing in: a token, and the URL of the account that it is for. Kept until Swift says that the token has expired."""

from __future__ import annotations

import asyncio
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import aiohttp
import requests
from keystoneauth1 import exceptions as keystone_errors
from keystoneauth1.session import Session

from tintype.adapters.swift.settings import SwiftStoreSettings
from tintype.domain.errors import (
    ConfigurationError,
    StoreAccessDeniedError,
    StoreMissingError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from tintype.runtime.bounded_http import bounded_session
from tintype.runtime.keystone import keystone_plugin
from tintype.trust.private_files import read_secret

_TOKEN_MAX = 8192


@dataclass(frozen=True, slots=True)
class Access:
    """What requests are made with."""

    token: str = field(repr=False)
    storage_url: str


class SignIn(Protocol):
    """One way to sign in."""

    async def __call__(self) -> Access:
        """Ask for a new token.

        Raises:
            StoreUnavailableError: its subclasses say why there is none.
        """
        ...

    def close(self) -> None:
        """End its connections and threads."""
        ...


class Credentials:
    """The token of one store. However many requests find it expired, one new one is asked for."""

    def __init__(self, sign_in: SignIn, storage_url: str) -> None:
        self._sign_in = sign_in
        self._storage_url = storage_url
        self._access: Access | None = None
        self._lock = asyncio.Lock()

    async def access(self, expired: Access | None = None) -> Access:
        """The token; another one than ``expired``.

        Raises:
            StoreUnavailableError: its subclasses say why there is none.
        """
        async with self._lock:
            if self._access is None or self._access is expired:
                self._access = None
                told = await self._sign_in()
                self._access = Access(told.token, self._storage_url or told.storage_url)
            return self._access

    def close(self) -> None:
        """End its connections and threads."""
        self._sign_in.close()


class SwiftSignIn:
    """Version 1: user and key in headers, token and account in the answer's."""

    def __init__(self, store: str, settings: SwiftStoreSettings, http: aiohttp.ClientSession, secret: str) -> None:
        self._store = store
        self._settings = settings
        self._http = http
        self._secret = secret

    async def __call__(self) -> Access:
        """Ask for a new token."""
        headers = {"X-Auth-User": self._settings.username, "X-Auth-Key": self._secret}
        try:
            async with (
                asyncio.timeout(self._settings.timeout_s),
                self._http.get(self._settings.auth_url, headers=headers, allow_redirects=False) as answer,
            ):
                status, told = answer.status, dict(answer.headers)
        except TimeoutError as exc:
            raise StoreTimeoutError(f"store {self._store!r}: no token was given in time") from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise StoreUnavailableError(f"store {self._store!r}: no token was given ({type(exc).__name__})") from exc
        if status in (401, 403):
            raise StoreAccessDeniedError(f"store {self._store!r}: the user or the key is not known")
        if status not in (200, 204):
            raise StoreUnavailableError(f"store {self._store!r}: signing in was answered with {status}")
        return _sound(self._store, told.get("X-Auth-Token", ""), told.get("X-Storage-Url", ""))

    def close(self) -> None:
        """The session is the store's."""


class KeystoneSignIn:
    """Version 3 of Keystone, with a password or an application credential, in a thread."""

    def __init__(self, store: str, settings: SwiftStoreSettings, secret: str) -> None:
        self._store = store
        self._settings = settings
        self._http = bounded_session(settings.timeout_s)
        self._auth = keystone_plugin(settings, secret)
        self._session = Session(
            self._auth,
            self._http,
            verify=True if settings.ca_file is None else str(settings.ca_file),
            timeout=settings.timeout_s,
            redirect=False,  # a password goes to nobody else
        )
        self._threads = ThreadPoolExecutor(2, thread_name_prefix=f"store-{store}-keystone")

    async def __call__(self) -> Access:
        """Ask for a new token."""
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._sign_in)
        except TimeoutError as exc:
            raise StoreTimeoutError(f"store {self._store!r}: Keystone did not answer in time") from exc

    def close(self) -> None:
        """A call that still waits ends by its own deadline."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._http.close()

    def _sign_in(self) -> Access:
        try:
            self._auth.invalidate()
            token = self._session.get_token()
            url = self._settings.storage_url or self._session.get_endpoint(
                service_type="object-store",
                interface=self._settings.interface,
                region_name=self._settings.region or None,
            )
        except (keystone_errors.Unauthorized, keystone_errors.Forbidden) as exc:
            raise StoreAccessDeniedError(f"store {self._store!r}: Keystone does not let the user in") from exc
        except keystone_errors.CatalogException as exc:
            raise self._not_in_catalog() from exc
        except (keystone_errors.ConnectTimeout, requests.Timeout) as exc:
            raise StoreTimeoutError(f"store {self._store!r}: Keystone did not answer in time") from exc
        except (
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
            raise StoreUnavailableError(
                f"store {self._store!r}: Keystone does not answer as it should ({type(exc).__name__})"
            ) from exc
        if not url:
            raise self._not_in_catalog()
        return _sound(self._store, token or "", url)

    def _not_in_catalog(self) -> StoreMissingError:
        return StoreMissingError(f"store {self._store!r}: Keystone's catalog has no object store for the user")


def credentials(store: str, settings: SwiftStoreSettings, http: aiohttp.ClientSession) -> Credentials:
    """As the settings say.

    Raises:
        ConfigurationError: the file of the password cannot be used.
        KeyPermissionsError: others may read it.
    """
    secret = secret_of(store, "password_file", settings.password_file)
    sign_in: SignIn = (
        SwiftSignIn(store, settings, http, secret) if settings.auth == "v1" else KeystoneSignIn(store, settings, secret)
    )
    return Credentials(sign_in, settings.storage_url)


def secret_of(store: str, setting: str, path: Path) -> str:
    """What the file has in its one line.

    Raises:
        ConfigurationError: it cannot be read.
        KeyPermissionsError: others may read it.
    """
    try:
        return read_secret(path)
    except OSError as exc:
        raise ConfigurationError(f"stores.{store}.{setting}: {path} cannot be read: {exc.strerror}") from exc


def authorities(store: str, ca_file: Path | None) -> ssl.SSLContext:
    """Whom TLS trusts.

    Raises:
        ConfigurationError: the file has no certificates.
    """
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as exc:
        raise ConfigurationError(f"stores.{store}.ca_file: {ca_file} is not a file of authorities in PEM") from exc


def _sound(store: str, token: str, url: str) -> Access:
    parts = urlsplit(url)
    is_url = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.username
    if not (0 < len(token) <= _TOKEN_MAX and token.isascii() and token.isprintable() and is_url):
        raise StoreUnavailableError(f"store {store!r}: signing in was not answered with a token and an account's URL")
    return Access(token, url.rstrip("/"))
