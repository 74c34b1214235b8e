"""The image itself: all that the log says about it, as :mod:`tintype.domain.evolve` folds it from its events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tintype.domain.attributes import ImageAttributes
from tintype.domain.errors import (
    TintypeError,
)
from tintype.domain.events import (
    Failure,
    ImportSource,
    SkipReason,
    Step,
    Verification,
)
from tintype.domain.lifecycle import Status
from tintype.domain.values import Blob, BlobRef, ImageId, OperationId, ProjectId


class OperationKind(StrEnum):
    """What an operation does."""

    UPLOAD = "upload"
    STAGE = "stage"
    IMPORT = "import"


class OperationState(StrEnum):
    """How an operation stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Conversion:
    """What the converter did: either ``output`` with the tool that made it, or the reason why it was ``skipped``."""

    output: Blob | None = None
    skipped: SkipReason | None = None
    tool: str = ""
    tool_version: str = ""
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One attempt to give an image its bytes, and how far it has come."""

    id: OperationId
    kind: OperationKind
    state: OperationState
    started_at: datetime
    ended_at: datetime | None = None
    source: ImportSource | None = None
    staged: Blob | None = None
    verification: Verification | None = None
    conversion: Conversion | None = None
    failure: Failure | None = None
    failed_step: Step | None = None

    @property
    def is_running(self) -> bool:
        """Whether workers still have steps to do."""
        return self.state is OperationState.RUNNING


@dataclass(frozen=True, slots=True)
class ImageData:
    """The published bytes: what they are, where they are, and what they were made from."""

    blob: Blob
    locations: tuple[BlobRef, ...]
    source: Blob
    verification: Verification
    published_at: datetime


@dataclass(frozen=True, slots=True)
class Image:
    """All that the log says about one image. ``version`` and ``position`` are those of its newest event."""

    id: ImageId
    project: ProjectId
    attributes: ImageAttributes
    status: Status
    created_at: datetime
    updated_at: datetime
    version: int
    position: int
    operation: Operation | None = None
    data: ImageData | None = None
    is_purged: bool = False

    @property
    def etag(self) -> str:
        """Changes with every event of the image."""
        return f'"{self.version}"'

    @property
    def failure(self) -> Failure | None:
        """Why the newest operation failed, if it did."""
        return self.operation.failure if self.operation else None

    def wanted_blobs(self) -> frozenset[BlobRef]:
        """The bytes that the image still needs; all others that carry its id may go."""
        wanted: set[BlobRef] = set()
        if self.status is Status.DELETED:
            return frozenset()
        if self.data:
            wanted.update(self.data.locations)
        operation = self.operation
        if operation and (operation.is_running or self.status is Status.UPLOADING):
            wanted.update(blob.ref for blob in (operation.staged,) if blob)
            if operation.conversion and operation.conversion.output:
                wanted.add(operation.conversion.output.ref)
        return frozenset(wanted)


def failure_of(error: TintypeError) -> Failure:
    """The failure that an error becomes when it ends an operation."""
    return Failure(error.reason, error.message[:1000], error.hint, error.retryable)
