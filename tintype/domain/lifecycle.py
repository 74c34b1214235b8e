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
    ImageRestored,
    ImageStaged,
    Step,
)

if TYPE_CHECKING:
    from tintype.domain.image import Image, Operation


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
    (Status.IMPORTING, "placed"): Status.IMPORTING,
    (Status.IMPORTING, "published"): Status.ACTIVE,
    (Status.IMPORTING, "step_failed"): Status.QUEUED,
    (Status.ACTIVE, "copy_requested"): Status.ACTIVE,
    (Status.ACTIVE, "placed"): Status.ACTIVE,
    (Status.ACTIVE, "step_failed"): Status.ACTIVE,
    (Status.ACTIVE, "copy_removed"): Status.ACTIVE,
    (Status.ACTIVE, "copy_damaged"): Status.ACTIVE,
    (Status.ACTIVE, "copy_healed"): Status.ACTIVE,
    (Status.QUEUED, "deleted"): Status.DELETED,
    (Status.UPLOADING, "deleted"): Status.DELETED,
    (Status.IMPORTING, "deleted"): Status.DELETED,
    (Status.ACTIVE, "deleted"): Status.DELETED,
    (Status.DELETED, "restored(with data)"): Status.ACTIVE,
    (Status.DELETED, "restored(without data)"): Status.QUEUED,
    (Status.DELETED, "expired"): Status.DELETED,
    (Status.DELETED, "purged"): Status.DELETED,
}
"""(status, trigger) → status; everything that is not here cannot happen."""


def trigger(event: Event) -> str:
    """The name by which the table knows an event."""
    token = EVENT_TOKENS[type(event)]
    match event:
        case ImageStaged():
            return f"{token}({event.purpose})"
        case ImageRestored():
            return f"{token}({'with' if event.with_data else 'without'} data)"
        case _:
            return token


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
        return None if image.is_purged or image.can_be_restored else Step.PURGE
    operation = image.operation
    if operation is None or not operation.is_running:
        return None
    if image.status is Status.ACTIVE:  # the operation makes copies of what is published
        return Step.PLACE
    if operation.staged is None:
        return Step.STAGE
    if operation.verification is None:
        return Step.VERIFY
    if operation.conversion is None:
        return Step.CONVERT
    if operation.attestation_key_id is None:
        return Step.ATTEST
    return Step.PLACE if _is_to_be_placed(operation) else Step.PUBLISH


def _is_to_be_placed(operation: Operation) -> bool:
    # Which stores "all" are is found where bytes are written: of what was staged before, by the step itself.
    return bool(missing_stores(operation)) or (operation.placement.in_all and not operation.is_placed)


def missing_stores(operation: Operation) -> tuple[str, ...]:
    """Those of the stores that an operation's final bytes shall be in that have not been tried."""
    if operation.is_placed or operation.staged is None:
        return ()
    made = operation.conversion.output if operation.conversion else None
    tried = {failed.store for failed in operation.failed_stores}
    tried |= {made.ref.store} if made else {operation.staged.ref.store, *(ref.store for ref in operation.copies)}
    return tuple(store for store in operation.placement.stores if store not in tried)
