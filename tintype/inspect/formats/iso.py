"""ISO 9660: recognised by its volume descriptor (ECMA-119, 8.1); its contents are not read."""

from __future__ import annotations

from tintype.domain.values import DiskFormat
from tintype.inspect.detection import boot_record
from tintype.inspect.inspection import Findings
from tintype.inspect.registry import Evidence, FactSpec, Format
from tintype.inspect.stream import Parsing, Stream

_DESCRIPTOR_OFFSET = 16 * 2048
_IDENTIFIER = b"CD001"


def _in_head(head: bytes) -> bool:
    return head[_DESCRIPTOR_OFFSET + 1 :].startswith(_IDENTIFIER) if len(head) > _DESCRIPTOR_OFFSET else False


def _parse(stream: Stream) -> Parsing:
    yield from stream.end()
    scheme = boot_record(stream.head)
    return Findings(None, {"iso_boot_record": scheme} if scheme else {})


FORMAT = Format(
    DiskFormat.ISO,
    _parse,
    in_head=_in_head,
    evidence=Evidence.INSIDE,
    facts=(FactSpec("iso_boot_record", str, "sectors 0 and 1", "what lets it boot as a disk: gpt or mbr"),),
)
