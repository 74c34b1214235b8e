"""Secrets by file, as orchestrators hand them out: a directory with one file for each setting.

``TINTYPE_SECRETS_DIR`` names the directory. A file in it is named like the environment variable of its setting, such as
``TINTYPE_CATALOG__DATABASE_URL``, and holds the value; a line end at its end is none of it. Other files are left alone.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic_settings import EnvSettingsSource

from tintype.domain.errors import ConfigurationError
from tintype.runtime.bounded_file import read_bounded

DIRECTORY_VARIABLE = "TINTYPE_SECRETS_DIR"
MAX_SECRET_BYTES = 64 * 1024
MAX_SECRETS = 256
_PREFIX = "TINTYPE_"


class SecretFiles(EnvSettingsSource):
    """The directory, read as if its files were environment variables."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {path.name.lower(): _value(path) for path in _paths()}


def secret_names() -> Collection[str]:
    """The variables that the directory has files for.

    Raises:
        ConfigurationError: it cannot be read.
    """
    return [path.name.upper() for path in _paths()]


def _paths() -> list[Path]:
    named = os.environ.get(DIRECTORY_VARIABLE)
    if not named:
        return []
    directory = Path(named)
    try:
        found = [path for path in directory.iterdir() if path.name.upper().startswith(_PREFIX) and path.is_file()]
    except OSError as exc:
        raise ConfigurationError(f"{DIRECTORY_VARIABLE}: {directory} cannot be read: {exc.strerror}") from exc
    if len(found) > MAX_SECRETS:
        raise ConfigurationError(f"{DIRECTORY_VARIABLE}: {directory} has more than {MAX_SECRETS} secrets")
    return found


def _value(path: Path) -> str:
    content = read_bounded(path, MAX_SECRET_BYTES, f"the secret {path}")
    try:
        return content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ConfigurationError(f"the secret {path} is not text") from None
