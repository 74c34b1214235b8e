"""A tar archive that is an image (an OVA, a docker archive): its members one after the other, in the one pass.

Stricter than what :mod:`tintype.inspect.archives.tar` can read: few members, with names that mean the same file
everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass

from tintype.domain.errors import ArchiveContentError, ArchiveTraversalError
from tintype.inspect.archives.tar import Header, MemberKind, clean_name, next_header
from tintype.inspect.stream import Stream, Wish

_DRIVE = re.compile(r"[A-Za-z]:")
_REST_SIZE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Member:
    """A member: its clean name, and where its data lies in the archive, in bytes."""

    name: str
    kind: MemberKind
    offset: int
    size: int
    target: str

    @classmethod
    def of(cls, header: Header, offset: int) -> Member:
        """The member with that header, whose data begins at ``offset``.

        Raises:
            ArchiveTraversalError: its name leads out of the archive.
            ArchiveContentError: its name cannot be shown.
        """
        return cls(portable_name(header.name), header.kind, offset, header.size, header.target)


class Archive:
    """The walk over the archive in ``stream``: each member's data must be read, or will be skipped."""

    def __init__(self, stream: Stream, *, max_members: int) -> None:
        self._stream = stream
        self._max_members = max_members
        self._offset = 0
        self._names: set[str] = set()

    def next_member(self) -> Generator[Wish, bytes, Member | None]:
        """The next member; ``None`` at the end, when nothing but zeros has come behind it.

        Raises:
            TruncatedError: the archive ends before its end mark.
            ArchiveTraversalError: a name leads out of the archive.
            ArchiveContentError: a name is there twice or cannot be shown, or there are too many.
            RefusedContentError: the header cannot be read.
        """
        header = yield from self._next_header()
        if header is None:
            yield from self._rest()
            return None
        member = Member.of(header, self._offset)
        if not member.name and member.kind is not MemberKind.DIRECTORY:
            raise ArchiveContentError(f"the archive holds {member.kind.value} without a name")
        self._offset += header.padded_size
        if member.name in self._names:
            raise ArchiveContentError(f"the archive holds {member.name!a:.80} twice")
        self._names.add(member.name)
        if len(self._names) > self._max_members:
            raise ArchiveContentError(f"the archive has more than {self._max_members} members")
        return member

    def read(self, member: Member, max_size: int) -> Generator[Wish, bytes, bytes]:
        """All of a member's data.

        Raises:
            ArchiveContentError: if it is larger than ``max_size`` bytes.
            TruncatedError: the archive ends first.
        """
        if member.size > max_size:
            raise ArchiveContentError(f"{member.name!a:.80} in the archive has {member.size} bytes")
        if not member.size:
            return b""
        return (yield from self._stream.read_exactly(member.offset, member.size, _data_of(member)))

    def pass_to(self, sink: Callable[[memoryview], None], member: Member) -> Generator[Wish, bytes, None]:
        """Hand a member's data to ``sink`` as it comes.

        Raises:
            TruncatedError: the archive ends first.
        """
        yield from self._stream.pass_through(member.offset, member.size, sink, _data_of(member))

    def _next_header(self) -> Generator[Wish, bytes, Header | None]:
        asking = next_header()
        wanted = next(asking)
        while True:
            data = yield from self._stream.read_exactly(self._offset, wanted, "a header of the tar archive")
            self._offset += wanted
            try:
                wanted = asking.send(data)
            except StopIteration as done:
                header: Header | None = done.value
                return header

    def _rest(self) -> Generator[Wish, bytes, None]:
        """What follows the end mark is padding; readers that look further would find what others do not."""
        while True:
            data = (yield from self._stream.read(self._offset, _REST_SIZE)) or b""
            self._offset += len(data)
            if data.strip(b"\0"):
                raise ArchiveContentError("there is more behind the tar archive's end")
            if len(data) < _REST_SIZE:
                return


def portable_name(name: str) -> str:
    """A member's clean name, which every system takes for the same file inside the archive.

    Raises:
        ArchiveTraversalError: it is absolute, goes up, or would do so on some system.
        ArchiveContentError: it cannot be shown.
    """
    if "\\" in name or _DRIVE.match(name):
        raise ArchiveTraversalError(f"the name {name!a:.80} leads out of the archive on some systems")
    if not name.isprintable():
        raise ArchiveContentError(f"the archive holds a file whose name cannot be shown: {name!a:.80}")
    return clean_name(name)


def refuse_link(member: Member) -> None:
    """Refuse a link, device or pipe in an archive that has to consist of files.

    Raises:
        ArchiveTraversalError: a link that leads out of the archive.
        ArchiveContentError: any other.
    """
    if member.kind is MemberKind.SYMLINK:
        clean_name(resolve(member.name, member.target))
    elif member.kind is MemberKind.HARD_LINK:
        clean_name(member.target)
    raise ArchiveContentError(f"the archive holds {member.kind.value}, {member.name!a:.80}")


def resolve(name: str, target: str) -> str:
    """What a symbolic link of that name leads to, within the archive.

    Raises:
        ArchiveTraversalError: it leads out.
    """
    if target.startswith("/"):
        raise ArchiveTraversalError(f"the link {name!a:.80} leads out of the archive")
    parts = name.split("/")[:-1]
    for part in portable_parts(target):
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            raise ArchiveTraversalError(f"the link {name!a:.80} leads out of the archive")
    return "/".join(parts)


def portable_parts(target: str) -> list[str]:
    """The components of a link's target.

    Raises:
        ArchiveTraversalError: it would lead out on some system.
    """
    if "\\" in target or _DRIVE.match(target):
        raise ArchiveTraversalError(f"the link target {target!a:.80} leads out of the archive on some systems")
    return [part for part in target.split("/") if part not in ("", ".")]


def _data_of(member: Member) -> str:
    return f"the archive's {member.name!a:.80}"
