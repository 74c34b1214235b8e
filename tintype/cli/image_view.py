"""An image as a person reads it: the properties that count, and beside each where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tintype.cli.plain import cell, plain

if TYPE_CHECKING:
    from tintype.client import Image

_MERGED = ("read_facts", "overrides", "effective_properties")
"""Fields that are told with the properties."""

_SIZES = ("min_disk", "min_ram")
"""Attributes that facts and overrides of the same name stand for."""


def image_fields(image: Image) -> list[tuple[str, str]]:
    """The rows of a table: a field and its value, ``properties.KEY`` for each property that counts."""
    data = plain(image)
    rows: list[tuple[str, str]] = []
    for name, value in data.items() if isinstance(data, dict) else ():
        if name == "properties":
            rows += [(f"properties.{key}", _property(image, key)) for key in _keys(image)]
        elif name in _SIZES:
            rows.append((name, _with_note(cell(value), _origin(image, name))))
        elif name not in _MERGED:
            rows.append((name, cell(value)))
    return rows


def _keys(image: Image) -> list[str]:
    known = {*image.effective_properties, *image.properties, *image.overrides, *image.read_facts}
    return sorted(known - set(_SIZES) | set(image.properties))


def _property(image: Image, key: str) -> str:
    read = {name: fact.value for name, fact in image.read_facts.items()}
    # In the order in which they count; a service from before there were overrides tells no effective properties.
    said = (image.effective_properties, image.overrides, image.properties, read)
    return _with_note(cell(plain(next(values[key] for values in said if key in values))), _origin(image, key))


def _origin(image: Image, key: str) -> list[str]:
    """Where a value comes from, and what it stands in for; nothing where only its owner says it."""
    fact = image.read_facts.get(key)
    read = f"{cell(plain(fact.value))}, from {fact.source or 'the bytes'}" if fact else ""
    if key in image.overrides:
        owners = [f"the owner's: {cell(plain(image.properties[key]))}"] if key in image.properties else []
        return ["overridden", *owners, *([f"read: {read}"] if fact else [])]
    if not fact:
        return []
    if key in image.properties or (key in _SIZES and getattr(image, key) != fact.value):
        return ["the owner's", f"read: {read}"]
    return [f"read from {fact.source or 'the bytes'}"]


def _with_note(text: str, notes: list[str]) -> str:
    return f"{text} ({'; '.join(notes)})" if notes else text
