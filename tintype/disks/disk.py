"""The disk that a guest sees, whatever the format that holds it: what every reader of a format offers.

Readers are made by :func:`tintype.disks.opening.open_disk`, one module for each format in ``readers/``. The image must
have been inspected before; a reader checks all the same whatever it follows, since it may be handed anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

SECTOR_SIZE = 512


@dataclass(frozen=True, slots=True)
class Extent:
    """A range of the disk, in bytes, that is data, or known to read as zeros."""

    offset: int
    length: int
    is_zero: bool

    @property
    def end(self) -> int:
        """The offset behind it."""
        return self.offset + self.length


class Disk(Protocol):
    """A guest's disk, read only. Its methods block, and may be called from several threads at once."""

    @property
    def size(self) -> int:
        """The disk's size in bytes, as the guest sees it."""

    def extents(self) -> Iterator[Extent]:
        """The whole disk in order, without gaps; memory is bounded whatever the disk's size.

        Raises:
            RefusedContentError: the format's tables contradict themselves.
        """

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``: fewer only at the end of the disk.

        Raises:
            TruncatedError: the file ends before what its tables name.
            RefusedContentError: what is there cannot be decoded.
        """

    def close(self) -> None:
        """Close the file beneath; safe to call twice."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
