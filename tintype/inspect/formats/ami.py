"""AMI, the disk of a machine whose kernel and ramdisk are images of their own: a bare file system, or partitions."""

from __future__ import annotations

import struct

from tintype.domain.errors import FormatMismatchError, TruncatedError
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect.detection import boot_record
from tintype.inspect.file_systems import FileSystem, identify_file_system
from tintype.inspect.inspection import ENCRYPTION, Findings
from tintype.inspect.registry import FactSpec, Format, Rule
from tintype.inspect.stream import Parsing, Stream

_NO_ROOT = frozenset({"swap", "jbd", "iso9660"})
"""What no machine can have its root on, or, for an ISO, what is a format of its own."""

_SECTOR_SIZE = 512
_GPT_LAST_SECTOR = 512 + 32
_MBR_TABLE, _MBR_ENTRY = 446, struct.Struct("<B3xB3xII")
_MBR_STATUS = (0x00, 0x80)
_KERNEL_MAGIC = b"HdrS"


def _parse(stream: Stream) -> Parsing:
    found = identify_file_system(lambda offset, length: stream.head[offset : offset + length])
    if found is not None and found.type in _NO_ROOT:
        raise FormatMismatchError(f"the image was declared as ami, but its bytes are {found.type}")
    if found is not None:
        end, facts = found.size_bytes or 0, _file_system_facts(found)
    else:
        end, facts = _partitioned(stream.head)
    yield from stream.end()
    stream.require_size(end, "the machine image's disk")
    return Findings(stream.size, facts)


def _file_system_facts(found: FileSystem) -> dict[str, PropertyValue]:
    facts: dict[str, PropertyValue] = {"ami_file_system": found.type}
    if found.label:
        facts["ami_file_system_label"] = found.label
    if found.uuid:
        facts["ami_file_system_uuid"] = found.uuid
    if found.size_bytes is not None:
        facts["ami_file_system_size_bytes"] = found.size_bytes
    if found.type == "crypto_LUKS":
        facts[ENCRYPTION] = "luks"
    return facts


def _partitioned(head: bytes) -> tuple[int, dict[str, PropertyValue]]:
    """How many bytes the disk has at least by its partition table, and which kind of table that is."""
    scheme = boot_record(head)
    ends = _mbr_ends(head) if scheme == "mbr" else []
    if scheme == "gpt":
        # UEFI 2.10, 5.3.2: the alternate header is in the disk's last sector.
        ends = [int.from_bytes(head[_GPT_LAST_SECTOR : _GPT_LAST_SECTOR + 8], "little") + 1]
    if scheme is None or not ends:
        raise FormatMismatchError(
            "the image was declared as ami, but its bytes begin with neither a file system nor a partition table"
        )
    return max(ends) * _SECTOR_SIZE, {"ami_partition_table": scheme}


def _mbr_ends(head: bytes) -> list[int]:
    """The sectors behind each partition; none for a boot sector that has no table, as that of a kernel."""
    entries = [_MBR_ENTRY.unpack_from(head, _MBR_TABLE + index * _MBR_ENTRY.size) for index in range(4)]
    if head[514:518] == _KERNEL_MAGIC or any(status not in _MBR_STATUS for status, *_ in entries):
        return []
    return [start + count for _, kind, start, count in entries if kind and count]


FORMAT = Format(
    DiskFormat.AMI,
    _parse,
    needs_declaration=True,
    facts=(
        FactSpec("ami_file_system", str, "superblock", "file system that fills the image: ext4, xfs, …"),
        FactSpec("ami_file_system_label", str, "superblock", "the file system's label"),
        FactSpec("ami_file_system_uuid", str, "superblock", "the file system's UUID"),
        FactSpec("ami_file_system_size_bytes", int, "superblock", "size of the file system"),
        FactSpec("ami_partition_table", str, "sectors 0 and 1", "partition scheme, if it is no bare file system"),
        FactSpec(ENCRYPTION, str, "sector 0", "how the disk is encrypted: luks"),
    ),
    rules=(
        Rule(FormatMismatchError, "what was declared a machine image, and is neither a file system nor partitioned"),
        Rule(TruncatedError, "a file system, or a partition, that ends beyond the file"),
    ),
)
