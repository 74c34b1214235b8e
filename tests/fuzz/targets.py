"""What is fuzzed, and with which seeds: every parser that sees an attacker's bytes.

The invariant of each: a verdict, or a ``RefusedContentError`` that the parser meant; no other exception, no hang, and
no memory beyond bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tintype.disks.machine import architecture_of_program
from tintype.disks.os_release import of_debian_version, of_os_release, of_redhat_release
from tintype.domain.errors import RefusedContentError
from tintype.domain.values import DiskFormat
from tintype.inspect import Inspector
from tintype.inspect.file_systems import identify_file_system
from tintype.inspect.partitions import read_partition_table
from tintype.inspect.registry import known_formats
from tintype.testing.disk_contents import (
    EFI_SYSTEM,
    GRUB,
    LINUX,
    GptEntry,
    bcachefs_superblock,
    ext4_superblock,
    gpt,
    lvm2_label,
    mbr,
    superblock_magics,
    ufs2_superblock,
    zfs_label,
)
from tintype.testing.hostile import hostile_images

MAX_SEED_BYTES = 1024 * 1024
_MAX_VIRTUAL_SIZE = 1 << 50


@dataclass(frozen=True, slots=True)
class Target:
    """A function over bytes, and bytes to begin with."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterator[bytes]]


class ParserStumbledError(Exception):
    """A parser met bytes that it had not thought of; users see a refusal, and we a defect."""


def inspect(declared: DiskFormat | None, content: bytes) -> None:
    """Inspect, in chunks whose size the content chooses."""
    chunk = (content[0] + 1) * 97 if content else 1
    inspector = Inspector(declared, max_virtual_size=_MAX_VIRTUAL_SIZE)
    try:
        for offset in range(0, len(content), chunk):
            inspector.feed(content[offset : offset + chunk])
        inspector.finish()
    except RefusedContentError as refusal:
        _require_meant(refusal)


def _require_meant(refusal: RefusedContentError) -> None:
    if "cannot be read (" in str(refusal) and refusal.__cause__ is not None:
        raise ParserStumbledError from refusal.__cause__


def _format_target(disk_format: DiskFormat) -> Target:
    def run(content: bytes) -> None:
        inspect(disk_format, content)

    def seeds() -> Iterator[bytes]:
        for image in hostile_images().values():
            if image.declared in (disk_format, None):
                content = image.build()
                if len(content) <= MAX_SEED_BYTES:
                    yield content

    return Target(run, seeds)


def _fuzz_disk(content: bytes) -> None:
    def read(offset: int, length: int) -> bytes:
        return content[offset : offset + length]

    identify_file_system(read)
    read_partition_table(read, len(content)).boots_bios(read)


def _disks() -> Iterator[bytes]:
    yield bytes(gpt([GptEntry(EFI_SYSTEM, 1024, 2047), GptEntry(LINUX, 2048, 4095)], disk_size=1 << 18))
    yield mbr([(0x80, 0x83, 1, 1), (0, 5, 1, 9)], boot_code=GRUB) + mbr([(0, 0x83, 1, 1), (0, 5, 0, 1)])
    yield from (ext4_superblock(), lvm2_label(), zfs_label(), bcachefs_superblock(), ufs2_superblock())
    yield from superblock_magics()


def _fuzz_text(content: bytes) -> None:
    of_os_release(content)
    of_debian_version(content)
    of_redhat_release(content)
    architecture_of_program(content)


def _texts() -> Iterator[bytes]:
    yield b'PRETTY_NAME="Debian \\"12\\""\nID=debian\nVERSION_ID=12\n'
    yield b"Red Hat Enterprise Linux Server release 6.5 (Santiago)\n"
    yield b"\x7fELF\2\1".ljust(18, b"\0") + b"\x3e\0"
    yield b"MZ".ljust(0x3C, b"\0") + b"\x40\0\0\0PE\0\0\x64\x86"


def targets() -> Mapping[str, Target]:
    """All targets by name."""
    parsers = {f"inspect-{disk_format}": _format_target(disk_format) for disk_format in sorted(known_formats())}
    return parsers | {"disk-contents": Target(_fuzz_disk, _disks), "os-release": Target(_fuzz_text, _texts)}
