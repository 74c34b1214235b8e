"""What the child in the jail is asked to look at, and how that is written on its command line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

READABLE = frozenset({"ext2", "ext3", "ext4", "ntfs"})
"""The file systems that an operating system has its root on, and that the library reads.

It does not read XFS and btrfs, nor every UFS2; what boots from FAT or ISO 9660 has no root there that names a
distribution.
"""


@dataclass(frozen=True, slots=True)
class Volume:
    """A file system to look into, in bytes; ``place`` is how to call it."""

    type: str
    start: int
    size_bytes: int
    place: str


@dataclass(frozen=True, slots=True)
class Task:
    """What this program is to read."""

    path: str
    disk_format: str
    offset: int
    length: int | None
    volumes: tuple[Volume, ...]

    def to_json(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Task:
        """From the command line."""
        fields = json.loads(text)
        return cls(**fields | {"volumes": tuple(Volume(**volume) for volume in fields["volumes"])})
