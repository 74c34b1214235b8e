"""Raw: the disk itself, byte by byte. It is what is left when no other format matches.

What programs on the host would take for more than raw is refused: disk formats that Tintype does not take, and
compressed files.
"""

from __future__ import annotations

from tintype.domain.errors import EmptyImageError, FormatMismatchError, VirtualSizeTooLargeError
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect.compression.kinds import compression_of
from tintype.inspect.detection import boot_record
from tintype.inspect.inspection import ENCRYPTION, Findings
from tintype.inspect.registry import FactSpec, Format, Rule
from tintype.inspect.stream import Parsing, Stream

_LUKS_MAGIC = b"LUKS\xba\xbe"
_LUKS_UUID = slice(168, 208)  # of both versions (LUKS1 on-disk format 1.2.3, LUKS2 1.0.0)
_REFUSED_MAGICS = {
    # What QEMU probes for:
    b"QED\0": "QED",
    b"Bochs Virtual HD Image": "Bochs",
    b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop": "cloop",
    b"OOOM\0\0\0": "user-mode Linux COW",
    # What others do:
    b"MOOO\0\0\0": "user-mode Linux COW",
    b"EVF\x09\x0d\x0a\xff\0": "EnCase",
    b"sprs\0\0\0": "Apple sparse",
    b"shdw\0\0\0": "Apple sparse",
    b"MSWIM\0\0\0": "Windows imaging",
    b"\x3a\xff\x26\xed\x01\0": "Android sparse",
}
"""Disk formats that Tintype does not take, and that a host which probes for itself would take for more than raw."""

_DMG_TRAILER = b"koly\0\0\0\x04\0\0\x02\0"
"""Signature, version 4 and size 512 of what ends an Apple disk image."""


def _parse(stream: Stream) -> Parsing:
    for magic, name in _REFUSED_MAGICS.items():
        if stream.head.startswith(magic):
            _refuse(name)
    if stream.declared in (None, DiskFormat.RAW):
        _check_not_compressed(stream.head)
    yield from stream.end()
    if stream.tail[-512:].startswith(_DMG_TRAILER):
        _refuse("DMG")
    facts: dict[str, PropertyValue] = {}
    if scheme := boot_record(stream.head):
        facts["boot_record"] = scheme
    return Findings(stream.size, facts | _luks_facts(stream.head))


def _refuse(name: str) -> None:
    raise FormatMismatchError(f"the bytes are a {name} disk, which is neither raw nor any other known format")


def _check_not_compressed(head: bytes) -> None:
    if kind := compression_of(head):
        raise FormatMismatchError(
            f"the bytes are compressed ({kind}): declare container_format compressed, have the site decompress it on "
            "import, or send it as it is"
        )


def _luks_facts(head: bytes) -> dict[str, PropertyValue]:
    if not head.startswith(_LUKS_MAGIC):
        return {}
    facts: dict[str, PropertyValue] = {ENCRYPTION: "luks"}
    if len(head) >= _LUKS_UUID.stop:
        facts["luks_version"] = int.from_bytes(head[6:8], "big")
        if uuid := head[_LUKS_UUID].split(b"\0", 1)[0].decode("ascii", "replace"):
            facts["luks_uuid"] = uuid
    return facts


FORMAT = Format(
    DiskFormat.RAW,
    _parse,
    facts=(
        FactSpec("boot_record", str, "sectors 0 and 1", "partition scheme: gpt or mbr"),
        FactSpec(ENCRYPTION, str, "sector 0", "how the disk is encrypted: luks"),
        FactSpec("luks_version", int, "LUKS header, bytes 6-7", "version of LUKS: 1 or 2"),
        FactSpec("luks_uuid", str, "LUKS header, bytes 168-207", "identifies the encrypted disk"),
    ),
    rules=(
        Rule(FormatMismatchError, "a disk of a format that is never taken: QED, Bochs, cloop, DMG and others"),
        Rule(FormatMismatchError, "a compressed file that was declared raw"),
        Rule(FormatMismatchError, "a header of any other format that hides in a raw disk", cve="CVE-2024-40767"),
        Rule(VirtualSizeTooLargeError, "a disk larger than the site takes"),
        Rule(EmptyImageError, "no bytes at all"),
    ),
)
