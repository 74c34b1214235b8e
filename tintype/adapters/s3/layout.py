"""What the store's objects are called, and what stands in its markers.

``blobs/KEY``
    The marker: with it the bytes are committed. It names the data object, and those that it took the place of.
``data/KEY/WRITE``
    The bytes, of one write each. Committed where a marker names it; else an unfinished write.
``leases/KEY``
    Who writes now; see :mod:`tintype.adapters.s3.lease`.
``probes/ID``
    What :meth:`~tintype.adapters.s3.store.S3ImageStore.check` writes, reads and removes.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import BlobDamagedError, InvalidIdentifierError

MAX_OBJECT_SIZE = 5 * 1024**4
"""Bytes of the largest object that S3 promises to take."""

MAX_SMALL_OBJECT = 64 * 1024
"""No marker and no lease is larger."""

_WRITE_ID = re.compile(r"[0-9a-f]{32}")
_NO_MARKER = "the marker of stored bytes cannot be read"
_RETIRED_MAX = 100


def new_write_id() -> str:
    """A name for a write that no other has."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Layout:
    """The names below ``prefix``, which is empty or ends in a slash."""

    prefix: str = ""

    def marker(self, key: BlobKey) -> str:
        """What makes the bytes visible."""
        return f"{self.prefix}blobs/{key}"

    def data(self, key: BlobKey, write: str) -> str:
        """The bytes of one write."""
        return f"{self.prefix}data/{key}/{write}"

    def lease(self, key: BlobKey) -> str:
        """Who writes."""
        return f"{self.prefix}leases/{key}"

    def takeover(self, key: BlobKey, holder: str) -> str:
        """Who takes over from ``holder``."""
        return f"{self.prefix}takeovers/{key}/{holder}"

    def area(self, name: str, below: str = "") -> str:
        """How the names of an area begin: ``blobs``, ``data``, ``leases``, ``takeovers`` or ``probes``."""
        return f"{self.prefix}{name}/{below}"

    def parse(self, area: str, name: str) -> tuple[BlobKey, str] | None:
        """The key, and the write in an area that has one; ``None`` for what is not the store's."""
        begin = self.area(area)
        if not name.startswith(begin):
            return None
        text, write = name[len(begin) :], ""
        if area in ("data", "takeovers"):
            text, _, write = text.rpartition("/")
            if not _WRITE_ID.fullmatch(write):
                return None
        try:
            return BlobKey.parse(text), write
        except InvalidIdentifierError:
            return None


@dataclass(frozen=True, slots=True)
class Marker:
    """What is committed: the write, its size in bytes, its digests as they were told, and the writes it replaced."""

    write: str
    size: int
    digests: Mapping[str, str] = field(default_factory=dict)
    retired: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """As JSON."""
        # The newest are kept; were there ever more, `list` shows the others as unfinished writes.
        retired = list(self.retired)[:_RETIRED_MAX]
        return json.dumps(
            {"v": 1, "write": self.write, "size": self.size, "digests": dict(self.digests), "retired": retired}
        ).encode()

    @classmethod
    def decode(cls, data: bytes) -> Marker:
        """Read JSON that anybody may have written.

        Raises:
            BlobDamagedError: it is no marker.
        """
        try:
            found = json.loads(data)
            marker = cls(found["write"], found["size"], found["digests"], tuple(found["retired"]))
            is_sound = (
                found["v"] == 1
                and all(_WRITE_ID.fullmatch(write) for write in (marker.write, *marker.retired))
                and type(marker.size) is int
                and 0 <= marker.size <= MAX_OBJECT_SIZE
                and all(isinstance(text, str) for item in marker.digests.items() for text in item)
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise BlobDamagedError(_NO_MARKER) from None
        if not is_sound:
            raise BlobDamagedError(_NO_MARKER)
        return marker
