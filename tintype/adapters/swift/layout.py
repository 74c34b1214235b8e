"""What the store's objects are called.

In the container ``NAME``:

``blobs/KEY``
    The manifest (a static large object): with it the bytes are committed. Its metadata name the write that it is of,
    how many segments that has, and the writes whose place it took. Without bytes it is an empty object.
``probes/ID``
    What a check writes, reads and removes.

In the container ``NAME_segments``:

``KEY/WRITE/00000000``
    A segment of a write: committed where a manifest names the write; else an unfinished write.
``KEY/WRITE/group-0000``
    A manifest of as many segments as one manifest can have, where there are more than that.
``KEY/lease``
    Who writes now; see :mod:`tintype.adapters.swift.lease`.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass

from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import InvalidIdentifierError

BLOBS = "blobs/"
PROBES = "probes/"

_WRITE_ID = re.compile(r"[0-9a-f]{32}")
_SEGMENT = re.compile(r"(?P<key>.+)/(?P<write>[0-9a-f]{32})/(?:(?P<number>[0-9]{8})|group-[0-9]{4})")


def new_write_id() -> str:
    """A name for a write that no other has."""
    return uuid.uuid4().hex


def is_write_id(text: str) -> bool:
    """Whether ``text`` can be one."""
    return _WRITE_ID.fullmatch(text) is not None


def manifest_name(key: BlobKey) -> str:
    """What makes the bytes visible."""
    return f"{BLOBS}{key}"


def lease_name(key: BlobKey) -> str:
    """Who writes."""
    return f"{key}/lease"


def segment_name(key: BlobKey, write: str, number: int) -> str:
    """The bytes of a write, from 0 on."""
    return f"{key}/{write}/{number:08d}"


def group_name(key: BlobKey, write: str, number: int) -> str:
    """A manifest of some of them."""
    return f"{key}/{write}/group-{number:04d}"


@dataclass(frozen=True, slots=True)
class SegmentName:
    """A name in the container of segments, read: a lease has no ``write``, and a group no ``number``."""

    key: BlobKey
    write: str | None = None
    number: int | None = None

    @classmethod
    def parse(cls, name: str) -> SegmentName | None:
        """``None`` for what is not the store's."""
        if name.endswith("/lease"):
            key = parse_key(name.removesuffix("/lease"))
            return None if key is None else cls(key)
        found = _SEGMENT.fullmatch(name)
        key = parse_key(found["key"]) if found else None
        if found is None or key is None:
            return None
        return cls(key, found["write"], None if found["number"] is None else int(found["number"]))


def parse_key(text: str) -> BlobKey | None:
    """``None`` for what is no key."""
    try:
        return BlobKey.parse(text)
    except InvalidIdentifierError:
        return None
