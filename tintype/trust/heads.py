"""The heads of all images' chains, and one root over them: what a checkpoint says of a log. Pure.

The form of the leaves and of the tree is written down in docs/log-integrity.md, with vectors for other implementations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tintype.domain.errors import LogCorruptError
from tintype.domain.events import RecordedEvent
from tintype.domain.values import ImageId

_LEAF, _NODE = b"\x00", b"\x01"  # RFC 6962, section 2.1: a leaf can never pass for a node
_HEAD_DOMAIN = b"tintype.head.v1\n"


@dataclass(frozen=True, slots=True)
class LogState:
    """A log up to ``position``, that of its newest event: how many events and images, and the root over the heads."""

    position: int
    events: int
    images: int
    root: str


class Heads:
    """The newest event of every image, as a log is read from its beginning: about 300 bytes for each image."""

    def __init__(self) -> None:
        self.position = 0
        self.events = 0
        self._heads: dict[bytes, tuple[int, bytes]] = {}

    @property
    def images(self) -> int:
        """How many images have an event."""
        return len(self._heads)

    def add(self, event: RecordedEvent) -> None:
        """Take in the log's next event.

        Raises:
            LogCorruptError: it is not the one that follows in its image's chain, or in the log; nothing was taken in.
        """
        version, hash_ = self._heads.get(_key(event.image_id), (0, b""))
        fault = None
        if event.position <= self.position:
            fault = f"position {event.position} follows position {self.position}"
        elif event.version != version + 1:
            fault = f"version {event.version} follows version {version}"
        elif event.previous_hash != hash_.hex():
            fault = "the hash of the event before it is another one"
        if fault:
            error = LogCorruptError(f"the event at position {event.position} of image {event.image_id}: {fault}")
            error.position = event.position
            raise error
        self.replace(event)

    def replace(self, event: RecordedEvent) -> None:
        """Take in the log's next event, whether it fits or not: for whoever counts the faults, and goes on."""
        self.position = event.position
        self.events += 1
        self._heads[_key(event.image_id)] = (event.version, bytes.fromhex(event.hash))

    def snapshot(self) -> tuple[int, int, dict[bytes, tuple[int, bytes]]]:
        """Position, events and heads as they are now, for :func:`state_of` in a thread."""
        return self.position, self.events, self._heads.copy()

    def state(self) -> LogState:
        """What a checkpoint says; its time grows with the number of images."""
        return state_of(self.position, self.events, self._heads)


def state_of(position: int, events: int, heads: dict[bytes, tuple[int, bytes]]) -> LogState:
    """The state of a log of which these are the heads: image id (16 bytes) → version and hash of its newest event."""
    leaves = [leaf(image, *heads[image]) for image in sorted(heads)]
    return LogState(position, events, len(heads), merkle_root(leaves).hex())


def leaf(image: bytes, version: int, event_hash: bytes) -> bytes:
    """The hash that stands for one image: its id in text, the version and the hash of its newest event.

    SHA-256 of the byte 0, ``tintype.head.v1`` and a line feed, the id as 36 characters, the version in 8 bytes
    (big-endian) and the 32 bytes of the hash.
    """
    digits = image.hex()
    text = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}".encode("ascii")
    return hashlib.sha256(_LEAF + _HEAD_DOMAIN + text + version.to_bytes(8, "big") + event_hash).digest()


def _key(image_id: ImageId) -> bytes:
    return bytes.fromhex(image_id.replace("-", ""))  # half as large as the text, and in the same order


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The root of RFC 6962, section 2.1, over hashes of leaves; SHA-256 of nothing where there are none.

    Level by level: the left of two halves is the largest power of two that is smaller than the whole, which is the
    same as to pair neighbours, and to let an odd last one rise.
    """
    if not leaves:
        return hashlib.sha256(b"").digest()
    level = list(leaves)
    while len(level) > 1:
        level = list(_level_above(level))
    return level[0]


def _level_above(level: Sequence[bytes]) -> Iterator[bytes]:
    sha256 = hashlib.sha256
    for index in range(0, len(level) - 1, 2):
        yield sha256(_NODE + level[index] + level[index + 1]).digest()
    if len(level) % 2:
        yield level[-1]
