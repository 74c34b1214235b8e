"""Where an image may go, and what its next step is.

``TRANSITIONS`` is the one table of legal moves: :func:`target` is how states change, and the state diagram in
``docs/architecture.md`` is drawn from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

from tintype.domain.errors import LogCorruptError
from tintype.domain.events import (
    EVENT_TOKENS,
    Event,
    ImageStaged,
    Step,
)

if TYPE_CHECKING:
    from tintype.domain.image import Image


class Status(StrEnum):
    """What a user sees of an image's state, in Glance's names."""

    QUEUED = "queued"
    """No bytes: waiting for an upload or an import."""

    UPLOADING = "uploading"
    """Bytes are staged, and wait for an import to be asked for."""

    IMPORTING = "importing"
    """Bytes are on their way: being fetched, verified, converted or placed."""

    ACTIVE = "active"
    """The bytes are there, for ever the same."""

    DELETED = "deleted"
    """Gone for its users."""


TRANSITIONS: Mapping[tuple[Status | None, str], Status] = {
    (None, "created"): Status.QUEUED,
    (Status.QUEUED, "updated"): Status.QUEUED,
    (Status.UPLOADING, "updated"): Status.UPLOADING,
    (Status.IMPORTING, "updated"): Status.IMPORTING,
    (Status.ACTIVE, "updated"): Status.ACTIVE,
    (Status.QUEUED, "staged(stage)"): Status.UPLOADING,
    (Status.UPLOADING, "staged(stage)"): Status.UPLOADING,
    (Status.QUEUED, "staged(upload)"): Status.IMPORTING,
    (Status.QUEUED, "import_requested"): Status.IMPORTING,
    (Status.UPLOADING, "import_requested"): Status.IMPORTING,
    (Status.IMPORTING, "staged(import)"): Status.IMPORTING,
    (Status.IMPORTING, "verified"): Status.IMPORTING,
    (Status.IMPORTING, "converted"): Status.IMPORTING,
    (Status.IMPORTING, "conversion_skipped"): Status.IMPORTING,
    (Status.IMPORTING, "attested"): Status.IMPORTING,
    (Status.IMPORTING, "published"): Status.ACTIVE,
    (Status.IMPORTING, "step_failed"): Status.QUEUED,
    (Status.ACTIVE, "copy_damaged"): Status.ACTIVE,
    (Status.ACTIVE, "copy_healed"): Status.ACTIVE,
    (Status.QUEUED, "deleted"): Status.DELETED,
    (Status.UPLOADING, "deleted"): Status.DELETED,
    (Status.IMPORTING, "deleted"): Status.DELETED,
    (Status.ACTIVE, "deleted"): Status.DELETED,
    (Status.DELETED, "purged"): Status.DELETED,
}
"""(status, trigger) → status; everything that is not here cannot happen."""


def trigger(event: Event) -> str:
    """The name by which the table knows an event."""
    token = EVENT_TOKENS[type(event)]
    return f"{token}({event.purpose})" if isinstance(event, ImageStaged) else token


def target(status: Status | None, event: Event) -> Status:
    """The status after ``event``.

    Raises:
        LogCorruptError: the log holds an event that cannot follow; ``decide`` never appends such a one.
    """
    try:
        return TRANSITIONS[status, trigger(event)]
    except KeyError:
        raise LogCorruptError(f"{trigger(event)} cannot follow in status {status}") from None


def next_step(image: Image) -> Step | None:
    """The one step that the image waits for, or ``None`` where it waits for its user or for nobody."""
    if image.status is Status.DELETED:
        return None if image.is_purged else Step.PURGE
    operation = image.operation
    if operation is None or not operation.is_running:
        return None
    if operation.staged is None:
        return Step.STAGE
    if operation.verification is None:
        return Step.VERIFY
    if operation.conversion is None:
        return Step.CONVERT
    if operation.attestation_key_id is None:
        return Step.ATTEST
    return Step.PUBLISH
