"""Cinder's API over a signed-in session: blocking, bounded, and with its refusals in the domain's words."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests
from keystoneauth1 import exceptions as keystone_errors
from keystoneauth1.adapter import Adapter
from keystoneauth1.plugin import BaseAuthPlugin
from keystoneauth1.session import Session

from tintype.adapters.cinder.settings import CinderStoreSettings
from tintype.domain.errors import (
    BlobNotFoundError,
    ConfigurationError,
    StoreAccessDeniedError,
    StoreBusyError,
    StoreMissingError,
    StoreQuotaExceededError,
    StoreTimeoutError,
    StoreUnavailableError,
    TintypeError,
)
from tintype.runtime.bounded_http import bounded_session
from tintype.runtime.keystone import keystone_plugin
from tintype.trust.private_files import read_secret

MICROVERSION = "3.54"
"""Attachments with a mode; extending attached volumes (3.42) is older."""

_SAID_CHARACTERS = 200


class StateConflictError(StoreBusyError):
    """Cinder refuses the call in the state that the volume is in now (400, 409)."""


class CinderClient:
    """One session; its methods block for at most ``timeout_s`` each."""

    def __init__(self, name: str, settings: CinderStoreSettings) -> None:
        """For the store called ``name``.

        Raises:
            ConfigurationError: a file that the settings name cannot be used.
        """
        self._name = name
        self._http = bounded_session(settings.timeout_s)
        session = Session(
            _credentials(name, settings),
            self._http,
            verify=_authorities(name, settings.ca_file),
            timeout=settings.timeout_s,
            redirect=False,  # a token goes to nobody else
        )
        self._adapter = Adapter(
            session,
            service_type="block-storage",
            interface=settings.interface,
            region_name=settings.region or None,
            endpoint_override=_endpoint(settings),
            default_microversion=MICROVERSION,
        )

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """Ask, and read the answer, an empty one as ``{}``.

        Raises:
            BlobNotFoundError: what the path names is not there.
            StateConflictError: not in the state that the volume is in.
            StoreUnavailableError, StoreFullError: each of Cinder's refusals as the subclass that it is.
        """
        try:
            answer = self._adapter.request(path, method, **({} if body is None else {"json": body}))
            found = answer.json() if answer.content else {}
        except keystone_errors.HttpError as exc:
            raise self._refusal(exc) from exc
        except (keystone_errors.ConnectTimeout, requests.Timeout) as exc:
            raise StoreTimeoutError(f"store {self._name!r}: Cinder did not answer in time") from exc
        except (keystone_errors.ClientException, requests.RequestException, OSError, ValueError, RecursionError) as exc:
            raise StoreUnavailableError(
                f"store {self._name!r}: Cinder or Keystone did not answer ({type(exc).__name__})"
            ) from exc
        if not isinstance(found, Mapping):
            raise StoreUnavailableError(f"store {self._name!r}: Cinder's answer is not understood")
        return found

    def close(self) -> None:
        """End its connections."""
        self._http.close()

    def _refusal(self, error: keystone_errors.HttpError) -> TintypeError:
        status = error.http_status or 0
        reason = _reason(error)
        said = f"store {self._name!r}: Cinder answered {status}: {_printable(reason)}"
        match status:
            case 401 | 403:
                return StoreAccessDeniedError(said)
            case 404:
                is_type = "volume type" in reason.lower()
                return StoreMissingError(said) if is_type else BlobNotFoundError(said)
            case 400 | 409:
                return StateConflictError(said)
            case 406:
                return StoreUnavailableError(f"store {self._name!r}: Cinder does not know version {MICROVERSION}")
            case 413:
                return StoreQuotaExceededError(said)
            case 429:
                return StoreBusyError(said)
            case 408 | 504:
                return StoreTimeoutError(said)
            case _:
                return StoreUnavailableError(said)


class _NoKeystone(BaseAuthPlugin):
    """What a Cinder with ``auth_strategy = noauth`` is told."""

    def __init__(self, project: str) -> None:
        super().__init__()
        self._project = project

    def get_headers(self, session: Session) -> dict[str, str]:
        return {"X-Auth-Token": f"tintype:{self._project}"}


def _endpoint(settings: CinderStoreSettings) -> str | None:
    if settings.endpoint and not settings.auth_url:
        return f"{settings.endpoint}/{settings.project}"
    return settings.endpoint or None


def _credentials(name: str, settings: CinderStoreSettings) -> BaseAuthPlugin:
    if settings.password_file is None:
        return _NoKeystone(settings.project)
    try:
        password = read_secret(settings.password_file)
    except OSError as exc:
        raise ConfigurationError(
            f"stores.{name}.password_file: {settings.password_file} cannot be read: {exc.strerror}"
        ) from exc
    return keystone_plugin(settings, password)


def _authorities(name: str, ca_file: Path | None) -> str | bool:
    if ca_file is None:
        return True
    try:
        ssl.create_default_context(cafile=str(ca_file))
    except OSError as exc:
        raise ConfigurationError(f"stores.{name}.ca_file: {ca_file} is not a file of authorities in PEM") from exc
    return str(ca_file)


def _reason(error: keystone_errors.HttpError) -> str:
    """Cinder's own sentence, ``{"badRequest": {"message": …}}``, which keystoneauth does not know."""
    try:
        found = error.response.json() if error.response is not None else {}
    except (ValueError, RecursionError):
        found = {}
    for part in found.values() if isinstance(found, Mapping) else ():
        if isinstance(part, Mapping) and isinstance(part.get("message"), str):
            return str(part["message"])
    return str(error.message)


def _printable(said: object) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in str(said)[:_SAID_CHARACTERS])
