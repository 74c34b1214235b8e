"""JSON whose author may be anybody: bounded, of one meaning only, and read by the types that are expected.

Numbers are integers: nothing here is measured.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import NoReturn

MAX_DIGITS = 19
"""Of an integer: the largest size has so many."""

MAX_TEXT = 64 * 1024

_MAX_ENTRIES = 1024


class JsonRefusal(ValueError):
    """The text is not what is expected; ``str()`` says where."""


def parsed(data: bytes, max_bytes: int) -> Fields:
    """The one object that a document holds.

    Raises:
        JsonRefusal: too large, not JSON in UTF-8, no object, a key that stands twice, or a number that is no integer.
    """
    if len(data) > max_bytes:
        raise JsonRefusal(f"it is larger than {max_bytes} bytes")
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=_unique,
            parse_float=_refused_number,
            parse_constant=_refused_number,
            parse_int=_bounded_integer,
        )
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as exc:
        raise JsonRefusal("it is not JSON") from exc
    return Fields(value, "")


class Fields:
    """An object's fields, each read by the type that it must have; ``where`` is the path that leads here."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise JsonRefusal(f"{where or 'it'} is no object")
        self._values: Mapping[str, object] = value
        self._where = where

    @property
    def names(self) -> frozenset[str]:
        """The names of all fields."""
        return frozenset(self._values)

    def require_names(self, known: frozenset[str]) -> None:
        """Refuse fields that nobody knows.

        Raises:
            JsonRefusal: there is one.
        """
        if unknown := sorted(self.names - known):
            raise JsonRefusal(f"{self._path(unknown[0])} is not a known field")

    def has(self, name: str) -> bool:
        """Whether the field is there, and is not null."""
        return self._values.get(name) is not None

    def text(self, name: str, *, default: str | None = None, max_length: int = MAX_TEXT) -> str:
        """A string; a field that is missing is ``default``."""
        if default is not None and name not in self._values:
            return default
        return self._text(self._values.get(name), name, max_length)

    def integer(self, name: str) -> int:
        """An integer that is not negative."""
        value = self._values.get(name)
        if type(value) is not int or value < 0:
            raise JsonRefusal(f"{self._path(name)} is no size or count")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._values.get(name)
        if not isinstance(value, bool):
            raise JsonRefusal(f"{self._path(name)} is neither true nor false")
        return value

    def inner(self, name: str) -> Fields:
        """An object."""
        return Fields(self._values.get(name), self._path(name))

    def objects(self, name: str) -> Sequence[Fields]:
        """A list of objects."""
        return [Fields(each, f"{self._path(name)}[{index}]") for index, each in enumerate(self._list(name))]

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        return tuple(self._text(each, f"{name}[{index}]") for index, each in enumerate(self._list(name)))

    def text_map(self, name: str) -> dict[str, str]:
        """An object whose values are strings."""
        inner = self.inner(name)
        return {key: inner.text(key) for key in sorted(inner.names)}

    def integer_map(self, name: str) -> dict[str, int]:
        """An object whose values are integers that are not negative."""
        inner = self.inner(name)
        return {key: inner.integer(key) for key in sorted(inner.names)}

    def raw(self) -> Mapping[str, object]:
        """The values as they are."""
        return self._values

    def _list(self, name: str) -> list[object]:
        value = self._values.get(name)
        if not isinstance(value, list) or len(value) > _MAX_ENTRIES:
            raise JsonRefusal(f"{self._path(name)} is no list, or too long")
        return value

    def _text(self, value: object, name: str, max_length: int = MAX_TEXT) -> str:
        if not isinstance(value, str) or len(value) > max_length:
            raise JsonRefusal(f"{self._path(name)} is no text, or too long")
        return value

    def _path(self, name: str) -> str:
        return f"{self._where}.{name[:80]}" if self._where else name[:80]


def base64_bytes(text: str, what: str) -> bytes:
    """The bytes that standard base64 stands for.

    Raises:
        JsonRefusal: it is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise JsonRefusal(f"{what} is not base64") from exc


def written(value: Mapping[str, object]) -> bytes:
    """A document, always the same for the same value: keys sorted, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise JsonRefusal("a key stands twice in one object")
    if len(found) > _MAX_ENTRIES:
        raise JsonRefusal("an object has too many fields")
    return found


def _bounded_integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise JsonRefusal("a number is too large")
    return int(text)


def _refused_number(text: str) -> NoReturn:
    raise JsonRefusal(f"{text[:40]} is no integer")
