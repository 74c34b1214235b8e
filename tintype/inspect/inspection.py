"""What an inspection ends with: the format, the size of the guest's disk, and the facts that were read.

How they are found is the matter of :mod:`tintype.inspect.inspector` and of the modules in ``formats/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tintype.domain.values import DiskFormat, Fact, PropertyValue

ENCRYPTION = "encryption"
"""Key of the fact that keeps a disk from conversion: an encrypted one is stored and served as it is."""

PLACE_OF_DISK = ("ova_disk_format", "ova_disk_offset", "ova_disk_size_bytes")
"""Keys of the facts by which the disk in an appliance is found again."""


def place_of_disk(facts: Mapping[str, Fact]) -> tuple[DiskFormat, int, int] | None:
    """The format, the offset and the length in bytes of an appliance's disk; ``None`` where it is not told."""
    match [facts[key].value for key in PLACE_OF_DISK if key in facts]:
        case [str(disk_format), int(offset), int(length)]:
            return DiskFormat(disk_format), offset, length
        case _:
            return None


@dataclass(frozen=True, slots=True)
class Findings:
    """What one format's parser read; ``virtual_size`` in bytes, ``None`` where the format holds no disk.

    A value's key is declared in its format's ``facts``, which say where it was read; a :class:`Fact` says so itself.
    """

    virtual_size: int | None
    facts: Mapping[str, PropertyValue | Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inspection:
    """The verdict on an image that was not refused.

    ``virtual_size`` is the size of the guest's disk in bytes, ``None`` where the format holds no disk. ``facts`` is
    what the headers say: names in ``lower_case`` that begin with the format's where they are about the encoding and
    not about the disk, and end with their unit (``qcow2_cluster_size_bytes``). Names that compute services know are
    theirs (``vmware_adaptertype``, ``hw_firmware_type``). ``opinions`` is what each of the programs that were asked
    takes the bytes for: :mod:`tintype.inspect.second_opinion`.
    """

    disk_format: DiskFormat
    virtual_size: int | None
    facts: Mapping[str, Fact]
    opinions: Mapping[str, str] = field(default_factory=dict)


def encryption_of(facts: Mapping[str, Fact]) -> str | None:
    """How the disk is encrypted (``luks``, ``aes``), or ``None`` if it is not; such a disk is not to be converted."""
    fact = facts.get(ENCRYPTION)
    return str(fact.value) if fact else None
