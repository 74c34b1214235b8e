"""The settings of an embedded stack: what an operator says, and defaults for all that has to be said."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from tintype.domain.errors import ConfigurationError
from tintype.embedded.directory import LOOPBACK, StackDirectory
from tintype.embedded.encryption import Encryption
from tintype.runtime.settings import KNOWN_SECTIONS, read_toml

SERVICES = ("catalog", "importer", "converter", "signer")
NATS = "nats"
DRAIN_S = 3.0
ENCRYPTED = ("tls", "auth")
"""The sections of the settings that ``--tls`` writes, and nobody else."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class StackSettings:
    """What the processes of a stack are started with; ``environment`` is handed to each service."""

    file: str
    environment: Mapping[str, str]
    endpoints: Mapping[str, str]
    encryption: Encryption | None = None

    def client_file(self) -> str:
        """The ``client.toml`` of this stack."""
        encrypted = self.encryption.client_settings() if self.encryption else {}
        return to_toml({"client": {**self.endpoints, **encrypted}})


def stack_settings(
    directory: StackDirectory,
    ports: Mapping[str, int],
    config: Path | None,
    environment: Mapping[str, str],
    encryption: Encryption | None = None,
) -> StackSettings:
    """Put the operator's file and environment over the defaults; only the event log is always the stack's own.

    Raises:
        ConfigurationError: the file cannot be read, or has a section that nobody reads.
    """
    own = read_toml(config) if config else {}
    if unknown := sorted(set(own) - KNOWN_SECTIONS):
        raise ConfigurationError(f"no such section in {config}: {', '.join(unknown)[:200]}")
    variables = tuple(_variable(section, "") for section in ENCRYPTED)
    if any(section in own for section in ENCRYPTED) or any(name.startswith(variables) for name in environment):
        raise ConfigurationError("certificates and tokens of a stack are its own: `tintype up --tls` makes them")
    nats_url = f"{'tls' if encryption else 'nats'}://{LOOPBACK}:{ports[NATS]}"
    addresses = {name: _address(name, ports[name], own, environment) for name in SERVICES}
    defaults: dict[str, Any] = {name: {"listen": address, "drain_s": DRAIN_S} for name, address in addresses.items()}
    defaults["catalog"]["data_dir"] = str(directory.root)
    defaults["signer"]["key_dir"] = str(directory.keys)
    defaults["signer"]["sign_for"] = ["*"]  # whoever reaches a stack's loopback may change every image of it
    if "stores" not in own and not any(name.startswith("TINTYPE_STORES__") for name in environment):
        defaults["stores"] = {"local": {"type": "file", "path": str(directory.store), "default": True}}
    merged = {**own, **{section: {**values, **_table(own, section)} for section, values in defaults.items()}}
    merged[NATS] = {**_table(own, NATS), "url": nats_url}
    merged.update(encryption.sections() if encryption else {})
    forced = {_variable(name, "listen"): address for name, address in addresses.items()}
    return StackSettings(
        to_toml(merged),
        {**environment, **forced, _variable(NATS, "url"): nats_url},
        {**addresses, NATS: nats_url},
        encryption,
    )


def to_toml(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> str:
    """Tables of plain values as TOML 1.0."""
    lines = [f"[{'.'.join(map(_key, path))}]"] if path else []
    lines += [f"{_key(key)} = {_value(value)}" for key, value in table.items() if not isinstance(value, dict)]
    text = "\n".join(lines) + "\n"
    for key, value in table.items():
        if isinstance(value, dict):
            text += to_toml(value, (*path, key))
    return text


def _value(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float() | datetime() | date() | time():
            return str(value)
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case dict():  # inside a list
            return "{" + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + "}"
        case _:
            return _string(str(value))


def _key(text: str) -> str:
    return text if _BARE_KEY.fullmatch(text) else _string(text)


def _string(text: str) -> str:
    # A JSON string is a TOML basic string, except that TOML wants DEL escaped too.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _address(name: str, port: int, own: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """Where a service listens: as the operator says, unless that leaves the port open."""
    listen = environment.get(_variable(name, "listen")) or _table(own, name).get("listen") or f"{LOOPBACK}:0"
    host, colon, given_port = str(listen).rpartition(":")
    return f"{host}:{port}" if colon and given_port == "0" else str(listen)


def _table(own: Mapping[str, Any], section: str) -> dict[str, Any]:
    table = own.get(section, {})
    if not isinstance(table, dict):
        raise ConfigurationError(f"{section} must be a table")
    return table


def _variable(section: str, setting: str) -> str:
    return f"TINTYPE_{section}__{setting}".upper()
