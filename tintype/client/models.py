"""What the SDK answers: images, operations, uploads, events. Frozen, typed, and named as the API names them.

The words that the values are made of (formats, states, steps) are the domain's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tintype.domain.events import (
    EVENT_TOKENS,
    ConversionSkipped,
    CopyDamaged,
    CopyHealed,
    Event,
    Failure,
    ImageAttested,
    ImageConverted,
    ImageCreated,
    ImageDeleted,
    ImagePublished,
    ImagePurged,
    ImageStaged,
    ImageStepFailed,
    ImageUpdated,
    ImageVerified,
    ImportMethod,
    ImportPlugin,
    ImportRequested,
    Origin,
    Progress,
    RecordedEvent,
    SignedChecksums,
    Step,
    Verification,
)
from tintype.domain.image import OperationKind, OperationState
from tintype.domain.lifecycle import Status
from tintype.domain.values import ContainerFormat, DiskFormat, Fact, PropertyValue, Visibility

__all__ = [
    "ContainerFormat",
    "ConversionSkipped",
    "CopyDamaged",
    "CopyHealed",
    "DiskFormat",
    "Download",
    "Event",
    "Fact",
    "Failure",
    "Image",
    "ImageAttested",
    "ImageConverted",
    "ImageCreated",
    "ImageDeleted",
    "ImageEvent",
    "ImagePublished",
    "ImagePurged",
    "ImageStaged",
    "ImageStepFailed",
    "ImageUpdated",
    "ImageVerified",
    "ImportMethod",
    "ImportPlugin",
    "ImportRequested",
    "LogCheck",
    "LogFault",
    "Operation",
    "OperationKind",
    "OperationState",
    "Origin",
    "PluginState",
    "PolicyVerdict",
    "Progress",
    "PropertyValue",
    "RebuildProgress",
    "SignedChecksums",
    "Status",
    "Step",
    "Upload",
    "Verification",
    "Visibility",
]


@dataclass(frozen=True, slots=True)
class Image:
    """An image as the catalog shows it. Sizes are in bytes, ``min_disk`` in GiB, ``min_ram`` in MiB.

    ``size`` and what follows from the bytes is unset before they are published. ``read_facts`` is what was read from
    them, ``overrides`` what an administrator has put in the place of facts and properties, ``effective_properties``
    what counts. ``damaged_stores`` are those of the ``stores`` in which other bytes were found than the image's.
    ``failure`` says why the newest operation failed. ``position`` is the log position of the image's
    newest event.
    """

    id: str
    owner: str
    name: str
    status: Status
    visibility: Visibility
    disk_format: DiskFormat | None
    container_format: ContainerFormat | None
    size: int | None
    virtual_size: int | None
    digests: Mapping[str, str]
    min_disk: int
    min_ram: int
    protected: bool
    hidden: bool
    tags: tuple[str, ...]
    properties: Mapping[str, PropertyValue]
    created_at: datetime | None
    updated_at: datetime | None
    stores: tuple[str, ...]
    read_facts: Mapping[str, Fact]
    overrides: Mapping[str, PropertyValue]
    effective_properties: Mapping[str, PropertyValue]
    guest_digest: str
    verification: Verification | None
    source_digests: Mapping[str, str]
    attestation_key_id: str
    damaged_stores: tuple[str, ...]
    failure: Failure | None
    operation_id: str
    etag: str
    position: int


@dataclass(frozen=True, slots=True)
class Operation:
    """An attempt to give an image its bytes, and how far it is; ``step`` and ``progress`` are unset when ``done``."""

    id: str
    image_id: str
    kind: OperationKind
    state: OperationState
    done: bool
    step: Step | None
    progress: Progress | None
    failure: Failure | None
    started_at: datetime | None
    ended_at: datetime | None
    position: int


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload: ``committed_size`` bytes are kept; ``complete`` when the image has all of them.

    ``operation_id`` is the operation that the upload becomes once it is finished.
    """

    upload_id: str
    operation_id: str
    image_id: str
    committed_size: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Download:
    """A finished download: ``size`` bytes; ``digest`` (ALGORITHM:HEX) is what was verified, empty if nothing was."""

    image_id: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class ImageEvent:
    """A fact about an image, with its envelope.

    ``position`` is its place in the whole log, ``version`` its place in the image's own history. ``type`` is the last
    token of its subject, such as ``published``, and ``payload`` the fact itself.
    """

    position: int
    version: int
    event_id: str
    image_id: str
    project: str
    time: datetime
    actor: str
    command_id: str
    correlation_id: str
    causation_id: str
    traceparent: str
    previous_hash: str
    hash: str
    type: str
    payload: Event

    @classmethod
    def of(cls, recorded: RecordedEvent) -> ImageEvent:
        """The event that the log recorded."""
        event = recorded.event
        return cls(
            position=recorded.position,
            version=recorded.version,
            event_id=event.event_id,
            image_id=event.image_id,
            project=event.project,
            time=event.time,
            actor=event.context.actor,
            command_id=event.command_id,
            correlation_id=event.context.correlation_id,
            causation_id=event.context.causation_id,
            traceparent=event.context.traceparent,
            previous_hash=recorded.previous_hash,
            hash=recorded.hash,
            type=EVENT_TOKENS[type(event.payload)],
            payload=event.payload,
        )


@dataclass(frozen=True, slots=True)
class PluginState:
    """Whether a deployment does something with imports; ``description`` says what, in one sentence."""

    plugin: ImportPlugin
    enabled: bool
    description: str


@dataclass(frozen=True, slots=True)
class RebuildProgress:
    """How far the new tables are: at ``position`` of ``head``; ``switched`` once they are in use."""

    position: int
    head: int
    images: int
    switched: bool


@dataclass(frozen=True, slots=True)
class LogFault:
    """Where the log is not what was once written."""

    image_id: str
    position: int
    message: str


@dataclass(frozen=True, slots=True)
class LogCheck:
    """What a check of the whole log found: all is well where there are no ``faults``."""

    events: int
    images: int
    head: int
    faults: tuple[LogFault, ...]


@dataclass(frozen=True, slots=True)
class PolicyVerdict:
    """What a project's signature policy says about one of its images: let in with ``verification``, or a ``failure``.

    ``policy`` is the fingerprint of the rules that were applied.
    """

    image_id: str
    project: str
    allowed: bool
    verification: Verification | None
    failure: Failure | None
    policy: str
