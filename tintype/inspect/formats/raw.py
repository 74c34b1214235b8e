"""Raw: the disk itself, byte by byte. It is what is left when no other format matches."""

from __future__ import annotations

from tintype.domain.errors import FormatMismatchError
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect.detection import boot_record
from tintype.inspect.inspection import ENCRYPTION, Findings
from tintype.inspect.registry import FactSpec, Format
from tintype.inspect.stream import Parsing, Stream

_LUKS_MAGIC = b"LUKS\xba\xbe"
_REFUSED_MAGICS = {b"QED\0": "QED", b"Bochs Virtual HD Image": "Bochs"}
"""Disk formats that Tintype does not take, and that a host which probes for itself would take for more than raw."""


def _parse(stream: Stream) -> Parsing:
    for magic, name in _REFUSED_MAGICS.items():
        if stream.head.startswith(magic):
            raise FormatMismatchError(f"the bytes are a {name} disk, which is neither raw nor any other known format")
    yield from stream.end()
    facts: dict[str, PropertyValue] = {}
    if scheme := boot_record(stream.head):
        facts["boot_record"] = scheme
    if stream.head.startswith(_LUKS_MAGIC):
        facts[ENCRYPTION] = "luks"
    return Findings(stream.size, facts)


FORMAT = Format(
    DiskFormat.RAW,
    _parse,
    facts=(
        FactSpec("boot_record", str, "sectors 0 and 1", "partition scheme: gpt or mbr"),
        FactSpec(ENCRYPTION, str, "sector 0", "how the disk is encrypted: luks"),
    ),
)
