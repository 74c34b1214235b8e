"""Opening the disk in an image: every module in ``readers/`` that has a ``READER``. Adding one touches nothing else."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tintype.disks import readers
from tintype.disks.byte_file import ByteFile
from tintype.disks.disk import Disk
from tintype.domain.errors import UnsupportedImageError
from tintype.domain.values import DiskFormat


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the disk out of one format.

    ``open`` takes the file over: the disk closes it. It raises :class:`~tintype.domain.errors.RefusedContentError` for
    whatever it does not read, such as an encrypted disk (``UnsupportedImageError``), and leaves the file open then.
    """

    disk_format: DiskFormat
    open: Callable[[ByteFile], Disk]


@cache
def known_readers() -> Mapping[DiskFormat, Reader]:
    """All readers, found by looking into the package ``readers``."""
    found: dict[DiskFormat, Reader] = {}
    for module_info in pkgutil.iter_modules(readers.__path__, f"{readers.__name__}."):
        entry = importlib.import_module(module_info.name).READER
        assert isinstance(entry, Reader), module_info.name
        assert entry.disk_format not in found, module_info.name
        found[entry.disk_format] = entry
    return found


def open_disk(path: Path, disk_format: DiskFormat, *, offset: int = 0, length: int | None = None) -> Disk:
    """Open the disk in the image at ``path``, which is in ``disk_format``: nothing is guessed.

    ``offset`` and ``length`` are those of a disk inside another file, as in an OVA; up to the end by default.

    Raises:
        UnsupportedImageError: the format holds no disk that can be read here, or the disk is encrypted.
        RefusedContentError: the image is not sound.
        StoreUnavailableError: the file cannot be read.
    """
    reader = known_readers().get(disk_format)
    if reader is None:
        raise UnsupportedImageError(f"the disk in an image of format {disk_format} cannot be read")
    file = ByteFile(path, offset=offset, length=length)
    try:
        return reader.open(file)
    except BaseException:
        file.close()
        raise
