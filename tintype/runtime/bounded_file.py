"""Reading small files that somebody else wrote: settings, secrets, certificates, tokens."""

from __future__ import annotations

from pathlib import Path

from tintype.domain.errors import ConfigurationError


def read_bounded(path: Path, max_bytes: int, name: str = "") -> bytes:
    """The content of a file of at most ``max_bytes``; a complaint calls it ``name``, or else by its path.

    Raises:
        ConfigurationError: it cannot be read, or is larger.
    """
    name = name or str(path)
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as exc:
        raise ConfigurationError(f"{name} cannot be read: {exc.strerror}") from exc
    if len(content) > max_bytes:
        raise ConfigurationError(f"{name} is larger than {max_bytes} bytes")
    return content
