"""An image as a person reads it: its fields, and of each property what counts and where that comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tintype.cli.plain import Plain, cell, is_empty, natural_order, plain, sized_cell

if TYPE_CHECKING:
    from tintype.client import Image

_PROPERTIES = ("properties", "read_facts", "overrides", "effective_properties")
"""Fields that have a table of their own."""

_SIZES = ("min_disk", "min_ram")
"""Attributes that facts and overrides of the same name stand for."""

_SIGNATURE, _SHOWN_CHARACTERS = "img_signature", 40
"""What nobody reads is cut in tables; JSON has all of it."""


def image_fields(image: Image) -> list[tuple[str, str]]:
    """The rows of a table: each field that has a value."""
    data = plain(image)
    rows: list[tuple[str, str]] = []
    for name, value in data.items() if isinstance(data, dict) else ():
        if name in _PROPERTIES or is_empty(value):
            continue
        if name in _SIZES:
            origin = _origin(image, name)
            rows.append((name, f"{cell(value)} ({origin})" if origin else cell(value)))
        elif name == "verification":
            rows.append((name, verification_text(value)))
        elif name == "failure":
            rows += _failure(value)
        elif name == "failed_stores":
            rows += [(name, f"{each.store}: {cell(plain(each.failure))}") for each in image.failed_stores]
        else:
            rows.append((name, sized_cell(name, value)))
    return rows


def property_rows(image: Image) -> list[tuple[str, str, str]]:
    """The rows of a second table: the key of each property, the value that counts, and where it comes from."""
    known = {*image.effective_properties, *image.properties, *image.overrides, *image.read_facts}
    keys = sorted(known - set(_SIZES) | set(image.properties), key=natural_order)
    return [(key, _shown(key, plain(_effective(image, key))), _origin(image, key) or "the owner") for key in keys]


def _shown(key: str, value: Plain) -> str:
    text = sized_cell(key, value)
    if key != _SIGNATURE or len(text) <= _SHOWN_CHARACTERS:
        return text
    return f"{text[:_SHOWN_CHARACTERS]}… ({len(text)} characters)"


def _effective(image: Image, key: str) -> object:
    read = {name: fact.value for name, fact in image.read_facts.items()}
    # In the order in which they count; a service from before there were overrides tells no effective properties.
    said = (image.effective_properties, image.overrides, image.properties, read)
    return next(values[key] for values in said if key in values)


def _origin(image: Image, key: str) -> str:
    """Where a value comes from, and what it stands in for; empty where only its owner says it."""
    fact = image.read_facts.get(key)
    source = (fact.source or "the bytes") if fact else ""
    read = [f"{cell(plain(fact.value))} was read from {source}"] if fact else []
    if key in image.overrides:
        owners = [f"the owner says {cell(plain(image.properties[key]))}"] if key in image.properties else []
        return "; ".join(["overridden", *owners, *read])
    if not fact:
        return ""
    if key in image.properties or (key in _SIZES and getattr(image, key) != fact.value):
        return "; ".join(["the owner", *read])
    return f"read from {source}" if key in _SIZES else source


def verification_text(value: Plain) -> str:
    """The verdict in words, with what is known of the certificate; empty where there is none."""
    if not isinstance(value, dict):
        return ""
    verdict, *details = (str(item) for key, item in value.items() if item and key != "digest")
    return f"{verdict} ({', '.join(details)})" if details else verdict


def _failure(value: Plain) -> list[tuple[str, str]]:
    hint = value.get("hint") if isinstance(value, dict) else None
    return [("failure", cell(value)), *([("hint", str(hint))] if hint else [])]
