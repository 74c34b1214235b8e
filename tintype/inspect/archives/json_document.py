"""JSON documents whose author may be anybody: bounded, of one meaning only, and read by the types that are expected."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from tintype.domain.errors import MalformedImageError

MAX_DOCUMENT_SIZE = 1024 * 1024
MAX_DEPTH = 32

_T = TypeVar("_T")
# A string that does not end runs to the end; possessive, so that no byte is looked at twice.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_STEPS = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}


@dataclass(frozen=True, slots=True)
class JsonObject:
    """An object of a document; ``what`` is how messages call it."""

    what: str
    values: Mapping[str, object]

    def text(self, key: str, default: str | None = None) -> str:
        """The string at ``key``. Raises MalformedImageError if there is none, or something else."""
        return self._value(key, str, default)

    def number(self, key: str) -> int:
        """The integer at ``key``. Raises MalformedImageError if there is none, or something else."""
        value = self._value(key, int, None)
        if isinstance(value, bool):
            raise self._malformed(key)
        return value

    def section(self, key: str) -> JsonObject:
        """The object at ``key``; an empty one if there is none. Raises MalformedImageError for something else."""
        found = self._value(key, dict, {})
        return JsonObject(f"{self.what}, {key}", found)

    def sections(self, key: str) -> list[JsonObject]:
        """The list of objects at ``key``. Raises MalformedImageError if there is none, or something else."""
        return [JsonObject(f"{self.what}, {key}", value) for value in self._items(key, dict)]

    def texts(self, key: str) -> list[str]:
        """The list of strings at ``key``; empty if there is none. Raises MalformedImageError for something else."""
        return [] if self.values.get(key) is None else self._items(key, str)

    def _items(self, key: str, kind: type[_T]) -> list[_T]:
        found = self._value(key, list, None)
        if not all(isinstance(item, kind) for item in found):
            raise self._malformed(key)
        return found

    def _value(self, key: str, kind: type[_T], default: _T | None) -> _T:
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, kind):
            raise self._malformed(key)
        return value

    def _malformed(self, key: str) -> MalformedImageError:
        return MalformedImageError(f"{self.what:.80} has no usable {key!r:.40}")


def parse_document(data: bytes, what: str) -> object:
    """Read a document in which no key stands twice, and nothing is nested deeper than :data:`MAX_DEPTH`.

    Raises:
        MalformedImageError: it is none.
    """
    try:
        _check_depth(data)
        return json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise MalformedImageError(f"{what:.80} cannot be read: {exc!s:.80}") from exc


def parse_object(data: bytes, what: str) -> JsonObject:
    """Read a document that is one object.

    Raises:
        MalformedImageError: it is none.
    """
    found = parse_document(data, what)
    if not isinstance(found, dict):
        raise MalformedImageError(f"{what:.80} is no JSON object")
    return JsonObject(what, found)


def _check_depth(data: bytes) -> None:
    depth = 0
    for match in _TOKEN.finditer(data):
        depth += _STEPS.get(match[0], 0)
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH}")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no number")
