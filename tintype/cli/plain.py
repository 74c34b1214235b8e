"""From the SDK's models to plain values, as JSON has them, under the API's own field names."""

from __future__ import annotations

import base64
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

_KIB = 1024
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SIZES = ("size", "virtual_size")
"""Sizes in bytes, besides the keys that say so."""

# Control characters, and those that turn the direction of writing: a terminal obeys them.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def plain(value: object) -> Plain:
    """``value`` in plain types: models as objects, words as their text, times in RFC 3339, what is missing as null.

    Bytes are base64, as in protobuf's JSON.
    """
    match value:
        case None | bool() | int() | float():
            return value
        case Enum():
            return plain(value.value)
        case str():
            return value
        case bytes():
            return base64.b64encode(value).decode()
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
        case dict() if all(isinstance(item, str) for item in value.values()):
            return ", ".join(f"{key}:{item}" for key, item in value.items())
        case _:
            return to_json(value)


def is_empty(value: Plain) -> bool:
    """Whether there is nothing to tell: zero and false are something."""
    return value is None or value in ("", [], {})


def sized_cell(key: str, value: Plain) -> str:
    """The cell of a field; a size in bytes is told in larger units too."""
    is_size = key in _SIZES or key.endswith("_size_bytes")
    if not is_size or type(value) is not int or value < _KIB:
        return cell(value)
    return f"{value} ({size_text(value)})"


def size_text(size_bytes: int) -> str:
    """A size as a person reads it."""
    value, unit = float(size_bytes), 0
    while value >= _KIB and unit < len(_UNITS) - 1:
        value, unit = value / _KIB, unit + 1
    return f"{size_bytes} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def natural_order(key: str) -> list[tuple[bool, int, str]]:
    """Sorts numbers inside of keys as numbers: ``partition_2`` before ``partition_10``."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"([0-9]+)", key)]


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
