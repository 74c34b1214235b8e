"""One layer of a container image (OCI image-spec, layer.md): its members' names and links, as the tar passes.

A layer is unpacked over others, as root. What is refused is what would reach outside of the root directory then, or
what containerd, umoci and tar would unpack to different places. Symbolic links may lead anywhere, since they do so on
any system (``/var/run -> /run``): they are refused once a member of the same layer is written through them. Devices and
pipes are let in, as containerd does: they are entries of a file system that no host mounts, and hold no data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tintype.domain.errors import (
    ArchiveContentError,
    ArchiveTraversalError,
    DecompressionBombError,
    TruncatedError,
)
from tintype.inspect.archives.tar import Header, MemberKind, clean_name, next_header

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
"""Hides the whole directory of the layers beneath."""

MAX_LINK_BYTES = 32 * 1024 * 1024
"""What one layer's symbolic links may take in memory: about 80,000 of them."""
_LINK_OVERHEAD = 300
_MAX_HOPS = 40
"""Links that one name may go through: Linux's limit."""

_Links = dict[str, "str | _Links"]
"""The symbolic links of a layer, as a tree of names: a link's target, or what is below a directory."""


@dataclass(slots=True)
class LayerBudget:
    """What all layers of an image may still cost: each of them counts it down."""

    members: int = 1_000_000
    link_steps: int = 20_000_000
    """Components of names that were followed through links, which bounds the time."""


