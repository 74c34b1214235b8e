"""What there is under keys: the committed object, the writes, and the lease, found by listing both containers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tintype.adapters.swift import layout
from tintype.adapters.swift.account import Account
from tintype.adapters.swift.layout import SegmentName
from tintype.adapters.swift.manifest import Segment
from tintype.domain.blob_keys import BlobKey

_ID_LENGTH = 36


@dataclass(slots=True)
class Write:
    """The segments of a write that are listed, by number."""

    id: str
    modified_at: datetime
    segments: dict[int, Segment] = field(default_factory=dict)

    def contiguous(self) -> list[Segment]:
        """Those from the first on, up to where one is missing."""
        found: list[Segment] = []
        while (segment := self.segments.get(len(found))) is not None:
            found.append(segment)
        return found

    @property
    def size(self) -> int:
        """How many bytes can be gone on behind."""
        return sum(segment.size for segment in self.contiguous())


@dataclass(slots=True)
class Contents:
    """All that is listed under a key. ``lease_at`` is when the lease was last made, which may have lapsed."""

    key: BlobKey
    committed_size: int | None = None
    modified_at: datetime | None = None
    lease_at: datetime | None = None
    writes: dict[str, Write] = field(default_factory=dict)

    def newest(self, but: frozenset[str]) -> Write | None:
        """The write that was last gone on with, but for some."""
        open_writes = [write for name, write in self.writes.items() if name not in but]
        return max(open_writes, key=lambda write: write.modified_at, default=None)


async def contents_of(account: Account, segments_container: str, key: BlobKey) -> Contents:
    """The writes and the lease of one key."""
    found = Contents(key)
    async for item in account.list(segments_container, f"{key}/"):
        name = SegmentName.parse(item["name"])
        if name is not None:
            _note(account, found, name, item)
    return found


async def all_contents(
    account: Account, container: str, segments_container: str, image: str
) -> AsyncIterator[Contents]:
    """Of one image, or of all where ``image`` is empty; of one image at a time everything is in memory."""
    below = f"{image}/" if image else ""
    committed = account.list(container, f"{layout.BLOBS}{below}")
    segments = account.list(segments_container, below)
    first, second = await _next(committed), await _next(segments)
    while first is not None or second is not None:
        images = [_image_of(item, skip) for item, skip in ((first, len(layout.BLOBS)), (second, 0)) if item]
        current = min(images)
        found: dict[BlobKey, Contents] = {}
        while first is not None and _image_of(first, len(layout.BLOBS)) == current:
            if (key := layout.parse_key(first["name"].removeprefix(layout.BLOBS))) is not None:
                held = found.setdefault(key, Contents(key))
                held.committed_size, held.modified_at = _size(account, first), _time(account, first)
            first = await _next(committed)
        while second is not None and _image_of(second, 0) == current:
            if (name := SegmentName.parse(second["name"])) is not None:
                _note(account, found.setdefault(name.key, Contents(name.key)), name, second)
            second = await _next(segments)
        for _, held in sorted(found.items(), key=lambda pair: str(pair[0])):
            yield held


def _note(account: Account, found: Contents, name: SegmentName, item: Mapping[str, Any]) -> None:
    modified_at = _time(account, item)
    if name.write is None:
        found.lease_at = modified_at
        return
    write = found.writes.setdefault(name.write, Write(name.write, modified_at))
    write.modified_at = max(write.modified_at, modified_at)
    if name.number is not None:
        write.segments[name.number] = Segment(_size(account, item), str(item.get("hash", ""))[:64])


async def _next(items: AsyncIterator[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return await anext(items, None)


def _image_of(item: Mapping[str, Any], skip: int) -> str:
    return str(item["name"])[skip : skip + _ID_LENGTH]


def _size(account: Account, item: Mapping[str, Any]) -> int:
    size = item.get("bytes")
    if type(size) is not int or size < 0:
        raise account.not_understood()
    return size


def _time(account: Account, item: Mapping[str, Any]) -> datetime:
    try:
        return datetime.fromisoformat(item["last_modified"]).replace(tzinfo=UTC)
    except (KeyError, TypeError, ValueError):
        raise account.not_understood() from None
