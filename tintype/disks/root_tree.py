"""The file system that the layers of a container image make together (OCI image specification, "Applying Changesets").

The tree is built in memory, and only file contents are written, under numbers: whatever the layers say of names and
links, nothing of it is followed on this machine. How it becomes a disk is the matter of the converter.
"""

from __future__ import annotations

import math
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from tintype.domain.errors import ArchiveContentError, ArchiveTraversalError, DecompressionBombError

MAX_NODES = 1_000_000
MAX_NAME_BYTES = 255
MAX_TARGET_BYTES = 4095
MAX_SYMLINKS = 40
"""How many links a path may lead through, as in Linux."""

MAX_DEPTH = 256
MAX_PATH_BYTES = 2048
"""Of every name from the root on: Linux ends at 4096, and programs on the way have buffers for little more."""
MAX_LINKS = 60_000
"""Names of one file; file systems end at 65,000."""
MAX_SEARCHES = 2_500_000_000
"""The squares of the directories' entries, all together: the programs that make the disk search directories from their
beginning for every name, which takes minutes where one has 50,000 entries."""
_MAX_STEPS = 50_000_000
"""Components of names that are looked up, links followed, and names that are hidden: it bounds the time."""
_MAX_ID = 2**32 - 1
_MAX_TIME = 2**33
_MAX_DEVICE = 2**12 - 1, 2**20 - 1
"""The greatest numbers of a device on Linux."""
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_XATTR = "SCHILY.xattr."
_KEPT_XATTRS = frozenset({"security.capability"})
_MAX_XATTR_BYTES = 1024


class Kind(Enum):
    """What a node of the tree is."""

    DIRECTORY = stat.S_IFDIR
    FILE = stat.S_IFREG
    SYMLINK = stat.S_IFLNK
    CHARACTER_DEVICE = stat.S_IFCHR
    BLOCK_DEVICE = stat.S_IFBLK
    FIFO = stat.S_IFIFO


_KINDS = {
    tarfile.DIRTYPE: Kind.DIRECTORY,
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.CHRTYPE: Kind.CHARACTER_DEVICE,
    tarfile.BLKTYPE: Kind.BLOCK_DEVICE,
    tarfile.FIFOTYPE: Kind.FIFO,
}


@dataclass(slots=True, eq=False)
class Node:
    """An inode: two names may share it. ``content`` is the number of a file's content, ``mode`` without the kind."""

    kind: Kind
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime_s: int = 0
    size: int = 0
    content: int | None = None
    target: str = ""
    device: tuple[int, int] = (0, 0)
    links: int = 0
    xattrs: dict[str, bytes] = field(default_factory=dict)
    children: dict[str, Node] = field(default_factory=dict)


