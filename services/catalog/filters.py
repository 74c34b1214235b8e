"""The filter language of lists: ``field=value`` terms joined by `` AND ``, read by hand, bounded, without recursion.

It yields typed terms and knows no SQL; :mod:`services.catalog.queries` turns them into bound parameters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from services.catalog.rows import microseconds, property_term
from tintype.domain.attributes import MAX_PROPERTY_KEY_LENGTH, typed_property
from tintype.domain.errors import InvalidArgumentError, InvalidFilterError
from tintype.domain.lifecycle import Status
from tintype.domain.values import ContainerFormat, DiskFormat, Visibility

MAX_FILTER_LENGTH = 4096
MAX_TERMS = 32
_MAX_INT64 = 2**63 - 1

_FIELD = re.compile(r"[a-z_]+")
_KEY = re.compile(r'[^\s=!<>"]+')
_OPERATOR = re.compile(r"!=|<=|>=|=|<|>")
_BARE = re.compile(r'[^\s"]+')
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_AND = re.compile(r" +AND +")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Term:
    """One condition. ``key`` is set for a property, whose value is then what its row is compared by."""

    field: str
    operator: str
    value: str | int | bool
    key: str = ""


def parsed(text: str) -> tuple[Term, ...]:
    """Read a filter; the empty one has no terms.

    Raises:
        InvalidFilterError: it is too long or malformed; the message names the character, counted from 1.
    """
    if len(text) > MAX_FILTER_LENGTH:
        raise InvalidFilterError(f"a filter has at most {MAX_FILTER_LENGTH} characters")
    if control := _CONTROL.search(text):
        raise _malformed(control.start(), "a control character")
    stripped = text.strip(" ")
    terms: list[Term] = []
    position = len(text) - len(text.lstrip(" "))
    end = position + len(stripped)
    while position < end:
        if len(terms) == MAX_TERMS:
            raise _malformed(position, f"more than {MAX_TERMS} terms")
        term, position = _term(text[:end], position)
        terms.append(term)
        if position < end:
            joint = _AND.match(text, position, end)
            if not joint or joint.end() == end:
                raise _malformed(position, "expected ` AND ` and another term")
            position = joint.end()
    return tuple(terms)


def _term(text: str, start: int) -> tuple[Term, int]:
    field, key, position = _field(text, start)
    operator = _OPERATOR.match(text, position)
    if not operator:
        raise _malformed(position, "expected one of = != < <= > >=")
    kind = _FIELDS[field]
    if operator.group() not in ("=", "!=") and not kind.is_ordered:
        raise _malformed(position, f"{field} takes only = and !=")
    raw, end = _value(text, operator.end())
    try:
        value = property_term(typed_property(key, raw)) if key else kind.read(raw)
    except (ValueError, OverflowError, InvalidArgumentError) as exc:
        reason = exc.message if isinstance(exc, InvalidArgumentError) else f"{field} takes {kind.expected}"
        raise _malformed(operator.end(), reason) from None
    return Term(field, operator.group(), value, key), end


def _field(text: str, start: int) -> tuple[str, str, int]:
    match = _FIELD.match(text, start)
    field = match.group() if match else ""
    position = match.end() if match else start
    if field == "properties" and text.startswith(".", position):
        key, end = _value(text, position + 1, _KEY)
        if len(key) > MAX_PROPERTY_KEY_LENGTH:
            raise _malformed(position + 1, f"a property key has at most {MAX_PROPERTY_KEY_LENGTH} characters")
        return field, key, end
    if field == "properties" or field not in _FIELDS:
        names = ", ".join(name for name in _FIELDS if name != "properties")
        raise _malformed(start, f"expected one of {names} or properties.KEY")
    return field, "", position


def _value(text: str, start: int, bare: re.Pattern[str] = _BARE) -> tuple[str, int]:
    if quoted := _QUOTED.match(text, start):
        value = re.sub(r"\\(.)", r"\1", quoted.group(1))
        return value, quoted.end()
    if plain := bare.match(text, start):
        return plain.group(), plain.end()
    raise _malformed(start, "expected a value, in double quotes if it has blanks")


def _malformed(index: int, what: str) -> InvalidFilterError:
    return InvalidFilterError(f"filter, character {index + 1}: {what}")


# --- what each field takes --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Field:
    read: Callable[[str], str | int | bool]
    expected: str
    is_ordered: bool = False


def _integer(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,19}", text) or abs(int(text)) > _MAX_INT64:
        raise ValueError(text)
    return int(text)


def _time(text: str) -> int:
    if not re.match(r"\d{4}-\d\d-\d\d", text):
        raise ValueError(text)
    time = datetime.fromisoformat(text)
    return microseconds(time if time.tzinfo else time.replace(tzinfo=UTC))


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _one_of(members: type[StrEnum]) -> _Field:
    return _Field(lambda text: members(text).value, f"one of {', '.join(members)}")


_TEXT = _Field(str, "text")
_INTEGER = _Field(_integer, "a 64-bit integer", is_ordered=True)
_TIME = _Field(_time, "a time such as 2030-01-31T12:00:00Z", is_ordered=True)
_BOOLEAN = _Field(_boolean, "true or false")

_FIELDS: Mapping[str, _Field] = {
    "id": _Field(str.lower, "a UUID"),
    "name": _TEXT,
    "status": _one_of(Status),
    "visibility": _one_of(Visibility),
    "owner": _TEXT,
    "disk_format": _one_of(DiskFormat),
    "container_format": _one_of(ContainerFormat),
    "tag": _TEXT,
    "hidden": _BOOLEAN,
    "protected": _BOOLEAN,
    "size": _INTEGER,
    "min_disk": _INTEGER,
    "min_ram": _INTEGER,
    "created_at": _TIME,
    "updated_at": _TIME,
    "properties": _TEXT,
}
