"""Raw: the disk itself, byte by byte. It is what is left when no other format matches."""

from __future__ import annotations

from tintype.domain.values import DiskFormat
from tintype.inspect.detection import boot_record
from tintype.inspect.inspection import ENCRYPTION, Findings
from tintype.inspect.registry import Format
from tintype.inspect.stream import Parsing, Stream

_LUKS_MAGIC = b"LUKS\xba\xbe"


def _parse(stream: Stream) -> Parsing:
    yield from stream.end()
    facts: dict[str, str] = {}
    if scheme := boot_record(stream.head):
        facts["boot_record"] = scheme
    if stream.head.startswith(_LUKS_MAGIC):
        facts[ENCRYPTION] = "luks"
    return Findings(stream.size, facts)


FORMAT = Format(DiskFormat.RAW, _parse)