class RootTree:
    """Layers, applied one after the other, the lowest first."""

    def __init__(self) -> None:
        self.root = Node(Kind.DIRECTORY)
        self._nodes = self._steps = 0
        self._of_this_layer = set[tuple[Node, str]]()

    def begin_layer(self) -> None:
        """Say that what follows is of the next layer: it hides what is there, but nothing of its own."""
        self._of_this_layer.clear()

    def apply(self, member: tarfile.TarInfo, content: int | None) -> None:
        """Apply one member of a layer; ``content`` is the number under which a file's content was kept.

        Raises:
            ArchiveTraversalError: its name or its link leads out of the tree.
            ArchiveContentError: it cannot be put where it says, or there are too many.
        """
        *parents, name = _parts(member.name) or ["."]
        if name == ".":
            _describe(self.root, member)
            return
        directory = self._directory(parents)
        if name == _OPAQUE:
            self._hide_all(directory)
        elif name.startswith(_WHITEOUT):
            self._hide(directory, name.removeprefix(_WHITEOUT))
        else:
            self._put(directory, name, member, content)
            self._of_this_layer.add((directory, name))

    def walk(self) -> Iterator[tuple[str, Node]]:
        """Every name below the root with its node, a directory before what is in it, and that without a break.

        Raises:
            ArchiveContentError: a path is too long.
        """
        pending = [("", self.root)]
        while pending:
            path, directory = pending.pop()
            room = MAX_PATH_BYTES - len(os.fsencode(path))
            for name, node in sorted(directory.children.items()):
                if len(os.fsencode(name)) >= room:
                    raise ArchiveContentError(f"a path in the layers has more than {MAX_PATH_BYTES} bytes")
                yield f"{path}/{name}", node
                if node.kind is Kind.DIRECTORY:
                    pending.append((f"{path}/{name}", node))

    def check(self) -> int:
        """Count the names below the root, once all layers were applied, and check that a disk can be made of them.

        Raises:
            ArchiveContentError: a path is too long, or directories are too large.
        """
        names, searches = 0, len(self.root.children) ** 2
        for _, node in self.walk():
            names += 1
            searches += len(node.children) ** 2
            if searches > MAX_SEARCHES:
                raise ArchiveContentError("the layers' directories have too many entries")
        return names

    def _hide_all(self, directory: Node) -> None:
        for name in list(directory.children):
            self._hide(directory, name)

    def _hide(self, directory: Node, name: str) -> None:
        """Remove what lower layers have there. In which order the members of a layer come says nothing."""
        self._count_step()
        node = directory.children.get(name)
        if node is not None and node.kind is Kind.DIRECTORY:
            self._hide_all(node)
        if (directory, name) not in self._of_this_layer and not (node and node.children):
            directory.children.pop(name, None)

    def _count_step(self) -> None:
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise DecompressionBombError("the layers have too many links to follow, or too much to hide")

    def _put(self, directory: Node, name: str, member: tarfile.TarInfo, content: int | None) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ArchiveContentError(f"the layers have more than {MAX_NODES} entries")
        if member.islnk():
            directory.children[name] = self._linked(member)
            return
        kind = _KINDS.get(member.type)
        if kind is None:
            raise ArchiveContentError(f"{member.name[:80]!r} in a layer is of a kind that no file system has")
        before = directory.children.get(name)
        if kind is Kind.DIRECTORY and before is not None and before.kind is Kind.DIRECTORY:
            _describe(before, member)  # what is in it stays
            return
        node = Node(kind, content=content, size=member.size, device=_checked_device(member, kind))
        if kind is Kind.SYMLINK:
            node.target = _checked_target(member)
        _describe(node, member)
        directory.children[name] = node

    def _linked(self, member: tarfile.TarInfo) -> Node:
        *parents, name = _parts(member.linkname) or ["."]
        node = self._directory(parents).children.get(name)
        if node is None or node.kind is Kind.DIRECTORY:
            raise ArchiveContentError(f"{member.name[:80]!r} in a layer is a link to what is not there")
        node.links += 1
        if node.links >= MAX_LINKS:
            raise ArchiveContentError(f"a file in the layers has more than {MAX_LINKS} names")
        return node

    def _directory(self, parts: list[str]) -> Node:
        """The directory of that path, made where it is missing; links are followed inside the tree only."""
        followed = 0
        path: list[Node] = [self.root]
        pending = list(reversed(parts))
        while pending:
            name = pending.pop()
            self._count_step()
            if name == "..":
                path = path[:-1] or [self.root]
                continue
            node = path[-1].children.get(name)
            if node is None:
                self._nodes += 1
                node = path[-1].children[name] = Node(Kind.DIRECTORY)
            if node.kind is Kind.SYMLINK:
                followed += 1
                if followed > MAX_SYMLINKS:
                    raise ArchiveTraversalError("a path in a layer leads through too many links")
                if node.target.startswith("/"):
                    path = [self.root]
                pending += reversed([part for part in node.target.split("/") if part not in ("", ".")])
            elif node.kind is Kind.DIRECTORY:
                path.append(node)
            else:
                raise ArchiveContentError(f"a layer puts something into {name[:80]!r}, which is no directory")
            if len(path) > MAX_DEPTH or self._nodes > MAX_NODES:
                raise ArchiveContentError("the layers' directories are too deep, or too many")
        return path[-1]


def _parts(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ArchiveTraversalError(f"{path[:80]!r} in a layer leads out of it")
    for part in parts:
        if len(part.encode("utf-8", "surrogateescape")) > MAX_NAME_BYTES or not part.isprintable():
            raise ArchiveContentError(f"{path[:80]!r} in a layer is too long, or has control characters")
    return parts


def _checked_target(member: tarfile.TarInfo) -> str:
    target = member.linkname
    if not target or len(target.encode("utf-8", "surrogateescape")) > MAX_TARGET_BYTES or "\0" in target:
        raise ArchiveContentError(f"{member.name[:80]!r} in a layer is a link to nowhere")
    return target


def _checked_device(member: tarfile.TarInfo, kind: Kind) -> tuple[int, int]:
    if kind not in (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE):
        return 0, 0
    device = member.devmajor, member.devminor
    if not all(0 <= number <= limit for number, limit in zip(device, _MAX_DEVICE, strict=True)):
        raise ArchiveContentError(f"{member.name[:80]!r} in a layer is a device that no system has")
    return device


def _time_s(member: tarfile.TarInfo) -> int:
    """Its time; a pax header may give a number that is none, or has no end."""
    return 0 if math.isnan(member.mtime) else int(min(max(member.mtime, 0), _MAX_TIME))


def _describe(node: Node, member: tarfile.TarInfo) -> None:
    node.mode = member.mode & 0o7777
    node.uid, node.gid = (min(max(value, 0), _MAX_ID) for value in (member.uid, member.gid))
    node.mtime_s = _time_s(member)
    for key, value in member.pax_headers.items():
        name = key.removeprefix(_XATTR)
        if key.startswith(_XATTR) and name in _KEPT_XATTRS:
            node.xattrs[name] = value.encode("utf-8", "surrogateescape")[:_MAX_XATTR_BYTES]
