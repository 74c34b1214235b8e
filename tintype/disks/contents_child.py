"""The program in the jail that looks for the operating system on a disk: one JSON line for each fact.

Run by :mod:`tintype.disks.contents_jail`, which says in its one argument what to look at.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from tintype.disks.contents_task import Task, Volume
from tintype.disks.disk import Disk
from tintype.disks.file_tree import FileTree
from tintype.disks.machine import HEADER_SIZE, architecture_of_program
from tintype.disks.opening import open_disk
from tintype.disks.os_release import (
    MAX_FILE_SIZE,
    OperatingSystem,
    of_debian_version,
    of_os_release,
    of_redhat_release,
)
from tintype.domain.errors import RefusedContentError
from tintype.domain.values import DiskFormat

_MAX_TEXT_LENGTH = 255
_OS_FILES = (
    ("/etc/os-release", of_os_release),
    ("/usr/lib/os-release", of_os_release),
    ("/etc/redhat-release", of_redhat_release),
    ("/etc/debian_version", of_debian_version),
)
_WINDOWS_KERNEL = "/Windows/System32/ntoskrnl.exe"
_PROGRAMS = ("/bin/sh", "/usr/bin/env", "/bin/busybox", "/sbin/init", "/usr/lib/systemd/systemd")

_Line = tuple[str, str, str]


def main(arguments: list[str]) -> int:
    """Print a line ``[key, value, source]`` for each fact about the first volume that has an operating system."""
    task = Task.from_json(arguments[0])
    disk = open_disk(Path(task.path), DiskFormat(task.disk_format), offset=task.offset, length=task.length)
    with disk:
        for line in _look_into(disk, task.volumes):
            print(json.dumps(line))
    return 0


def _look_into(disk: Disk, volumes: tuple[Volume, ...]) -> Iterator[_Line]:
    failures = []
    for volume in volumes:
        try:
            lines = list(_facts_of(FileTree(disk, volume.type, volume.start, volume.size_bytes), volume.place))
        except (OSError, RefusedContentError):
            failures.append(f"the {volume.type} file system of {volume.place} cannot be read")
            continue
        if lines:
            yield from lines
            return
    for failure in failures[:1]:
        yield "os_detection", f"failed: {failure}", "the root file system"


def _facts_of(tree: FileTree, place: str) -> Iterator[_Line]:
    """What the operating system in this file system says of itself; nothing if there is none."""
    found = _unix(tree) or _windows(tree)
    if found is None:
        return
    path, system, program_paths = found
    values = {
        "os_type": system.type,
        "os_distro": system.distro,
        "os_version": system.version,
        "os_pretty_name": system.pretty_name,
    }
    for key, value in values.items():
        if value is not None:
            yield key, value[:_MAX_TEXT_LENGTH], f"{path} in {place}"
    for program_path in program_paths:
        head = tree.read_file(program_path, HEADER_SIZE, may_be_longer=True)
        if architecture := architecture_of_program(head or b""):
            yield "architecture", architecture, f"{program_path} in {place}"
            return


def _unix(tree: FileTree) -> tuple[str, OperatingSystem, tuple[str, ...]] | None:
    for path, parse in _OS_FILES:
        content = tree.read_file(path, MAX_FILE_SIZE)
        system = None if content is None else parse(content)
        if system is not None:
            return path, system, _PROGRAMS
    return None


def _windows(tree: FileTree) -> tuple[str, OperatingSystem, tuple[str, ...]] | None:
    if tree.read_file(_WINDOWS_KERNEL, HEADER_SIZE, may_be_longer=True) is None:
        return None
    return _WINDOWS_KERNEL, OperatingSystem("windows", "windows"), (_WINDOWS_KERNEL,)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
