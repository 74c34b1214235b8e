"""A disk in memory, whose extents a test chooses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from tintype.disks.disk import Extent
from tintype.domain.errors import RefusedContentError


class MemoryDisk:
    """The given bytes. Extents end at the ``bounds``; with ``tells_zeros`` those without data are told as zeros."""

    def __init__(
        self, data: bytes, *, bounds: Sequence[int] = (), tells_zeros: bool = True, fails_at: int | None = None
    ) -> None:
        self._data = data
        self._bounds = sorted({0, len(data), *(bound for bound in bounds if bound < len(data))})
        self._tells_zeros = tells_zeros
        self._fails_at = fails_at

    @property
    def size(self) -> int:
        return len(self._data)

    def extents(self) -> Iterator[Extent]:
        for begin, end in zip(self._bounds, self._bounds[1:], strict=False):
            yield Extent(begin, end - begin, self._tells_zeros and not any(self._data[begin:end]))

    def read(self, offset: int, length: int) -> bytes:
        if self._fails_at is not None and offset <= self._fails_at < offset + length:
            raise RefusedContentError("spoilt on purpose")
        return self._data[offset : offset + length]

    def close(self) -> None:
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return
