"""What an inspection ends with: the format, the size of the guest's disk, and the facts that were read.

How they are found is the matter of :mod:`tintype.inspect.inspector` and of the modules in ``formats/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tintype.domain.values import DiskFormat

ENCRYPTION = "encryption"
"""Key of the one fact that others act upon: an encrypted disk is stored and served, but never converted."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What one format's parser read; ``virtual_size`` in bytes, ``None`` where the format holds no disk."""

    virtual_size: int | None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inspection:
    """The verdict on an image that was not refused.

    ``virtual_size`` is the size of the guest's disk in bytes, ``None`` where the format holds no disk. ``facts`` is
    what the headers say, as text: names in ``lower_case``, with their unit (``cluster_size_bytes``).
    """

    disk_format: DiskFormat
    virtual_size: int | None
    facts: Mapping[str, str]


def encryption_of(facts: Mapping[str, str]) -> str | None:
    """How the disk is encrypted (``luks``, ``aes``), or ``None`` if it is not; such a disk is not to be converted."""
    return facts.get(ENCRYPTION)
