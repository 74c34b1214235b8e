"""Builders of events and histories: the same arguments make the same event, byte for byte."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from tintype.codec import cloudevents
from tintype.domain.attributes import ImageAttributes
from tintype.domain.events import (
    EVENT_TOKENS,
    ConversionSkipped,
    CopyDamaged,
    CopyHealed,
    CopyRemoved,
    CopyRequested,
    Event,
    EventContext,
    FailedStore,
    Failure,
    ImageAttested,
    ImageConverted,
    ImageCreated,
    ImageDeleted,
    ImageExpired,
    ImagePlaced,
    ImagePublished,
    ImagePurged,
    ImageRestored,
    ImageStaged,
    ImageStepFailed,
    ImageUpdated,
    ImageVerified,
    ImportMethod,
    ImportPlugin,
    ImportRequested,
    ImportSource,
    NewEvent,
    Origin,
    RecordedEvent,
    SandboxKind,
    SandboxProfile,
    SignedChecksums,
    SkipReason,
    StagePurpose,
    Step,
    Verdict,
    Verification,
    VerificationEvidence,
)
from tintype.domain.values import (
    Blob,
    BlobRef,
    CommandId,
    ContainerFormat,
    Digest,
    DiskFormat,
    Fact,
    GuestDigest,
    ImageId,
    OperationId,
    Placement,
    ProjectId,
    Received,
    Visibility,
)
from tintype.testing.clock import FakeClock

PROJECT = ProjectId("demo")
_NAMESPACE = uuid.UUID("6f2f0a5e-6a52-4d35-9a0c-3d1f0f4a7c11")


def an_id(name: str) -> str:
    """A UUID that stands for ``name``."""
    return str(uuid.uuid5(_NAMESPACE, name))


def an_image_id(name: str = "image") -> ImageId:
    """The image id that stands for ``name``."""
    return ImageId(an_id(name))


OPERATION = OperationId(an_id("operation"))

ATTRIBUTES = ImageAttributes(
    name="Debian 13 – «trixie» 💿",
    visibility=Visibility.PUBLIC,
    disk_format=DiskFormat.QCOW2,
    container_format=ContainerFormat.BARE,
    min_disk=4,
    min_ram=512,
    protected=False,
    hidden=True,
    tags=("debian", "lts"),
    properties={"os_distro": "debian", "hw_cpu_cores": 2, "hw_qemu_guest_agent": True, "note": "a\nb"},
)

STAGED_BLOB = Blob(
    ref=BlobRef("default", "staged/1"),
    size=1_234_567,
    digests={"sha256": "ab" * 32, "sha512": "cd" * 64},
    disk_format=DiskFormat.QCOW2,
    virtual_size=4 * 1024**3,
    facts={"compression": Fact("zlib"), "cluster_size": Fact("65536")},
)

CONVERTED_BLOB = Blob(
    ref=BlobRef("default", "converted/1"),
    size=4 * 1024**3,
    digests={"sha256": "ef" * 32},
    disk_format=DiskFormat.RAW,
    virtual_size=4 * 1024**3,
    facts={},
)

CREATED = ImageCreated(ATTRIBUTES)

IMPORT_ROAD: tuple[Event, ...] = (
    CREATED,
    ImportRequested(
        OPERATION,
        ImportSource(
            ImportMethod.WEB_DOWNLOAD, "https://example.org/a%20b.qcow2", 1_234_567, Digest("sha256", "ab" * 32)
        ),
    ),
    ImageStaged(OPERATION, StagePurpose.IMPORT, STAGED_BLOB),
    ImageVerified(
        OPERATION,
        Verification(
            Verdict.SIGNED, Digest("sha256", "ab" * 32), an_id("certificate"), "12" * 32, "CN=Publisher", "RSA-PSS"
        ),
    ),
    ImageConverted(OPERATION, CONVERTED_BLOB, "qemu-img", "7.2.0", ("convert", "-f", "qcow2", "-O", "raw")),
    ImageAttested(OPERATION, "key-1", b'{"payload": "e30=", "payloadType": "text/plain", "signatures": []}'),
    ImagePublished(OPERATION, CONVERTED_BLOB, (BlobRef("default", "images/1"), BlobRef("second", "images/1"))),
)
"""All events of an image that was imported and converted, from its creation until it is active."""

_FULL = FailedStore("fourth", Failure("STORE_FULL", "store 'fourth' has no room left", "Make room.", True))

EVERY_EVENT: dict[str, Event] = {
    EVENT_TOKENS[type(event)]: event
    for event in (
        *IMPORT_ROAD,
        ImageUpdated(ATTRIBUTES, ("name", "properties")),
        ConversionSkipped(OPERATION, SkipReason.ALREADY_PREFERRED),
        ImageStepFailed(
            OPERATION, Step.STAGE, Failure("SOURCE_UNREACHABLE", "example.org does not answer", "Try again.", True)
        ),
        CopyDamaged(BlobRef("second", "images/1"), Digest("sha256", "ef" * 32), Digest("sha256", "98" * 32)),
        CopyHealed(BlobRef("second", "images/1"), "default"),
        CopyRequested(OPERATION, Placement(("third", "fourth"), all_must_succeed=True)),
        ImagePlaced(OPERATION, (BlobRef("third", "images/1"),), (_FULL,)),
        CopyRemoved(BlobRef("second", "images/1")),
        ImageDeleted(),
        ImageRestored(with_data=True),
        ImageExpired(),
        ImagePurged(),
    )
}
"""One event of each type, by its token."""


GUEST_DIGEST = GuestDigest(f"guest-disk-v1:{'34' * 32}")

READ_FACTS = {
    "hw_firmware_type": Fact("uefi", "GPT entry 1: an EFI system partition"),
    "min_disk": Fact(4, "the virtual size, in GiB, rounded up"),
    "os_distro": Fact("debian", "/etc/os-release of partition 2"),
    "qcow2_lazy_refcounts": Fact(False, "qcow2 header, bytes 80-87"),
    "qcow2_version": Fact(3, "qcow2 header, bytes 4-7"),
}

_READ_BLOB = replace(STAGED_BLOB, facts=READ_FACTS, guest_digest=GUEST_DIGEST)
_OVERRIDDEN = replace(
    ATTRIBUTES, overrides={"hw_cpu_cores": 4, "hw_qemu_guest_agent": False, "min_disk": 20, "os_distro": "ubuntu"}
)

VARIANTS: dict[str, Event] = {
    "created.overrides": ImageCreated(_OVERRIDDEN),
    "updated.overrides": ImageUpdated(_OVERRIDDEN, ("overrides",)),
    "staged.decompressed": ImageStaged(
        OPERATION,
        StagePurpose.STAGE,
        _READ_BLOB,
        Received(345_678, {"sha256": "56" * 32}, "zstd"),
        {"note": "imported here", "hw_cpu_cores": 2, "hw_boot_menu": True},
        (ImportPlugin.DECOMPRESSION, ImportPlugin.CONVERSION, ImportPlugin.INTROSPECTION, ImportPlugin.INJECTION),
    ),
    "converted.guest-digest": ImageConverted(
        OPERATION,
        replace(CONVERTED_BLOB, facts=READ_FACTS, guest_digest=GUEST_DIGEST),
        "tintype",
        "0.3.0",
        ("raw",),
        GUEST_DIGEST,
    ),
    "converted.sandbox": ImageConverted(
        OPERATION,
        CONVERTED_BLOB,
        "qemu-img",
        "7.2.0",
        ("convert", "-p"),
        GUEST_DIGEST,
        SandboxProfile(SandboxKind.BUBBLEWRAP, {"cpu_s": 7200}, is_seccomp_filtered=True),
    ),
    "conversion_skipped.facts": ConversionSkipped(OPERATION, SkipReason.DISABLED, READ_FACTS, GUEST_DIGEST),
    "import_requested.checksums": ImportRequested(
        OPERATION,
        ImportSource(
            ImportMethod.WEB_DOWNLOAD,
            "https://example.org/a.qcow2",
            checksums=SignedChecksums("https://example.org/SUMS", "https://example.org/SUMS.sign", b"\x99\x01"),
        ),
    ),
    "staged.origin": ImageStaged(
        OPERATION,
        StagePurpose.IMPORT,
        _READ_BLOB,
        origin=Origin(
            "https://example.org/a.qcow2", Digest("sha256", "ab" * 32), "https://example.org/SUMS", "0A" * 20
        ),
    ),
    "verified.evidence": ImageVerified(
        OPERATION, Verification(Verdict.UNSIGNED), VerificationEvidence("78" * 32, (b"\x30\x01", b"\x30\x02"))
    ),
    "step_failed.evidence": ImageStepFailed(
        OPERATION, Step.VERIFY, Failure("SIGNER_NOT_ALLOWED", "no", "Sign.", evidence={"fingerprint": "12" * 32})
    ),
    "copy_damaged.unreadable": CopyDamaged(BlobRef("second", "images/1"), Digest("sha256", "ef" * 32), None),
    "import_requested.placement": ImportRequested(
        OPERATION, ImportSource(ImportMethod.GLANCE_DIRECT), Placement(("second",), in_all=True)
    ),
    "staged.placement": ImageStaged(
        OPERATION,
        StagePurpose.UPLOAD,
        STAGED_BLOB,
        placement=Placement(("default", "second", "fourth")),
        copies=(BlobRef("second", STAGED_BLOB.ref.key),),
        failed=(_FULL,),
    ),
    "deleted.delayed": ImageDeleted(datetime(2027, 1, 2, 3, 4, 5, 678_000, UTC)),
    "published.facts": ImagePublished(OPERATION, _READ_BLOB, (STAGED_BLOB.ref,)),
}
"""Events with all that later releases have added to them, by their token and what that is."""


@dataclass(slots=True)
class EventBuilder:
    """Makes the events of one image, one second after the other; every command has its own id."""

    image_id: ImageId = field(default_factory=an_image_id)
    project: ProjectId = PROJECT
    clock: FakeClock = field(default_factory=FakeClock)
    _made: int = 0

    def new(
        self, payload: Event = CREATED, *, command: str | None = None, actor: str = "user:Zoë <z@example>"
    ) -> NewEvent:
        """The next event; ``command`` is its command id where the test cares."""
        self._made += 1
        name = f"{self.image_id}/{self._made}"
        self.clock.advance(1)
        return NewEvent(
            image_id=self.image_id,
            project=self.project,
            command_id=CommandId(command or an_id(f"command {name}")),
            event_id=an_id(f"event {name}"),
            time=self.clock.now(),
            payload=payload,
            context=EventContext(
                actor=actor,
                correlation_id=an_id("correlation"),
                causation_id=an_id("causation"),
                traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ),
        )

    def recorded(self, payloads: Iterable[Event] = IMPORT_ROAD, *, position: int = 1) -> list[RecordedEvent]:
        """A whole history, as a log would have recorded it from ``position`` on without a gap."""
        history: list[RecordedEvent] = []
        for payload in payloads:
            history.append(record(self.new(payload), history, position=position + len(history)))
        return history


def record(event: NewEvent, history: Sequence[RecordedEvent] = (), *, position: int = 1) -> RecordedEvent:
    """The event as a log records it at ``position`` behind ``history``."""
    version, previous_hash = (history[-1].version + 1, history[-1].hash) if history else (1, "")
    message = cloudevents.encode(event, version=version, previous_hash=previous_hash)
    return RecordedEvent(event, version, position, previous_hash, message.hash)
