"""What the log says about stored bytes: wanted, unwanted, never to be wanted, or too early to tell. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tintype.domain.blob_keys import BlobKey
from tintype.domain.events import ImageStaged, ImportRequested, RecordedEvent
from tintype.domain.evolve import fold
from tintype.domain.image import Image
from tintype.domain.lifecycle import Status
from tintype.domain.values import BlobRef, OperationId
from tintype.ports.image_store import StoredBlob


class Kind(StrEnum):
    """What is not as it should be."""

    UNWANTED = "unwanted"
    """The log knows the image, and it does not want these bytes any more."""

    ORPHAN = "orphan"
    """The log does not know the image, or the write will never be ended."""

    MISSING = "missing"
    """The log knows a copy, and the store does not have it."""

    SPARED = "spared"
    """Nobody may judge these bytes yet: a writer that lives has them, or they are too young."""


@dataclass(frozen=True, slots=True)
class SweepLimits:
    """Ages in seconds: of an unfinished upload, and of bytes whose image the log does not know."""

    upload_ttl_s: float
    orphan_age_s: float
    interval_s: float


def judged(
    history: Sequence[RecordedEvent], store: str, stored: Iterable[StoredBlob], now: datetime, limits: SweepLimits
) -> dict[StoredBlob, Kind]:
    """Those of an image's bytes in one store that are not simply wanted, and what they are.

    ``history`` has to be read after the list, so that bytes which are in the list and wanted are wanted in it. One that
    is older than the list loses nothing: an operation that has ended never runs again, and one that the history does
    not know is spared until it is old.
    """
    judge = _Judge(history)
    kinds: dict[StoredBlob, Kind] = {}
    for blob in stored:
        rule = judge.rule(store, blob, limits)
        if rule is not None:
            kind, age_s = rule
            is_young = (now - blob.modified_at).total_seconds() <= age_s
            kinds[blob] = Kind.SPARED if blob.is_leased or is_young else kind
    return kinds


class _Judge:
    """One image's history, folded once."""

    def __init__(self, history: Sequence[RecordedEvent]) -> None:
        self._image: Image | None = fold(history)
        self._known: set[OperationId] = {
            recorded.payload.operation_id
            for recorded in history
            if isinstance(recorded.payload, ImportRequested | ImageStaged)
        }

    def is_leftover(self, ref: BlobRef) -> bool:
        """Whether the image of this history will never want these bytes again."""
        image, key = self._image, BlobKey.parse(ref.key)
        if image is None or key.image_id != image.id or image.wants(ref):
            return False
        if image.status in (Status.ACTIVE, Status.DELETED):  # what an unfinished upload left has no use any more
            return True
        running = image.operation.id if image.operation and image.operation.is_running else None
        return key.operation_id in self._known and key.operation_id != running

    def rule(self, store: str, blob: StoredBlob, limits: SweepLimits) -> tuple[Kind, float] | None:
        """What the bytes are, and the age in seconds from which they may go; ``None``: they are wanted."""
        image, ref = self._image, BlobRef(store, blob.key)
        if image is None:
            return Kind.ORPHAN, limits.orphan_age_s
        if self.is_leftover(ref):
            return Kind.UNWANTED, float("-inf")
        is_unknown = BlobKey.parse(blob.key).operation_id not in self._known
        # Where the image has a copy already, an unfinished write is one that should have replaced it.
        is_heal = not blob.is_committed and image.data is not None and ref in image.data.locations
        if is_heal or (is_unknown and not image.wants(ref)):
            return Kind.ORPHAN, limits.upload_ttl_s
        return None
