"""What is read of a guest's disk: tables, superblocks, and the files that name a system."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tests.fuzz.target import Target
from tintype.disks.machine import architecture_of_program
from tintype.disks.os_release import of_debian_version, of_os_release, of_redhat_release
from tintype.inspect.file_systems import identify_file_system
from tintype.inspect.partitions.table import read_partition_table
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


def targets() -> Mapping[str, Target]:
    """The tables and superblocks of a disk, and texts."""
    return {"disk-contents": Target(_fuzz_disk, _disks), "os-release": Target(_fuzz_text, _texts)}


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
