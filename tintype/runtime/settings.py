"""Settings: what they are, and how the environment and a TOML file become one frozen object.

Read once, in ``main()``; below it, only the frozen object is passed on. The environment wins over the file:
``TINTYPE_<SECTION>__<SETTING>`` over ``setting`` in ``[section]``. A list is an array in TOML, and comma-separated in
the environment. Between the two stands a directory with a file for each secret, named like its variable
(:mod:`tintype.runtime.secret_files`). The TOML file is shared by all services, so a service skips the sections of
others; within the sections that it reads, an unknown name is an error.

A service's own section derives from :class:`ServiceSettings`, and its settings from :class:`Settings` (or
:class:`~tintype.adapters.store_settings.StoreUserSettings`), with one field per section; the field of its own section
bears the service's name.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from tintype.domain.errors import ConfigurationError
from tintype.runtime.bounded_file import read_bounded
from tintype.runtime.secret_files import SecretFiles, secret_names
from tintype.runtime.worker import WorkerSettings

ENV_PREFIX = "TINTYPE_"
MAX_FILE_BYTES = 1024 * 1024
KIND_TAG = "type="
"""How the tags begin by which tables of several kinds are told apart; they are no part of a setting's name."""

KNOWN_SECTIONS = frozenset(
    {"catalog", "importer", "converter", "signer", "gateway", "nats", "stores", "log", "tls", "auth", "telemetry"}
)


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


CommaSeparated = Annotated[tuple[str, ...], BeforeValidator(_split)]
"""A list of strings: an array in TOML, comma-separated in the environment."""


class Section(BaseModel):
    """One table of the file. Frozen; a name that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True)


class LogSettings(Section):
    """How a service logs."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severe level to log."
    )
    format: Literal["json", "console"] = Field(
        default="json", description="One JSON object per line, or lines for people to read."
    )


def _is_nats_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_place = bool(parts.hostname) and parts.port != 0  # a port that is none raises
    except ValueError:
        return False
    return parts.scheme in ("nats", "tls") and has_place and parts.path in ("", "/")


class NatsSettings(Section):
    """Where the event log is."""

    url: str = Field(
        default="nats://127.0.0.1:4222",
        description="Server URLs, comma-separated: nats://HOST:PORT or tls://HOST:PORT.",
        repr=False,  # it may hold a password
    )
    connect_timeout_s: float = Field(default=5.0, gt=0, le=120, description="Seconds to wait for a connection.")
    replicas: int = Field(default=1, ge=1, le=5, description="Copies of the log in a NATS cluster; 3 in production.")
    credentials_file: Path | None = Field(default=None, description="The file with the user's NATS credentials (JWT).")

    @field_validator("url")
    @classmethod
    def _is_of_nats(cls, urls: str) -> str:
        for url in urls.split(","):
            if not _is_nats_url(url.strip()):
                # Its text may hold a password, and stays out of what is told.
                raise ValueError("must be nats://HOST:PORT or tls://HOST:PORT, or several with commas between them")
        return urls


class TlsSettings(Section):
    """Certificates, as PEM files. They are read again when they change."""

    certificate: Path | None = Field(
        default=None,
        description="The service's certificate and those between it and its CA: for callers, NATS and PostgreSQL.",
    )
    key: Path | None = Field(default=None, description="The private key of the certificate.")
    ca: Path | None = Field(
        default=None, description="Certificates of the CAs of NATS and PostgreSQL; unset is the system's."
    )
    client_ca: Path | None = Field(
        default=None, description="Certificates of CAs; set, every caller has to show a certificate of one of them."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> TlsSettings:
        if (self.certificate is None) is not (self.key is None):
            raise ValueError("certificate and key belong together: set both, or neither")
        if self.client_ca is not None and self.certificate is None:
            raise ValueError("client_ca needs certificate and key: callers cannot be asked without")
        return self


class AuthSettings(Section):
    """How callers prove who they are."""

    tokens_file: Path | None = Field(
        default=None,
        description="TOML file of the tokens that callers may show; unset, they are who they say they are.",
    )


class TelemetrySettings(Section):
    """Where traces go."""

    traces_endpoint: str = Field(
        default="",
        description="Collector of traces: http://HOST:PORT or https:// for OTLP over gRPC, with a path (/v1/traces) "
        "for OTLP over HTTP; empty is none.",
    )
    traces_sample_ratio: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share that is kept of the traces that begin here.",
    )

    @field_validator("traces_endpoint")
    @classmethod
    def _is_url_or_empty(cls, endpoint: str) -> str:
        if endpoint:
            _require_collector(endpoint)
        return endpoint


