"""What the SDK answers about stores: what there is, how it is, and what was found in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tintype.client.errors import ClientError, IntegrityError, ServiceUnavailableError
from tintype.domain.events import Failure
from tintype.ports.image_store import Grade, StoreMode

__all__ = [
    "Grade",
    "ImageLocation",
    "Store",
    "StoreChange",
    "StoreFinding",
    "StoreMode",
    "SweepFinding",
    "SweepFindingKind",
    "SweepProgress",
    "SweepReport",
    "require_good",
]


@dataclass(frozen=True, slots=True)
class Store:
    """A place for the bytes of images. ``kind`` is file, s3, swift, rbd or cinder.

    Images go to the one that ``is_default`` where nothing else is said, and are read from the one of the greatest
    ``weight`` that works. ``failure`` says why it is in another ``mode`` than read-write, ``since`` when. Room is told
    where there is such a thing. ``handover`` is how it hands bytes over directly; empty where it does not.
    """

    name: str
    description: str
    kind: str
    is_default: bool
    weight: int
    mode: StoreMode
    since: datetime | None
    failure: Failure | None
    free_bytes: int | None
    total_bytes: int | None
    is_sparse: bool
    handover: str


@dataclass(frozen=True, slots=True)
class ImageLocation:
    """Where a compute service fetches or clones an image by itself: whoever has the ``url`` may be able to read it.

    ``kind`` is presigned-url, rbd, file or cinder. ``expires_at`` is unset where the location does not expire.
    """

    store: str
    kind: str
    url: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoreFinding:
    """One thing that an examination looked at: its stable name, how it is, what was found, and what mends it."""

    name: str
    grade: Grade
    found: str
    advice: str


@dataclass(frozen=True, slots=True)
class StoreChange:
    """A store is in another ``mode`` since a time, as ``service`` on ``host`` sees it; ``reason`` and ``message`` say
    why, where it is not read-write.
    """

    position: int
    store: str
    mode: StoreMode
    since: datetime
    reason: str
    message: str
    service: str
    host: str


def require_good(store: str, findings: Sequence[StoreFinding]) -> None:
    """Check that nothing of ``findings`` is bad; what is doubtful works.

    Raises:
        ClientError: reason ``STORE_CHECK_FAILED``.
    """
    bad = [finding.name for finding in findings if finding.grade is Grade.BAD]
    if bad:
        raise ClientError(
            f"store {store!r} is not fit for images: {', '.join(bad)}",
            reason="STORE_CHECK_FAILED",
            hint="The advice beside each finding says what mends it.",
        )


class SweepFindingKind(StrEnum):
    """Why bytes or an event are not as they should be."""

    UNWANTED = "unwanted"
    """The log knows the image, and it does not want these bytes any more."""

    ORPHAN = "orphan"
    """The log does not know the image, or never will know the upload."""

    MISSING = "missing"
    """The log knows a copy, and the store does not have it."""

    SPARED = "spared"
    """Nobody may judge these bytes yet: a live writer has them, or they are too young."""


@dataclass(frozen=True, slots=True)
class SweepFinding:
    """Bytes that no event wants, or an event without its bytes; ``size`` is in bytes.

    ``failure`` says why bytes that should have been were not ``removed``, or, without a ``kind``, why the store could
    not be swept.
    """

    store: str
    key: str
    image_id: str
    size: int
    kind: SweepFindingKind | None
    removed: bool
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class SweepProgress:
    """How far a sweep is: blobs looked at, and what was found just now."""

    blobs: int
    finding: SweepFinding | None


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What a whole sweep found."""

    blobs: int
    findings: tuple[SweepFinding, ...]

    @property
    def removed_bytes(self) -> int:
        """Room that was reclaimed."""
        return sum(finding.size for finding in self.findings if finding.removed)

    def require_swept(self) -> None:
        """Check that every store could be swept, and that no copy that the log knows is missing.

        Raises:
            IntegrityError: reason ``BLOB_NOT_FOUND``: copies are missing.
            ServiceUnavailableError: a store could not be swept, or bytes could not be removed; the reason is the first
                failure's.
        """
        missing = [finding for finding in self.findings if finding.kind is SweepFindingKind.MISSING]
        if missing:
            first = missing[0]
            raise IntegrityError(
                f"image {first.image_id} has no bytes in store {first.store!r}{_more(missing)}",
                reason="BLOB_NOT_FOUND",
                hint="Scrub the image, and copy it from another store: `tintype image copy IMAGE --store NAME`.",
            )
        failed = [finding for finding in self.findings if finding.failure]
        if failed and (failure := failed[0].failure):
            raise ServiceUnavailableError(
                f"store {failed[0].store!r} was not swept as it should be: {failure.message}{_more(failed)}",
                reason=failure.reason,
                hint=failure.hint,
                retryable=failure.retryable,
            )


def _more(findings: Sequence[SweepFinding]) -> str:
    return f", and {len(findings) - 1} more" if len(findings) > 1 else ""
