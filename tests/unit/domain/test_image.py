"""The rules of an image's life: given events, when a command, then an event or a refusal."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from tintype.domain import errors
from tintype.domain.attributes import ImageAttributes
from tintype.domain.commands import (
    CancelOperation,
    Command,
    CreateImage,
    DeleteImage,
    RecordAttested,
    RecordConversionSkipped,
    RecordConverted,
    RecordPublished,
    RecordPurged,
    RecordStaged,
    RecordStepFailed,
    RecordVerified,
    RequestImport,
    UpdateImage,
)
from tintype.domain.decide import MAX_VERSION_FOR_CHANGES, decide
from tintype.domain.events import (
    Event,
    EventContext,
    Failure,
    ImageDeleted,
    ImagePublished,
    ImageStaged,
    ImageStepFailed,
    ImageUpdated,
    ImportMethod,
    ImportPlugin,
    ImportSource,
    NewEvent,
    RecordedEvent,
    SkipReason,
    StagePurpose,
    Step,
    Verdict,
    Verification,
)
from tintype.domain.evolve import evolve
from tintype.domain.image import Image, OperationState
from tintype.domain.lifecycle import Status, next_step
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
    ProjectId,
    Received,
)

IMAGE = ImageId("6f1c5a3e-0d0f-4a39-9d43-3f6c0b6f7a01")
FIRST = OperationId("11111111-1111-4111-8111-111111111111")
SECOND = OperationId("22222222-2222-4222-8222-222222222222")
SOURCE = Blob(BlobRef("main", f"{IMAGE}/{FIRST}/source"), 7, {"sha256": "00" * 32}, DiskFormat.QCOW2, 1024, {})
OUTPUT = Blob(BlobRef("main", f"{IMAGE}/{FIRST}/output"), 9, {"sha256": "11" * 32}, DiskFormat.RAW, 1024, {})
UNSIGNED = Verification(Verdict.UNSIGNED)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass
class Life:
    """An image that commands happen to, one a second."""

    image: Image | None = None
    events: list[Event] = field(default_factory=list)

    def does(self, *commands: Command) -> Life:
        for command in commands:
            event = decide(self.image, command)
            self.events.append(event)
            position = len(self.events)
            new = NewEvent(
                IMAGE,
                ProjectId("acme"),
                CommandId(f"c{position}"),
                f"e{position}",
                NOON + timedelta(seconds=position),
                event,
                EventContext("ann", "r", "r"),
            )
            self.image = evolve(self.image, RecordedEvent(new, position, position, "", ""))
        return self

    @property
    def now(self) -> Image:
        assert self.image is not None
        return self.image


CREATE = CreateImage(ImageAttributes(name="disk", disk_format=DiskFormat.QCOW2, container_format=ContainerFormat.BARE))
IMPORT = RequestImport(FIRST, ImportSource(ImportMethod.WEB_DOWNLOAD, "https://example.com/disk"))
STAGED = RecordStaged(FIRST, StagePurpose.IMPORT, SOURCE)
VERIFIED = RecordVerified(FIRST, UNSIGNED)
CONVERTED = RecordConverted(FIRST, OUTPUT, "qemu-img", "7.2", ("convert",))
SKIPPED = RecordConversionSkipped(FIRST, SkipReason.ALREADY_PREFERRED)
ATTESTED = RecordAttested(FIRST, "key", b"{}")
PUBLISHED = RecordPublished(FIRST, (OUTPUT.ref,))
UPLOADED = RecordStaged(FIRST, StagePurpose.UPLOAD, SOURCE)
KEPT = RecordStaged(FIRST, StagePurpose.STAGE, SOURCE)


def test_an_import_goes_through_every_step_in_order() -> None:
    life = Life().does(CREATE, IMPORT)
    steps = [next_step(life.now)]
    for command in (STAGED, VERIFIED, CONVERTED, ATTESTED):
        steps.append(next_step(life.does(command).now))
    assert steps == [Step.STAGE, Step.VERIFY, Step.CONVERT, Step.ATTEST, Step.PUBLISH]
    life.does(PUBLISHED)
    assert next_step(life.now) is None
    assert life.now.status is Status.ACTIVE


def test_a_conversion_changes_the_format_that_users_see_and_keeps_what_it_came_from() -> None:
    image = Life().does(CREATE, IMPORT, STAGED, VERIFIED, CONVERTED, ATTESTED, PUBLISHED).now
    assert image.attributes.disk_format is DiskFormat.RAW
    assert image.data is not None
    assert image.data.blob == OUTPUT
    assert image.data.source == SOURCE
    assert (image.wants(OUTPUT.ref), image.wants(SOURCE.ref)) == (True, False)


def test_without_a_conversion_the_staged_bytes_are_published() -> None:
    life = Life().does(CREATE, IMPORT, STAGED, VERIFIED, SKIPPED, ATTESTED, RecordPublished(FIRST, (SOURCE.ref,)))
    assert life.events[-1] == ImagePublished(FIRST, SOURCE, (SOURCE.ref,))


@pytest.mark.parametrize(
    ("container", "disk_format", "staged", "published"),
    [
        ("bare", "qcow2", "qcow2", ("raw", "bare")),
        ("ovf", "qcow2", "qcow2", ("raw", "ovf")),
        ("ova", "vmdk", "ova", ("raw", "bare")),
        ("ova", "ova", "ova", ("raw", "bare")),
        ("docker", "raw", "docker", ("raw", "bare")),
    ],
)
def test_a_disk_that_was_taken_out_of_an_archive_is_published_bare(
    container: str, disk_format: str, staged: str, published: tuple[str, str]
) -> None:
    create = CreateImage(
        ImageAttributes("x", disk_format=DiskFormat(disk_format), container_format=ContainerFormat(container))
    )
    came = RecordStaged(FIRST, StagePurpose.IMPORT, replace(SOURCE, disk_format=DiskFormat(staged)))
    image = Life().does(create, IMPORT, came, VERIFIED, CONVERTED, ATTESTED, PUBLISHED).now
    assert (image.attributes.disk_format, image.attributes.container_format) == published


def test_an_archive_that_is_not_converted_keeps_its_formats() -> None:
    create = CreateImage(ImageAttributes("x", disk_format=DiskFormat.VMDK, container_format=ContainerFormat.OVA))
    came = RecordStaged(FIRST, StagePurpose.UPLOAD, replace(SOURCE, disk_format=DiskFormat.OVA))
    image = Life().does(create, came, VERIFIED, SKIPPED, ATTESTED, PUBLISHED).now
    assert (image.attributes.disk_format, image.attributes.container_format) == ("vmdk", "ova")


def test_a_conversion_that_changed_the_disk_is_refused() -> None:
    before, after = GuestDigest(f"guest-disk-v1:{'00' * 32}"), GuestDigest(f"guest-disk-v1:{'11' * 32}")
    life = Life().does(CREATE, IMPORT, STAGED, VERIFIED)
    for wrong in (after, None):
        with pytest.raises(errors.ConversionChangedDiskError):
            life.does(replace(CONVERTED, blob=replace(OUTPUT, guest_digest=wrong), source_guest_digest=before))
    same = replace(CONVERTED, blob=replace(OUTPUT, guest_digest=before), source_guest_digest=before)
    image = life.does(same, ATTESTED, PUBLISHED).now
    assert image.data is not None
    assert image.data.blob.guest_digest == before


def test_what_the_converter_read_of_an_image_that_it_left_is_published_with_it() -> None:
    digest = GuestDigest(f"guest-disk-v1:{'00' * 32}")
    staged = replace(STAGED, blob=replace(SOURCE, facts={"a": Fact("staged"), "b": Fact("staged")}))
    read = replace(SKIPPED, facts={"b": Fact("read", "inside")}, guest_digest=digest)
    image = Life().does(CREATE, IMPORT, staged, VERIFIED, read, ATTESTED, PUBLISHED).now
    assert image.facts == {"a": Fact("staged"), "b": Fact("read", "inside")}
    assert image.data is not None
    assert image.data.blob.guest_digest == digest
    assert image.data.source == staged.blob


def test_what_came_before_decompression_stays_with_the_image() -> None:
    received = Received(5, {"sha256": "22" * 32}, "gzip")
    kept = replace(KEPT, received=received, switched_off=(ImportPlugin.CONVERSION,))
    direct = RequestImport(SECOND, ImportSource(ImportMethod.GLANCE_DIRECT))
    life = Life().does(CREATE, kept, direct)
    assert life.now.operation is not None
    assert life.now.operation.switched_off == (ImportPlugin.CONVERSION,)
    skipped, attested = replace(SKIPPED, operation_id=SECOND), replace(ATTESTED, operation_id=SECOND)
    life.does(RecordVerified(SECOND, UNSIGNED), skipped, attested, RecordPublished(SECOND, ()))
    assert life.now.data is not None
    assert life.now.data.received == received


def test_an_upload_begins_its_road_when_its_bytes_are_staged() -> None:
    image = Life().does(CREATE, UPLOADED).now
    assert (image.status, next_step(image)) == (Status.IMPORTING, Step.VERIFY)


def test_staged_bytes_wait_for_an_import_that_uses_them() -> None:
    life = Life().does(CREATE, KEPT)
    assert (life.now.status, next_step(life.now)) == (Status.UPLOADING, None)
    assert life.now.wants(SOURCE.ref)
    life.does(RequestImport(SECOND, ImportSource(ImportMethod.GLANCE_DIRECT)))
    assert next_step(life.now) is Step.VERIFY
    assert life.now.wants(SOURCE.ref)


def direct(size: int | None = None, digest: str = "") -> RequestImport:
    """An import of staged bytes that have to be these."""
    expected = Digest.parse(digest) if digest else None
    return RequestImport(SECOND, ImportSource(ImportMethod.GLANCE_DIRECT, "", size, expected))


GUNZIPPED = replace(KEPT, received=Received(5, {"sha256": "22" * 32}, "gzip"))


@pytest.mark.parametrize(
    ("kept", "asked", "refusal"),
    [
        (KEPT, direct(digest=f"sha256:{'33' * 32}"), errors.DigestMismatchError),
        (KEPT, direct(digest=f"sha512:{'00' * 64}"), errors.InvalidDigestError),
        (KEPT, direct(8), errors.SizeMismatchError),
        (GUNZIPPED, direct(digest=f"sha256:{'00' * 32}"), errors.DigestMismatchError),
        (GUNZIPPED, direct(7), errors.SizeMismatchError),
    ],
    ids=["other bytes", "a digest that was not taken", "another size", "as they are stored", "the size stored"],
)
def test_staged_bytes_that_are_not_those_that_are_expected_are_not_imported(
    kept: RecordStaged, asked: RequestImport, refusal: type[errors.TintypeError]
) -> None:
    life = Life().does(CREATE, kept)
    with pytest.raises(refusal):
        life.does(asked)
    assert life.now.status is Status.UPLOADING


def test_staged_bytes_that_are_expected_are_imported() -> None:
    for kept, asked in ((KEPT, direct(7, f"sha256:{'00' * 32}")), (GUNZIPPED, direct(5, f"sha256:{'22' * 32}"))):
        assert next_step(Life().does(CREATE, kept, asked).now) is Step.VERIFY


def test_a_failure_puts_the_image_back_to_queued_with_the_reason_and_wants_no_bytes() -> None:
    failure = Failure("DIGEST_MISMATCH", "other bytes")
    image = Life().does(CREATE, IMPORT, STAGED, RecordStepFailed(FIRST, Step.VERIFY, failure)).now
    assert (image.status, image.failure, image.wants(SOURCE.ref)) == (Status.QUEUED, failure, False)


def test_a_failed_image_can_be_imported_again() -> None:
    life = Life().does(CREATE, IMPORT, RecordStepFailed(FIRST, Step.STAGE, Failure("X", "y")))
    life.does(RequestImport(SECOND, IMPORT.source))
    assert (life.now.failure, next_step(life.now)) == (None, Step.STAGE)


def test_cancelling_ends_the_operation_and_queues_the_image() -> None:
    life = Life().does(CREATE, IMPORT, STAGED, CancelOperation(FIRST))
    operation = life.now.operation
    assert operation is not None
    assert (life.now.status, operation.state) == (Status.QUEUED, OperationState.CANCELLED)
    assert isinstance(life.events[-1], ImageStepFailed)


def test_deleting_ends_a_running_import_and_asks_for_a_purge() -> None:
    life = Life().does(CREATE, IMPORT, STAGED, DeleteImage())
    assert (next_step(life.now), life.now.wants(SOURCE.ref)) == (Step.PURGE, False)
    life.does(RecordPurged())
    assert next_step(life.now) is None


FAILED = RecordStepFailed(FIRST, Step.STAGE, Failure("X", "y"))
LATE = [STAGED, VERIFIED, CONVERTED, SKIPPED, ATTESTED, PUBLISHED, FAILED]


@pytest.mark.parametrize("late", LATE, ids=lambda command: type(command).__name__)
def test_a_result_that_comes_after_a_cancellation_is_stale(late: Command) -> None:
    life = Life().does(CREATE, IMPORT, CancelOperation(FIRST))
    with pytest.raises(errors.StaleStepError):
        life.does(late)


def test_a_result_of_an_older_operation_is_stale() -> None:
    life = Life().does(CREATE, IMPORT, CancelOperation(FIRST), RequestImport(SECOND, IMPORT.source))
    with pytest.raises(errors.StaleStepError):
        life.does(STAGED)


def test_a_step_cannot_be_recorded_twice() -> None:
    with pytest.raises(errors.StaleStepError):
        Life().does(CREATE, IMPORT, STAGED, STAGED)


ACTIVE = (CREATE, UPLOADED, VERIFIED, SKIPPED, ATTESTED, RecordPublished(FIRST, (SOURCE.ref,)))
RENAME = UpdateImage(ImageAttributes(name="other"), ("name",))


@pytest.mark.parametrize(
    ("given", "command", "refusal"),
    [
        ((), RENAME, errors.ImageNotFoundError),
        ((CREATE,), CREATE, errors.ImageExistsError),
        ((CREATE, DeleteImage()), CREATE, errors.ImageExistsError),
        ((CREATE, DeleteImage()), RENAME, errors.ImageNotFoundError),
        ((CREATE, DeleteImage()), DeleteImage(), errors.ImageNotFoundError),
        ((CREATE,), DeleteImage(etag='"7"'), errors.EtagMismatchError),
        ((CREATE,), UpdateImage(ImageAttributes(), ("name",), '"0"'), errors.EtagMismatchError),
        ((CREATE,), UpdateImage(ImageAttributes(), ("status",)), errors.InvalidUpdateMaskError),
        ((CREATE,), UpdateImage(ImageAttributes(), ("name.x",)), errors.InvalidUpdateMaskError),
        ((CREATE, IMPORT), IMPORT, errors.ImageBusyError),
        ((CREATE, IMPORT), UPLOADED, errors.ImageBusyError),
        ((CREATE, KEPT), IMPORT, errors.ImageBusyError),
        ((CREATE, KEPT), UPLOADED, errors.ImageBusyError),
        ((CREATE,), RequestImport(FIRST, ImportSource(ImportMethod.GLANCE_DIRECT)), errors.NothingStagedError),
        (ACTIVE, IMPORT, errors.ImageHasDataError),
        (ACTIVE, UPLOADED, errors.ImageHasDataError),
        (ACTIVE, CancelOperation(FIRST), errors.OperationDoneError),
        (ACTIVE, CancelOperation(SECOND), errors.OperationNotFoundError),
        (ACTIVE, UpdateImage(ImageAttributes(disk_format=DiskFormat.VDI), ("disk_format",)), errors.FormatFixedError),
        (
            ACTIVE,
            UpdateImage(ImageAttributes(properties={"img_signature": "x"}), ("properties",)),
            errors.SignaturePropertiesFixedError,
        ),
        ((CreateImage(ImageAttributes()),), IMPORT, errors.FormatMissingError),
        ((CreateImage(ImageAttributes(protected=True)),), DeleteImage(), errors.ImageProtectedError),
    ],
)
def test_what_is_not_allowed_is_refused_with_its_reason(
    given: tuple[Command, ...], command: Command, refusal: type[errors.TintypeError]
) -> None:
    life = Life().does(*given)
    with pytest.raises(refusal):
        life.does(command)


def test_bytes_of_another_format_than_is_declared_by_now_are_refused() -> None:
    change = UpdateImage(ImageAttributes(disk_format=DiskFormat.RAW), ("disk_format",))
    with pytest.raises(errors.FormatMismatchError):
        Life().does(CREATE, change, UPLOADED)


def test_a_history_takes_no_further_changes_when_it_is_full_but_what_began_may_end() -> None:
    life = Life().does(CREATE, IMPORT)
    full = replace(life.now, version=MAX_VERSION_FOR_CHANGES)
    for change in (RENAME, IMPORT, KEPT, UPLOADED):
        with pytest.raises(errors.HistoryFullError):
            decide(replace(full, status=Status.QUEUED), change)
    assert isinstance(decide(full, STAGED), ImageStaged)
    assert isinstance(decide(full, DeleteImage()), ImageDeleted)


def test_an_update_keeps_what_its_mask_does_not_name() -> None:
    life = Life().does(CREATE, RENAME)
    assert life.events[-1] == ImageUpdated(life.now.attributes, ("name",))
    assert life.now.attributes.disk_format is DiskFormat.QCOW2


def test_one_property_is_set_and_another_removed_through_the_mask() -> None:
    life = Life().does(
        CREATE,
        UpdateImage(ImageAttributes(properties={"a": "1", "b": "2"}), ("properties",)),
        UpdateImage(ImageAttributes(properties={"b": "3"}), ("properties.a", "properties.b")),
    )
    assert life.now.attributes.properties == {"b": "3"}


def test_a_protected_image_can_be_deleted_once_it_is_not_protected_any_more() -> None:
    life = Life().does(CreateImage(ImageAttributes(protected=True)))
    life.does(UpdateImage(ImageAttributes(protected=False), ("protected",)), DeleteImage())
    assert isinstance(life.events[-1], ImageDeleted)
