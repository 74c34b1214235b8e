"""The formats that are known: every module in ``formats/`` that has a ``FORMAT``. Adding one touches nothing else."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache

from tintype.domain.errors import RefusedContentError
from tintype.domain.values import DiskFormat, Fact, PropertyValue
from tintype.inspect import formats
from tintype.inspect.stream import Parsing, Stream

_NUMBER = re.compile(r"_\d+(?=_|$)")


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
class FactSpec:
    """A fact that a format's parser may read: its key, its type, where it is read, and what it means.

    ``N`` as a word of the key stands for any number: ``partition_N_type``.
    """

    key: str
    type: type[str] | type[int] | type[bool]
    source: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Rule:
    """Something that a format's parser refuses; ``cve`` where it has been somebody's hole.

    The error's class is the rule's name, and every rule has a sample in :mod:`tintype.testing.hostile`.
    """

    error: type[RefusedContentError]
    refuses: str
    cve: str = ""


@dataclass(frozen=True, slots=True)
class Format:
    """One disk format: how its bytes are recognised, the parser that reads or refuses them, and what that looks at.

    ``in_head`` and ``in_tail`` see the first :data:`~tintype.inspect.stream.HEAD_SIZE` and the last
    :data:`~tintype.inspect.stream.TAIL_SIZE` bytes, or fewer if the file is shorter.

    A format that ``needs_declaration`` begins as raw disks and archives may (a gzip stream, a bare file system). It is
    never looked for: its parser gets what was declared so and shows no other format, and must refuse what is not of it.
    """

    disk_format: DiskFormat
    parse: Callable[[Stream], Parsing]
    in_head: Callable[[bytes], bool] = _never
    in_tail: Callable[[bytes], bool] = _never
    evidence: Evidence = Evidence.HEADER
    needs_declaration: bool = False
    facts: tuple[FactSpec, ...] = ()
    rules: tuple[Rule, ...] = ()

    def fact(self, key: str, value: PropertyValue) -> Fact:
        """The value with its source, as the specification of that key says.

        Raises:
            KeyError: the format has no such fact.
            TypeError: it is of another type.
        """
        for spec in self.facts:
            if spec.key in (key, _NUMBER.sub("_N", key)):
                if type(value) is not spec.type:
                    raise TypeError(f"fact {key!r} is {value!r}, and should be of type {spec.type.__name__}")
                return Fact(value, spec.source)
        raise KeyError(key)


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