class LayerWalk:
    """Takes a layer's tar, uncompressed, piece by piece."""

    def __init__(self, budget: LayerBudget) -> None:
        self._budget: Final = budget
        self._links: _Links = {}
        self._link_bytes = MAX_LINK_BYTES
        self._asking = next_header()
        self._wanted = next(self._asking)
        self._captured = bytearray()
        self._to_skip = 0
        self._padding = 0
        self._is_within = False
        self._has_ended = False

    def feed(self, piece: memoryview) -> None:
        """Take the next bytes.

        Raises:
            RefusedContentError: a member must not be unpacked, or cannot be read.
        """
        while piece:
            if self._has_ended:
                if bytes(piece).strip(b"\0"):
                    raise ArchiveContentError("there is more behind the end of a layer")
                return
            if self._to_skip:
                skipped = min(self._to_skip, len(piece))
                self._to_skip -= skipped
            else:
                skipped = min(self._wanted - len(self._captured), len(piece))
                self._captured += piece[:skipped]
                if len(self._captured) == self._wanted:
                    self._advance()
            piece = piece[skipped:]

    def finish(self) -> None:
        """Take note that all bytes have come. A layer may lack its end mark and the last padding, as umoci writes it.

        Raises:
            TruncatedError: if it does.
        """
        if self._to_skip > self._padding or self._captured or self._is_within:
            raise TruncatedError("a layer's tar archive ends within a member")

    def _advance(self) -> None:
        data = bytes(self._captured)
        self._captured.clear()
        try:
            self._wanted = self._asking.send(data)
        except StopIteration as done:
            header = done.value
        else:
            self._is_within = True
            return
        self._is_within = False
        self._take(header)

    def _take(self, header: Header | None) -> None:
        if header is None:
            self._has_ended = True
            return
        self._budget.members -= 1
        if self._budget.members < 0:
            raise DecompressionBombError("the image's layers have more members than any root file system")
        self._check(header)
        self._to_skip = header.padded_size
        self._padding = header.padded_size - header.size
        self._asking = next_header()
        self._wanted = next(self._asking)

    def _check(self, header: Header) -> None:
        name = clean_name(header.name)
        if not name:
            if header.kind is not MemberKind.DIRECTORY:
                raise ArchiveContentError(f"a layer has {header.kind.value} for its root directory")
            return
        *directory, base = name.split("/")
        check_whiteout(directory, base, header)
        place = [*self._follow(directory, name), base]
        match header.kind:
            case MemberKind.SYMLINK:
                self._put(place, header.target)
            case MemberKind.HARD_LINK:
                self._put(place, self._link_at(header))
            case _:
                self._put(place, None, keep_below=header.kind is MemberKind.DIRECTORY)

    def _link_at(self, header: Header) -> str | None:
        """What symbolic link a hard link is one more name of, if any."""
        *directory, base = clean_name(header.target).split("/")
        node: str | _Links | None = self._links
        for part in [*self._follow(directory, header.name), base]:
            node = node.get(part) if isinstance(node, dict) else None
        return node if isinstance(node, str) else None

    def _follow(self, directory: list[str], name: str) -> list[str]:
        """Where a directory really is, through the symbolic links of this layer.

        Raises:
            ArchiveTraversalError: it is outside of the root directory, or nowhere.
        """
        if not self._links:
            return directory
        pending, real, hops = directory[::-1], list[str](), 0
        nodes: list[str | _Links | None] = [self._links]
        while pending:
            self._budget.link_steps -= 1
            if self._budget.link_steps < 0:
                raise DecompressionBombError("the image's layers have too many links to follow")
            part, node = pending.pop(), nodes[-1]
            if part == "..":
                self._go_up(real, nodes, name)
                continue
            below = node.get(part) if isinstance(node, dict) else None
            if below is None and not hops:
                return [*real, part, *reversed(pending)]  # there are no links there, and no ".." to leave it by
            if not isinstance(below, str):
                real.append(part)
                nodes.append(below)
                continue
            hops += 1
            if hops > _MAX_HOPS:
                raise ArchiveTraversalError(f"{name!a:.80} in a layer is written through links without end")
            if below.startswith("/"):
                raise ArchiveTraversalError(f"{name!a:.80} in a layer is written through a link that leads out")
            pending += [part for part in reversed(below.split("/")) if part not in ("", ".")]
        return real

    @staticmethod
    def _go_up(real: list[str], nodes: list[str | _Links | None], name: str) -> None:
        if not real:
            raise ArchiveTraversalError(f"{name!a:.80} in a layer is written through a link that leads out")
        real.pop()
        nodes.pop()

    def _put(self, place: list[str], target: str | None, *, keep_below: bool = False) -> None:
        """Take note of what is now at a place: a symbolic link, or ``None`` for anything else."""
        node = self._links
        *directory, base = place
        for part in directory:
            below = node.get(part)
            if not isinstance(below, dict):
                if target is None:
                    return
                self._spend(len(part))
                below = node[part] = {}
            node = below
        if target is not None:
            self._spend(len(base) + len(target))
            node[base] = target
        elif not (keep_below and isinstance(node.get(base), dict)):
            node.pop(base, None)

    def _spend(self, size: int) -> None:
        self._link_bytes -= size + _LINK_OVERHEAD
        if self._link_bytes < 0:
            raise DecompressionBombError("a layer has more links than any root file system")


def check_whiteout(directory: list[str], base: str, header: Header) -> None:
    """Check that a name that hides another hides just one, in its own directory.

    Raises:
        ArchiveTraversalError: it names the directory itself, or the one above.
        ArchiveContentError: it is more than a mark.
    """
    if any(part.startswith(WHITEOUT) for part in directory):
        raise ArchiveContentError(f"a layer has a member below a whiteout: {header.name!a:.80}")
    if not base.startswith(WHITEOUT) or base == OPAQUE:
        is_mark = base == OPAQUE
    elif base[len(WHITEOUT) :] in ("", ".", ".."):
        raise ArchiveTraversalError(f"a layer has a whiteout of its own directory: {header.name!a:.80}")
    elif base[len(WHITEOUT) :].startswith(WHITEOUT):
        raise ArchiveContentError(f"a layer has a whiteout of a kind that is not known: {header.name!a:.80}")
    else:
        is_mark = True
    if is_mark and (header.kind is not MemberKind.FILE or header.size):
        raise ArchiveContentError(f"a layer has a whiteout that is more than an empty file: {header.name!a:.80}")
