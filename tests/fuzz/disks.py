"""Readers of disks, on images whose headers and tables are replaced."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path

from tests.fuzz.target import Target
from tintype.disks.opening import open_disk
from tintype.domain.errors import RefusedContentError
from tintype.domain.values import DiskFormat
from tintype.testing.mutable_disks import MutableDisk, mutable_disks

_MAX_EXTENTS = 64
_READ_SIZE = 64 * 1024


def targets() -> Mapping[str, Target]:
    """One for each sound image."""
    return {f"read-{name}": _disk_target(sound) for name, sound in mutable_disks().items()}


def read_disk(disk_format: DiskFormat, image: bytearray) -> None:
    """Read the begin of each of the disk's first extents."""
    with tempfile.NamedTemporaryFile() as file, suppress(RefusedContentError):
        file.write(image)
        file.flush()
        with open_disk(Path(file.name), disk_format) as disk:
            for extent in islice(disk.extents(), _MAX_EXTENTS):
                length = min(extent.length, _READ_SIZE)
                assert len(disk.read(extent.offset, length)) == length


def _disk_target(sound: MutableDisk) -> Target:
    """The bytes replace the headers and tables of a sound image."""

    def run(content: bytes) -> None:
        read_disk(sound.disk_format, sound.with_metadata(content))

    return Target(run, lambda: iter([sound.metadata()]))
