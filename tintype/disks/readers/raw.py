"""Raw: the file is the disk. Holes of the file are zeros that nobody needs to read."""

from __future__ import annotations

from collections.abc import Iterator

from tintype.disks.byte_file import ByteFile, OnFile
from tintype.disks.disk import Disk, Extent
from tintype.disks.opening import Reader
from tintype.domain.values import DiskFormat


class RawDisk(OnFile):
    """The file's bytes."""

    @property
    def size(self) -> int:
        """The file's size, which need not be whole sectors."""
        return self._file.size

    def extents(self) -> Iterator[Extent]:
        """Data and holes, as the file system tells them."""
        return self._file.extents()

    def read(self, offset: int, length: int) -> bytes:
        """The file's bytes there."""
        return self._file.read(offset, length)


def _open(file: ByteFile) -> Disk:
    return RawDisk(file)


READER = Reader(DiskFormat.RAW, _open)
