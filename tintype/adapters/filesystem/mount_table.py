"""What is mounted where, as the kernel tells this process in ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)).

Reading it asks no file system, so it never hangs on one that does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_MAX_BYTES = 16 * 1024 * 1024
_ESCAPED = re.compile(r"\\([0-7]{3})")

NETWORK_TYPES = ("nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "9p", "lustre", "beegfs", "gpfs")
"""File systems whose server can be away while the machine works."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One line: ``options`` are those of the mount, and ``super_options`` those of the file system."""

    mount_id: int
    parent_id: int
    device: str
    root: str
    mount_point: Path
    options: tuple[str, ...]
    file_system: str
    source: str
    super_options: tuple[str, ...]

    @property
    def is_read_only(self) -> bool:
        """Mounted read-only, or the whole file system is."""
        return "ro" in self.options or "ro" in self.super_options

    @property
    def is_network(self) -> bool:
        """Whether a server is behind it; what FUSE mounts may have one."""
        return self.file_system in NETWORK_TYPES or self.file_system.partition(".")[0] == "fuse"

    def option(self, name: str) -> str | None:
        """The value of ``name=VALUE``; empty where the option stands alone, ``None`` where it is not set."""
        for option in (*self.options, *self.super_options):
            key, _, value = option.partition("=")
            if key == name:
                return value
        return None


class MountTable:
    """All mounts that this process sees."""

    def __init__(self, mounts: Sequence[Mount]) -> None:
        self._by_id: Mapping[int, Mount] = {mount.mount_id: mount for mount in mounts}

    @classmethod
    def of_this_process(cls) -> MountTable:
        """The table as it is now."""
        with open("/proc/self/mountinfo", "rb") as file:
            return cls.parse(os.fsdecode(file.read(_MAX_BYTES)))

    @classmethod
    def parse(cls, text: str) -> MountTable:
        """Read ``mountinfo``; a line of another form is passed over."""
        return cls([mount for line in text.splitlines() if (mount := _parsed(line)) is not None])

    @property
    def identities(self) -> Mapping[int, tuple[str, Path]]:
        """Device and place of each: what differs when something is mounted or unmounted."""
        return {number: (mount.device, mount.mount_point) for number, mount in self._by_id.items()}

    def of(self, descriptor: int) -> Mount | None:
        """The mount that an open file or directory was opened through; ``None`` once it is mounted no more."""
        return self._by_id.get(mount_id_of(descriptor))

    def by_id(self, mount_id: int) -> Mount | None:
        """One mount."""
        return self._by_id.get(mount_id)

    def above(self, mount: Mount) -> Mount | None:
        """The mount that its mount point lies in."""
        return self._by_id.get(mount.parent_id)


def mount_id_of(descriptor: int) -> int:
    """The kernel's number of the mount that ``descriptor`` was opened through; it is no number of a table for ever."""
    with open(f"/proc/self/fdinfo/{descriptor}", "rb") as file:
        for line in file.read(4096).splitlines():
            if line.startswith(b"mnt_id:"):
                return int(line.partition(b":")[2])
    return -1


def _parsed(line: str) -> Mount | None:
    before, separator, after = line.partition(" - ")
    fields, behind = before.split(" "), after.split(" ")
    if not separator or len(fields) < 6 or len(behind) < 3 or not (fields[0].isdecimal() and fields[1].isdecimal()):
        return None
    return Mount(
        mount_id=int(fields[0]),
        parent_id=int(fields[1]),
        device=fields[2],
        root=_unescaped(fields[3]),
        mount_point=Path(_unescaped(fields[4])),
        options=tuple(fields[5].split(",")),
        file_system=behind[0],
        source=_unescaped(behind[1]),
        super_options=tuple(behind[2].split(",")),
    )


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)
