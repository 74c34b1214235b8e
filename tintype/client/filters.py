"""The filter of a list, put together from words: ``field=value`` joined by `` AND ``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tintype.client.errors import InvalidRequestError


def compose(terms: Iterable[tuple[str, object]], properties: Mapping[str, object], expression: str) -> str:
    """One filter of ``terms`` (those that are ``None`` left out), ``properties`` and a ready-made ``expression``.

    Raises:
        InvalidRequestError: a property's key cannot stand in a filter.
    """
    parts = [f"{field}={quoted(value)}" for field, value in terms if value is not None]
    for key, value in properties.items():
        if not key or any(char.isspace() or char in '=<>!"' for char in key):
            raise InvalidRequestError(f"property key {key[:80]!r} cannot be filtered by", reason="INVALID_FILTER")
        parts.append(f"properties.{key}={quoted(value)}")
    if expression:
        parts.append(expression)
    return " AND ".join(parts)


def quoted(value: object) -> str:
    """``value`` as a filter writes it: lower-case true and false, everything in double quotes."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
