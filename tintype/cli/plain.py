"""From the SDK's models to plain values, as JSON has them, under the API's own field names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING

from tintype.domain.values import Digest

if TYPE_CHECKING:
    from tintype.client import ImageEvent

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]

# Control characters, and those that turn the direction of writing: a terminal obeys them.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def plain(value: object) -> Plain:
    """``value`` in plain types: models as objects, words as their text, times in RFC 3339, what is missing as null."""
    match value:
        case None | bool() | int() | float():
            return value
        case Enum():
            return plain(value.value)
        case str():
            return value
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case Digest():
            return str(value)
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case tuple() | list():
            return [plain(item) for item in value]
        case _ if is_dataclass(value):
            return _event(value) if hasattr(value, "payload") else _fields(value)
        case _:
            raise TypeError(f"{type(value).__name__} has no plain form")


def _fields(value: object) -> dict[str, Plain]:
    return {field.name: plain(getattr(value, field.name)) for field in fields(value)}  # type: ignore[arg-type]


def _event(event: ImageEvent | object) -> dict[str, Plain]:
    """The payload stands under the name of its type, as in the API's message."""
    whole = _fields(event)
    payload = whole.pop("payload")
    whole[str(whole["type"])] = payload
    return whole


def cell(value: Plain) -> str:
    """``value`` as it stands in a table."""
    match value:
        case None:
            return ""
        case str():
            return value
        case list() if all(isinstance(item, str) for item in value):
            return ", ".join(str(item) for item in value)
        case {"reason": str(reason), "message": str(message)}:
            return f"{message} [{reason}]"
        case _:
            return to_json(value)


def to_json(value: Plain, *, indent: int | None = None) -> str:
    """JSON in which nothing can move a terminal's cursor."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    # Such a character can only stand inside a string; line feeds outside come from the indentation.
    return _UNSAFE.sub(lambda match: match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}", text)


def escaped(text: str) -> str:
    """``text`` in one line, in which nothing can move a terminal's cursor."""
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    known = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return known.get(match[0]) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
