"""What may leave an inspection as facts: declared, of few and printable characters, and not too many of them."""

from __future__ import annotations

from collections.abc import Mapping

from tintype.domain.values import Fact, PropertyValue
from tintype.inspect.registry import Format

MAX_FACTS = 256
MAX_TEXT_LENGTH = 255
MAX_INTEGER = 2**63 - 1

_GIB = 1024**3


def facts_of(
    disk_format: Format, values: Mapping[str, PropertyValue | Fact], virtual_size: int | None
) -> dict[str, Fact]:
    """The facts with their sources, in the order of their keys, and ``min_disk`` by the guest's disk.

    Raises:
        KeyError, TypeError: the format does not declare such a fact.
    """
    facts = {key: value if isinstance(value, Fact) else disk_format.fact(key, value) for key, value in values.items()}
    if virtual_size:
        facts.setdefault("min_disk", Fact(-(-virtual_size // _GIB), "the virtual size, in GiB, rounded up"))
    return bounded(facts)


def bounded(facts: Mapping[str, Fact]) -> dict[str, Fact]:
    """The facts with text that can be shown and stored: what an image says of itself is its author's."""
    kept = sorted(facts.items())[:MAX_FACTS]
    return {key: Fact(_bounded_value(fact.value), fact.source) for key, fact in kept}


def _bounded_value(value: PropertyValue) -> PropertyValue:
    if isinstance(value, str):
        return "".join(c if c.isprintable() else "\ufffd" for c in value[:MAX_TEXT_LENGTH])
    return value if isinstance(value, bool) else max(-MAX_INTEGER, min(value, MAX_INTEGER))
