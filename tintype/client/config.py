"""Where the services are, and on whose behalf to call them."""

from __future__ import annotations

import getpass
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from tintype.client.addresses import is_loopback, is_loopback_url
from tintype.client.errors import ConfigurationError

ENVIRONMENT_VARIABLE = "TINTYPE_CONFIG"
TOKEN_VARIABLE = "TINTYPE_TOKEN"
_SERVICES = ("catalog", "importer", "converter", "signer", "endpoint")
_SECRETS = ("key", "token_file", "nats_credentials")
_PATHS = ("trust_store", "ca", "certificate", "key", "token_file", "nats_credentials")

_WORKING_DIRECTORY = (Path("client.toml"), Path("tintype-data/client.toml"))


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """Endpoints, project and patience of one client."""

    catalog: str = ""
    """``HOST:PORT`` of the catalog's gRPC server, or ``ipv4:HOST:PORT,HOST:PORT`` of its replicas."""

    importer: str = ""
    """``HOST:PORT`` of the importer; needed for uploads and downloads."""

    converter: str = ""
    """``HOST:PORT`` of the converter; needed to tell its status."""

    signer: str = ""
    """``HOST:PORT`` of the signer; needed for signing, keys and policies."""

    endpoint: str = ""
    """``HOST:PORT`` behind which all services are; stands for those that are not named by themselves."""

    tls: bool = False
    """Whether calls are encrypted; a ``ca`` says so too."""

    ca: str = ""
    """A PEM file with the CAs to trust; empty is gRPC's own list of public ones. Relative to the file that names it, as
    are those below."""

    certificate: str = ""
    """A PEM file with the certificate to show, where services or NATS ask for one."""

    key: str = ""
    """The private key of ``certificate``."""

    token: str = field(default="", repr=False)
    """Who one is, proven; ``$TINTYPE_TOKEN`` and ``token_file`` say it too."""

    token_file: str = ""
    """A file with the token, read for every call: it may change."""

    nats: str = ""
    """``nats://`` or ``tls://HOST:PORT`` of the log; needed to subscribe to events, to check the log, for backups."""

    nats_credentials: str = ""
    """A file with NATS' own credentials."""

    project: str = "default"
    """The tenant on whose behalf calls are made."""

    actor: str = ""
    """Who makes them, as the log shall tell; empty is the name of the operating system's user."""

    admin: bool = False
    """Speak as an administrator, who sees every project's images; the admin's own commands do so by themselves."""

    trust_store: str = ""
    """A directory of whom to trust when downloads are verified, relative to the file that names it; empty is whom the
    signer names."""

    timeout_s: float = 30.0
    """How long one attempt of a unary call may take."""

    retry_s: float = 15.0
    """For how long a call that may be repeated is, while its service does not answer."""

    stall_timeout_s: float = 120.0
    """How long a stream of bytes may stand still before it is begun anew."""

    resume_attempts: int = 8
    """How often in a row an upload or download may break without a byte of progress."""

    @property
    def is_encrypted(self) -> bool:
        """Whether calls go over TLS."""
        return self.tls or bool(self.ca)

    def address(self, service: str) -> str:
        """Where a service is; empty where the configuration does not say."""
        return str(getattr(self, service)) or self.endpoint


def load_config(path: Path | str | None = None, *, project: str | None = None) -> ClientConfig:
    """Read the configuration: ``path``, else ``$TINTYPE_CONFIG``, else the first of the usual places that exists.

    The usual places are ``client.toml`` and ``tintype-data/client.toml`` in the working directory, and
    ``~/.config/tintype/client.toml``. ``project`` wins over the file's.

    Raises:
        ConfigurationError: there is none, or it is not as it should be.
    """
    found = Path(path) if path else _find()
    try:
        table = tomllib.loads(found.read_text(encoding="utf-8")).get("client")
    except OSError as exc:
        raise ConfigurationError(f"{found} cannot be read: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{found} is not TOML: {exc}") from exc
    if not isinstance(table, dict):
        raise ConfigurationError(f"{found} has no section [client]")
    values = _checked(found, table)
    for name in _PATHS:
        if values.get(name):
            values[name] = str(found.parent / Path(str(values[name])).expanduser())
    if found in _WORKING_DIRECTORY and path is None and not os.environ.get(ENVIRONMENT_VARIABLE):
        _require_nothing_of_others(found, values)
    if token := os.environ.get(TOKEN_VARIABLE):
        values.update(token=token, token_file="")
    if project:
        values["project"] = project
    return ClientConfig(**values)  # type: ignore[arg-type]


def _find() -> Path:
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        return Path(named)
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    places = (*_WORKING_DIRECTORY, home / "tintype/client.toml")
    for place in places:
        if place.is_file():
            return place
    raise ConfigurationError(f"no configuration: none of {', '.join(str(place) for place in places)} exists")


def _require_nothing_of_others(found: Path, values: Mapping[str, object]) -> None:
    """A file that is used because it lies where one happens to be may be anybody's, and say where a token is sent.

    It has its own secrets, beside it; the user's are for files that the user named, and for services of this machine.
    """
    are_services_here = all(is_loopback(str(values[name])) for name in _SERVICES if values.get(name))
    is_log_here = all(is_loopback_url(url) for url in str(values.get("nats", "")).split(",") if url)
    if are_services_here and is_log_here:
        return
    named = f"name the file, by --config or {ENVIRONMENT_VARIABLE}, if it is to be trusted with that"
    if os.environ.get(TOKEN_VARIABLE) and not are_services_here:
        raise ConfigurationError(
            f"{found} of the working directory is not given the token of {TOKEN_VARIABLE}: {named}"
        )
    beside = found.parent.resolve()
    for name in _SECRETS:
        if values.get(name) and not Path(str(values[name])).resolve().is_relative_to(beside):
            raise ConfigurationError(f"{found} of the working directory takes client.{name} from elsewhere: {named}")


def _checked(path: Path, table: Mapping[str, object]) -> dict[str, object]:
    known = {setting.name: setting for setting in fields(ClientConfig)}
    values: dict[str, object] = {}
    for key, value in table.items():
        # A newer service may write keys that this client does not know: they are no error.
        if key not in known:
            continue
        kind = str(known[key].type)
        wanted = {"str": (str,), "float": (int, float), "int": (int,), "bool": (bool,)}[kind]
        if not isinstance(value, wanted) or isinstance(value, bool) != (kind == "bool"):
            raise ConfigurationError(f"{path}: client.{key} must be of type {kind}")
        values[key] = value
    if not values.get("catalog") and not values.get("endpoint"):
        raise ConfigurationError(f"{path}: client.catalog is missing, and so is client.endpoint")
    if bool(values.get("certificate")) is not bool(values.get("key")):
        raise ConfigurationError(f"{path}: client.certificate and client.key belong together")
    if values.get("token") and values.get("token_file"):
        raise ConfigurationError(f"{path}: client.token and client.token_file are both set")
    return values


def current_user() -> str:
    """The name of the operating system's user."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
