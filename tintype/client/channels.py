"""Connections to the services and to NATS: encrypted where the configuration says so, with whom to trust and to be."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from tintype.client.addresses import is_loopback
from tintype.client.config import ClientConfig
from tintype.client.errors import ConfigurationError
from tintype.codec.call_metadata import TOKEN_KEY
from tintype.codec.framing import MAX_MESSAGE_SIZE

MAX_FILE_BYTES = 1024 * 1024

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", 16 * MAX_MESSAGE_SIZE),
    # A service that was restarted is found again at once, not after gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A watch that nothing happens on waits for ever, unless somebody asks whether the service is still there.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)


def open_channel(target: str, config: ClientConfig) -> grpc.aio.Channel:
    """A channel to ``HOST:PORT``, or to the replicas that a host's name, or ``ipv4:HOST:PORT,HOST:PORT``, stands for.

    Raises:
        ConfigurationError: a file cannot be read, or a token would go over the network unencrypted.
    """
    # Each call goes to the next of several replicas, and past one that is away.
    options: list[tuple[str, Any]] = [*_OPTIONS, ("grpc.lb_policy_name", "round_robin")]
    is_local = is_loopback(target)
    if is_local:
        # A proxy that the environment names cannot know this machine's loopback.
        options.append(("grpc.enable_http_proxy", 0))
    if config.is_encrypted:
        return grpc.aio.secure_channel(target, _credentials(config), options=options)
    if not is_local and (config.token or config.token_file):
        raise ConfigurationError(f"a token is not sent to {target} unencrypted: set client.tls or client.ca")
    return grpc.aio.insecure_channel(target, options=options)


def token_metadata(config: ClientConfig) -> tuple[tuple[str, str], ...]:
    """What proves who calls; nothing where the configuration has no token.

    Raises:
        ConfigurationError: its file cannot be read, or holds none.
    """
    token = config.token
    if config.token_file:
        token = _read("client.token_file", config.token_file).decode("ascii", "replace").strip()
        if not token:
            raise ConfigurationError(f"client.token_file: {config.token_file} is empty")
    if not token:
        return ()
    if not all("!" <= character <= "~" for character in token):
        raise ConfigurationError("the token must be one word of printable ASCII characters")
    return ((TOKEN_KEY, f"Bearer {token}"),)


def nats_context(config: ClientConfig) -> ssl.SSLContext | None:
    """How NATS is trusted, and who one is to it; ``None`` for a connection that is not encrypted.

    Raises:
        ConfigurationError: a file cannot be used.
    """
    if not any(url.strip().startswith("tls://") for url in config.nats.split(",")):
        return None
    try:
        context = ssl.create_default_context(cafile=config.ca or None)
        if config.certificate:
            context.load_cert_chain(config.certificate, config.key)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigurationError(f"the certificates for NATS cannot be used: {exc}") from exc
    return context


def _credentials(config: ClientConfig) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=_read("client.ca", config.ca) if config.ca else None,
        private_key=_read("client.key", config.key) if config.key else None,
        certificate_chain=_read("client.certificate", config.certificate) if config.certificate else None,
    )


def _read(setting: str, path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise ConfigurationError(f"{setting}: {path} cannot be read: {exc.strerror}") from exc
    if len(content) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{setting}: {path} is larger than {MAX_FILE_BYTES} bytes")
    return content
