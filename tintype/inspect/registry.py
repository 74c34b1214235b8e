"""The formats that are known: every module in ``formats/`` that has a ``FORMAT``. Adding one touches nothing else."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache

from tintype.domain.values import DiskFormat
from tintype.inspect import formats
from tintype.inspect.stream import Parsing, Stream


class Evidence(IntEnum):
    """How much a match in the head says; of two formats that match, the file is of the stronger one.

    A footer says least, since the last sector of any disk may look so: it counts only where no head matches.
    """

    INSIDE = 1
    """At some offset, where another format may keep its data."""
    HEADER = 2
    """Within the first 512 bytes."""


def _never(_: bytes) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Format:
    """One disk format: how its bytes are recognised, and the parser that reads or refuses them.

    ``in_head`` and ``in_tail`` see the first :data:`~tintype.inspect.stream.HEAD_SIZE` and the last
    :data:`~tintype.inspect.stream.TAIL_SIZE` bytes, or fewer if the file is shorter.
    """

    disk_format: DiskFormat
    parse: Callable[[Stream], Parsing]
    in_head: Callable[[bytes], bool] = _never
    in_tail: Callable[[bytes], bool] = _never
    evidence: Evidence = Evidence.HEADER


@cache
def known_formats() -> Mapping[DiskFormat, Format]:
    """All formats, found by looking into the package ``formats``."""
    found: dict[DiskFormat, Format] = {}
    for module_info in pkgutil.iter_modules(formats.__path__, f"{formats.__name__}."):
        entry = importlib.import_module(module_info.name).FORMAT
        assert isinstance(entry, Format), module_info.name
        assert entry.disk_format not in found, module_info.name
        found[entry.disk_format] = entry
    return found
