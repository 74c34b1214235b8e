"""Settings: what they are, and how the environment and a TOML file become one frozen object.

Read once, in ``main()``; below it, only the frozen object is passed on. The environment wins over the file:
``TINTYPE_<SECTION>__<SETTING>`` over ``setting`` in ``[section]``. A list is an array in TOML, and comma-separated in
the environment. The file is shared by all services, so a service skips the sections of others; within the sections that
it reads, an unknown name is an error.

A service's own section derives from :class:`ServiceSettings`, and its settings from :class:`Settings` (or
:class:`~tintype.adapters.store_settings.StoreUserSettings`), with one field per section; the field of its own section
bears the service's name.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from tintype.domain.errors import ConfigurationError
from tintype.runtime.worker import WorkerSettings

ENV_PREFIX = "TINTYPE_"
MAX_FILE_BYTES = 1024 * 1024
KIND_TAG = "type="
"""How the tags begin by which tables of several kinds are told apart; they are no part of a setting's name."""

KNOWN_SECTIONS = frozenset({"catalog", "importer", "converter", "signer", "gateway", "nats", "stores", "log"})


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


class NatsSettings(Section):
    """Where the event log is."""

    url: str = Field(
        default="nats://127.0.0.1:4222",
        description="Server URLs, comma-separated: nats://HOST:PORT or tls://HOST:PORT.",
        repr=False,  # it may hold a password
    )
    connect_timeout_s: float = Field(default=5.0, gt=0, le=120, description="Seconds to wait for a connection.")
    replicas: int = Field(default=1, ge=1, le=5, description="Copies of the log in a NATS cluster; 3 in production.")


class ServiceSettings(Section):
    """What every service can be told, in its own section."""

    listen: str = Field(
        default="127.0.0.1:0", description="HOST:PORT to listen on for gRPC; port 0 takes any free one."
    )
    unsafe_plaintext: bool = Field(
        default=False,
        description="Listen on other addresses than loopback, without encryption and without knowing who calls.",
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

    @model_validator(mode="after")
    def _is_loopback_or_declared_unsafe(self) -> ServiceSettings:
        host = _host_of(self.listen)
        if not self.unsafe_plaintext and not _is_loopback(host):
            raise ValueError(
                f"listen address {self.listen} is not loopback: callers are not authenticated yet; "
                "set unsafe_plaintext to listen there nevertheless"
            )
        return self

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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment over what :func:`load` read from the file."""
        return env_settings, init_settings


S = TypeVar("S", bound=Settings)


def load(settings_class: type[S], config: Path | None) -> S:
    """Read the environment and, where given, the TOML file.

    Raises:
        ConfigurationError: in one line, which setting is wrong, and why.
    """
    content = _read(config) if config else {}
    _require_known_sections(content, f"in {config}")
    variables = (name.upper() for name in os.environ if name.upper().startswith(ENV_PREFIX) and "__" in name)
    _require_known_sections(
        (name.removeprefix(ENV_PREFIX).partition("__")[0].lower() for name in variables), "in the environment"
    )
    try:
        return settings_class(**{name: content[name] for name in settings_class.model_fields if name in content})
    except ValidationError as exc:
        raise ConfigurationError("; ".join(_explain(error["loc"], error["msg"]) for error in exc.errors())) from None


def describe(settings_class: type[Settings]) -> str:
    """Every setting: its TOML name, its environment variable, type, default and meaning."""
    lines: list[str] = []
    for path, settings in _tables(settings_class):
        lines.append(f"[{'.'.join(path)}]")
        for name, setting in settings.items():
            variable = ENV_PREFIX + "__".join((*path, name)).upper()
            lines += [f"  {name} ({_type_name(setting.annotation)}; {_default(setting)})", f"      {variable}"]
            lines.append(f"      {setting.description}")
        lines.append("")
    return "\n".join(lines)


def settings_of(settings_class: type[Settings]) -> Iterator[tuple[str, FieldInfo]]:
    """Yield ``section.setting`` and its definition for every setting."""
    for path, settings in _tables(settings_class):
        for name, setting in settings.items():
            yield ".".join((*path, name)), setting


def _require_known_sections(names: Iterable[str], where: str) -> None:
    unknown = sorted(set(names) - KNOWN_SECTIONS)
    if unknown:
        raise ConfigurationError(f"no such section {where}: {', '.join(unknown)[:200]}")


def _read(config: Path) -> dict[str, Any]:
    try:
        with config.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ConfigurationError(f"{config} is larger than {MAX_FILE_BYTES} bytes")
        return tomllib.loads(content.decode())
    except OSError as exc:
        raise ConfigurationError(f"{config} cannot be read: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ConfigurationError(f"{config} is not TOML: {' '.join(str(exc).split())[:200]}") from exc


def _explain(location: tuple[int | str, ...], message: str) -> str:
    path = [str(part) for part in location if not str(part).startswith(KIND_TAG)]
    text = " ".join(message.removeprefix("Value error, ").split())
    if text == "Extra inputs are not permitted":
        text = "no such setting"
    variable = ENV_PREFIX + "__".join(path).upper()
    source = f" (from {variable})" if any(name.upper() == variable for name in os.environ) else ""
    return f"{'.'.join(path)}: {text}{source}"


def _tables(
    model: type[BaseModel], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, FieldInfo]]]:
    """Every table of the file with what is set in it, then the tables within it; users choose each ``NAME``."""
    within = {name: kinds for name, field in model.model_fields.items() if (kinds := _kinds_of(field.annotation))}
    if path:
        yield path, {name: field for name, field in model.model_fields.items() if name not in within}
    for name, kinds in within.items():
        is_named = get_origin(model.model_fields[name].annotation) is Mapping
        for kind in kinds:
            yield from _tables(kind, (*path, name, "NAME") if is_named else (*path, name))


def _kinds_of(annotation: Any) -> tuple[type[BaseModel], ...]:
    """The models that a table, or each of several with names, may be of; none for a plain setting."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    if get_origin(annotation) is Mapping:
        return _kinds_of(get_args(annotation)[1])
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return tuple(kind for option in get_args(annotation) for kind in _kinds_of(option))
    return ()


def _type_name(annotation: Any) -> str:
    options = get_args(annotation)
    if get_origin(annotation) is Literal:
        return " or ".join(map(str, options))
    if get_origin(annotation) is Annotated:
        return _type_name(options[0])
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(map(_type_name, options))
    if get_origin(annotation) is dict:
        return "table"
    return _TYPE_NAMES[annotation]


_TYPE_NAMES: Mapping[object, str] = {
    tuple[str, ...]: "list",
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Path: "path",
    SecretStr: "text",
    NoneType: "unset",
}


def _default(setting: FieldInfo) -> str:
    if setting.is_required():
        return "required"
    default = setting.get_default(call_default_factory=True)
    if isinstance(default, dict):
        default = ",".join(f"{key}={value}" for key, value in default.items())
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    if isinstance(default, bool):
        default = str(default).lower()
    if default is None:
        return "default unset"
    return f"default {'empty' if default == '' else default}"


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
