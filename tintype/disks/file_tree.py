"""Files in a file system on a guest's disk, by The Sleuth Kit: C code over hostile bytes, for the jail only.

It is used for ext2, ext3, ext4 and NTFS, and cannot read XFS and btrfs. Symbolic links are followed here, and within
the file system: the library knows paths without links only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import pytsk3

from tintype.disks.disk import Disk
from tintype.domain.errors import RefusedContentError

_MAX_LINKS = 16
_MAX_STEPS = 256
_MAX_TARGET_LENGTH = 4096  # Linux' PATH_MAX
_BLOCK_SIZE = 64 * 1024
_CACHED_BLOCKS = 64

KINDS: Mapping[str, int] = {
    "ext2": pytsk3.TSK_FS_TYPE_EXT_DETECT,
    "ext3": pytsk3.TSK_FS_TYPE_EXT_DETECT,
    "ext4": pytsk3.TSK_FS_TYPE_EXT_DETECT,
    "ntfs": pytsk3.TSK_FS_TYPE_NTFS,
}
"""By the type in the words of ``blkid``: the library tries no other than the one that the superblock names."""


class _Image(pytsk3.Img_Info):  # type: ignore[misc]
    """The library's view of a part of the disk, with the blocks that it reads over and over kept."""

    def __init__(self, disk: Disk, start: int, size: int) -> None:
        self._disk, self._start, self._size = disk, start, size
        self._block = lru_cache(_CACHED_BLOCKS)(self._read_block)
        super().__init__(url="", type=pytsk3.TSK_IMG_TYPE_EXTERNAL)

    def get_size(self) -> int:
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        end = min(offset + length, self._size)
        if offset < 0 or offset >= end:
            return b""
        first, last = offset // _BLOCK_SIZE, (end - 1) // _BLOCK_SIZE
        data = b"".join(self._block(number) for number in range(first, last + 1))
        return data[offset - first * _BLOCK_SIZE : end - first * _BLOCK_SIZE]

    def close(self) -> None:
        """The disk is its opener's."""

    def _read_block(self, number: int) -> bytes:
        offset = number * _BLOCK_SIZE
        try:
            return self._disk.read(self._start + offset, min(_BLOCK_SIZE, self._size - offset))
        except RefusedContentError:
            return b""  # which the library takes for a failed read


class FileTree:
    """The files of one file system, from the root."""

    def __init__(self, disk: Disk, file_system: str, start: int, size: int) -> None:
        """Open the file system of the named type at ``start`` of the disk.

        Raises:
            OSError: it cannot be read.
        """
        self._image = _Image(disk, start, size)
        self._files = pytsk3.FS_Info(self._image, offset=0, type=KINDS[file_system])

    def read_file(self, path: str, max_size: int, *, may_be_longer: bool = False) -> bytes | None:
        """The content of a regular file; ``None`` if there is none, or if it is larger than ``max_size`` bytes.

        Raises:
            OSError: it is there, and its content cannot be read.
        """
        file = self._resolve(path)
        if file is None or file.info.meta.type != pytsk3.TSK_FS_META_TYPE_REG:
            return None
        size = int(file.info.meta.size)
        if size > max_size and not may_be_longer:
            return None
        return bytes(file.read_random(0, min(size, max_size))) if size > 0 else b""

    def _resolve(self, path: str) -> Any | None:
        """The file at the end of the path and of all links on its way."""
        steps, parents = deque(path.split("/")), list[str]()
        file, links = None, 0
        for _ in range(_MAX_STEPS):
            if not steps:
                return file
            step = steps.popleft()
            if step in ("", "."):
                continue
            if step == "..":
                del parents[-1:]
                continue
            file = self._open("/" + "/".join([*parents, step]))
            if file is None:
                return None
            if file.info.meta.type != pytsk3.TSK_FS_META_TYPE_LNK:
                parents.append(step)
                continue
            links += 1
            target = _target(file)
            if links > _MAX_LINKS or not target:
                return None
            if target.startswith("/"):
                parents.clear()
            steps.extendleft(reversed(target.split("/")))
        return None

    def _open(self, path: str) -> Any | None:
        """What is there and not deleted; the library shows what was deleted, too."""
        try:
            file = self._files.open(path)
        except OSError:
            return None
        name, meta = file.info.name, file.info.meta
        if name is None or meta is None or not int(name.flags) & int(pytsk3.TSK_FS_NAME_FLAG_ALLOC):
            return None
        return file


def _target(link: Any) -> str:
    """Where it leads; nowhere if that cannot be a name."""
    target, size = link.info.meta.link, int(link.info.meta.size)
    if target is None and 0 < size <= _MAX_TARGET_LENGTH:
        target = link.read_random(0, size)  # the library does not look into blocks that extents name
    try:
        text = target.decode("utf-8") if isinstance(target, bytes) and len(target) <= _MAX_TARGET_LENGTH else ""
    except UnicodeDecodeError:
        return ""
    return "" if "\0" in text else text