class ServiceSettings(Section):
    """What every service can be told, in its own section."""

    listen: str = Field(
        default="127.0.0.1:0", description="HOST:PORT to listen on for gRPC; port 0 takes any free one."
    )
    health_listen: str = Field(
        default="", description="HOST:PORT that answers gRPC health and nothing else, in plain text; empty is none."
    )
    metrics_listen: str = Field(
        default="", description="HOST:PORT that serves /metrics, /livez and /readyz over HTTP; empty is none."
    )
    unsafe_plaintext: bool = Field(
        default=False,
        description="Listen on other addresses than loopback without TLS, or without knowing who calls.",
    )
    drain_s: float = Field(
        default=10.0, ge=0, le=3600, description="Seconds that running calls may take to end on SIGTERM."
    )
    concurrency: int = Field(
        default=4, ge=1, le=256, description="Steps of different images that are worked on at once."
    )
    lease_s: float = Field(
        default=10.0, ge=1, le=3600, description="Seconds of silence after which another replica takes a step over."
    )
    max_attempts: int = Field(default=5, ge=1, le=100, description="How often a step is begun before it is failed.")

    @field_validator("listen")
    @classmethod
    def _is_address(cls, listen: str) -> str:
        _host_of(listen)
        return listen

    @field_validator("health_listen", "metrics_listen")
    @classmethod
    def _is_address_or_empty(cls, listen: str) -> str:
        if listen:
            _host_of(listen)
        return listen

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine can call."""
        return _is_loopback(_host_of(self.listen))

    @property
    def worker(self) -> WorkerSettings:
        """The part that a worker takes."""
        return WorkerSettings(self.concurrency, self.lease_s, self.max_attempts)


class Settings(BaseSettings):
    """The sections that every service reads; a service adds its own."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        enable_decoding=False,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        validate_default=True,
    )

    log: LogSettings = LogSettings()
    nats: NatsSettings = NatsSettings()
    tls: TlsSettings = TlsSettings()
    auth: AuthSettings = AuthSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @model_validator(mode="after")
    def _is_safe(self) -> Settings:
        """Nobody is served beyond loopback unencrypted or unknown, unless the operator says so."""
        missing = [
            *([] if self.tls.certificate else ["TLS (tls.certificate and tls.key)"]),
            *([] if self.auth.tokens_file else ["authentication (auth.tokens_file)"]),
        ]
        for name in type(self).model_fields:
            section = getattr(self, name)
            is_bound = isinstance(section, ServiceSettings) and not section.unsafe_plaintext and not section.is_loopback
            if missing and is_bound:
                are = "is" if len(missing) == 1 else "are"
                raise ValueError(
                    f"{name}.listen: {section.listen} is not loopback, and {' and '.join(missing)} "
                    f"{are} missing; {name}.unsafe_plaintext listens there nevertheless"
                )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment over secrets in files, and both over what :func:`load` read from the settings' file."""
        return env_settings, SecretFiles(settings_cls), init_settings


S = TypeVar("S", bound=Settings)


def load(settings_class: type[S], config: Path | None) -> S:
    """Read the environment and, where given, the TOML file.

    Raises:
        ConfigurationError: in one line, which setting is wrong, and why.
    """
    content = read_toml(config) if config else {}
    _require_known_sections(content, f"in {config}")
    _require_known_sections(_sections(os.environ), "in the environment")
    _require_known_sections(_sections(secret_names()), "among the secrets")
    try:
        return settings_class(**{name: content[name] for name in settings_class.model_fields if name in content})
    except ValidationError as exc:
        raise ConfigurationError("; ".join(_explain(error["loc"], error["msg"]) for error in exc.errors())) from None


def _sections(variables: Iterable[str]) -> Iterable[str]:
    names = (name.upper() for name in variables if name.upper().startswith(ENV_PREFIX) and "__" in name)
    return (name.removeprefix(ENV_PREFIX).partition("__")[0].lower() for name in names)


def _require_known_sections(names: Iterable[str], where: str) -> None:
    unknown = sorted(set(names) - KNOWN_SECTIONS)
    if unknown:
        raise ConfigurationError(f"no such section {where}: {', '.join(unknown)[:200]}")


def read_toml(config: Path) -> dict[str, Any]:
    """The tables of a settings file.

    Raises:
        ConfigurationError: it cannot be read, is too large, or is not TOML.
    """
    content = read_bounded(config, MAX_FILE_BYTES)
    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ConfigurationError(f"{config} is not TOML: {' '.join(str(exc).split())[:200]}") from exc


def _explain(location: tuple[int | str, ...], message: str) -> str:
    path = [str(part) for part in location if not str(part).startswith(KIND_TAG)]
    text = " ".join(message.removeprefix("Value error, ").split())
    if text == "Extra inputs are not permitted":
        text = "no such setting"
    variable = ENV_PREFIX + "__".join(path).upper()
    source = f" (from {variable})" if any(name.upper() == variable for name in (*os.environ, *secret_names())) else ""
    return f"{'.'.join(path)}: {text}{source}" if path else text


def _require_collector(endpoint: str) -> None:
    complaint = "it is not http://HOST:PORT or https://HOST:PORT, with or without a path"
    try:
        url = urlsplit(endpoint)
        is_server = url.scheme in ("http", "https") and bool(url.hostname) and url.port is not None
    except ValueError:
        raise ValueError(complaint) from None
    if not is_server or "@" in url.netloc or url.query or url.fragment:
        raise ValueError(complaint)


def _host_of(listen: str) -> str:
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"listen address {listen[:80]!r} is not HOST:PORT")
    return host.removeprefix("[").removesuffix("]")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
