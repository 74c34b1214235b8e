"""What a fuzz target is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

MAX_SEED_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """A function over bytes, and bytes to begin with."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterator[bytes]]


class ParserStumbledError(Exception):
    """A parser met bytes that it had not thought of; users see a refusal, and we a defect."""
