"""The client library, set up: its deadlines on, its own retries off, every request's body under the signature."""

from __future__ import annotations

from typing import Any

import botocore.session
from botocore import UNSIGNED
from botocore.config import Config

from tintype.adapters.s3.bounded_answers import BoundedAnswers
from tintype.adapters.s3.settings import S3StoreSettings
from tintype.domain.errors import ConfigurationError

_SECRET_MAX = 4096


def new_client(name: str, settings: S3StoreSettings, *, is_anonymous: bool = False) -> Any:
    """A client of the server that ``settings`` name; its methods can be called from any thread.

    Raises:
        ConfigurationError: the secret's file or the certificates cannot be read.
    """
    addressing = settings.addressing
    if addressing == "auto" and settings.endpoint_url:
        addressing = "path"
    config = Config(
        # The signature covers the SHA-256 of the body, which every server must verify: what is damaged on its way is
        # refused. Servers take or leave checksums of other kinds as they like.
        signature_version=UNSIGNED if is_anonymous else "s3v4",
        s3={"addressing_style": addressing, "payload_signing_enabled": True},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=settings.timeout_s,
        read_timeout=settings.timeout_s,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=settings.connections,
    )
    secret = _secret(name, settings)
    if settings.ca_file is not None and not settings.ca_file.is_file():
        raise ConfigurationError(f"stores.{name}: ca_file is not there")
    client = botocore.session.get_session().create_client(
        "s3",
        region_name=settings.region,
        endpoint_url=settings.endpoint_url or None,
        aws_access_key_id=settings.access_key_id or None,
        aws_secret_access_key=secret or None,
        verify=str(settings.ca_file) if settings.ca_file else None,
        config=config,
    )
    endpoint = client._endpoint  # the library has no other place for a session of one's own
    endpoint.http_session = BoundedAnswers(endpoint.http_session)
    return client


def _secret(name: str, settings: S3StoreSettings) -> str:
    if settings.secret_access_key_file is None:
        return settings.secret_access_key.get_secret_value()
    try:
        with settings.secret_access_key_file.open("rb") as file:
            secret = file.read(_SECRET_MAX).decode("ascii").strip()
    except (OSError, ValueError):
        raise ConfigurationError(f"stores.{name}: secret_access_key_file cannot be read") from None
    if not secret:
        raise ConfigurationError(f"stores.{name}: secret_access_key_file is empty")
    return secret
