"""The rules of copies in several stores, and of deletions that wait."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.domain.test_image import (
    ATTESTED,
    CONVERTED,
    CREATE,
    FIRST,
    IMPORT,
    KEPT,
    NOON,
    OUTPUT,
    PUBLISHED,
    SECOND,
    SOURCE,
    STAGED,
    UNSIGNED,
    UPLOADED,
    VERIFIED,
    Life,
)
from tintype.domain import errors
from tintype.domain.commands import (
    CancelOperation,
    Command,
    DeleteImage,
    ExpireImage,
    RecordAttested,
    RecordConversionSkipped,
    RecordCopyDamaged,
    RecordPlaced,
    RecordPublished,
    RecordPurged,
    RecordStaged,
    RecordStepFailed,
    RecordVerified,
    RemoveCopy,
    RequestCopy,
    RequestImport,
    RestoreImage,
)
from tintype.domain.decide import MAX_VERSION_FOR_CHANGES
from tintype.domain.events import FailedStore, Failure, ImportMethod, ImportSource, SkipReason, StagePurpose, Step
from tintype.domain.image import ImageData, OperationKind, OperationState
from tintype.domain.lifecycle import Status, missing_stores, next_step
from tintype.domain.values import BlobRef, Digest, Placement

EVERYWHERE = Placement(("main", "second", "third"))
SECOND_OUTPUT = BlobRef("second", OUTPUT.ref.key)
FULL = FailedStore("third", Failure("STORE_FULL", "no room"))
LATER = NOON + timedelta(days=1)


def data_of(life: Life) -> ImageData:
    assert life.now.data is not None
    return life.now.data


def active() -> Life:
    return Life().does(CREATE, IMPORT, STAGED, VERIFIED, CONVERTED, ATTESTED, PUBLISHED)


def test_what_shall_be_in_several_stores_is_placed_before_it_is_published() -> None:
    life = Life().does(CREATE, IMPORT, replace(STAGED, placement=EVERYWHERE), VERIFIED, CONVERTED, ATTESTED)
    assert next_step(life.now) is Step.PLACE
    assert life.now.operation is not None
    assert missing_stores(life.now.operation) == ("second", "third")
    assert life.now.wants(SECOND_OUTPUT)  # it may be on its way there
    life.does(RecordPlaced(FIRST, (SECOND_OUTPUT,), (FULL,)))
    assert next_step(life.now) is Step.PUBLISH
    life.does(RecordPublished(FIRST, (OUTPUT.ref, SECOND_OUTPUT)))
    assert data_of(life).locations == (OUTPUT.ref, SECOND_OUTPUT)
    assert data_of(life).failed_stores == (FULL,)


def test_what_an_upload_wrote_everywhere_at_once_needs_no_placing() -> None:
    second = BlobRef("second", SOURCE.ref.key)
    uploaded = replace(UPLOADED, placement=EVERYWHERE, copies=(second,), failed=(FULL,))
    life = Life().does(CREATE, uploaded)
    assert life.now.wants(second)
    life.does(VERIFIED, RecordConversionSkipped(FIRST, SkipReason.NOT_AN_IMPORT), ATTESTED)
    assert next_step(life.now) is Step.PUBLISH


def test_copies_of_what_was_converted_are_none_of_the_final_bytes() -> None:
    staged = replace(STAGED, placement=EVERYWHERE, copies=(BlobRef("second", SOURCE.ref.key),))
    life = Life().does(CREATE, IMPORT, staged, VERIFIED, CONVERTED, ATTESTED)
    assert life.now.operation is not None
    assert missing_stores(life.now.operation) == ("second", "third")
    life.does(RecordPlaced(FIRST, (SECOND_OUTPUT, BlobRef("third", OUTPUT.ref.key))))
    assert life.now.operation.copies == (SECOND_OUTPUT, BlobRef("third", OUTPUT.ref.key))


def direct(placement: Placement, kept: RecordStaged = KEPT) -> Life:
    """Staged bytes whose import says where they shall be, right before they are there."""
    life = Life().does(CREATE, kept, RequestImport(SECOND, ImportSource(ImportMethod.GLANCE_DIRECT), placement))
    skipped = RecordConversionSkipped(SECOND, SkipReason.ALREADY_PREFERRED)
    return life.does(RecordVerified(SECOND, UNSIGNED), skipped, RecordAttested(SECOND, "key", b"{}"))


def test_an_import_of_staged_bytes_may_say_where_they_shall_be() -> None:
    life = direct(Placement(("second",)), replace(KEPT, placement=EVERYWHERE))
    assert life.now.operation is not None
    assert missing_stores(life.now.operation) == ("second",)
    assert next_step(life.now) is Step.PLACE
    life.does(RecordPlaced(SECOND, (BlobRef("second", SOURCE.ref.key),)))
    assert next_step(life.now) is Step.PUBLISH


@pytest.mark.parametrize("named", [(), ("main",)])
def test_what_all_stores_are_is_found_where_bytes_are_written(named: tuple[str, ...]) -> None:
    life = direct(Placement(named, in_all=True))
    assert next_step(life.now) is Step.PLACE  # though no store that is named lacks them
    life.does(RecordPlaced(SECOND, (BlobRef("second", SOURCE.ref.key),), (FULL,)))
    assert next_step(life.now) is Step.PUBLISH


def test_an_import_of_staged_bytes_that_says_nothing_leaves_them_where_their_upload_wanted_them() -> None:
    life = direct(Placement(), replace(KEPT, placement=EVERYWHERE))
    assert life.now.operation is not None
    assert missing_stores(life.now.operation) == ("second", "third")
    assert next_step(direct(Placement()).now) is Step.PUBLISH


def test_that_all_must_succeed_alone_says_nothing_of_where_bytes_shall_be() -> None:
    life = direct(Placement(all_must_succeed=True), replace(KEPT, placement=EVERYWHERE))
    assert life.now.operation is not None
    assert life.now.operation.placement == EVERYWHERE


def test_an_active_image_is_copied_and_stays_active() -> None:
    life = active().does(RequestCopy(SECOND, Placement(("second", "third"))))
    operation = life.now.operation
    assert operation is not None
    assert (life.now.status, next_step(life.now), operation.kind) == (Status.ACTIVE, Step.PLACE, OperationKind.COPY)
    assert life.now.wants(SECOND_OUTPUT)
    with pytest.raises(errors.ImageBusyError):
        life.does(RequestCopy(FIRST, Placement(("third",))))
    life.does(RecordPlaced(SECOND, (SECOND_OUTPUT,), (FULL,)))
    assert data_of(life).locations == (OUTPUT.ref, SECOND_OUTPUT)
    assert data_of(life).failed_stores == (FULL,)
    assert next_step(life.now) is None
    assert life.now.operation is not None
    assert life.now.operation.state is OperationState.SUCCEEDED


def test_a_later_copy_takes_a_store_off_the_failed_ones() -> None:
    life = active().does(RequestCopy(SECOND, Placement(("second", "third"))))
    life.does(RecordPlaced(SECOND, (SECOND_OUTPUT,), (FULL,)), RequestCopy(FIRST, Placement(("third",))))
    life.does(RecordPlaced(FIRST, (BlobRef("third", OUTPUT.ref.key),)))
    assert data_of(life).failed_stores == ()


def test_a_copy_that_fails_leaves_the_image_active_and_wants_no_bytes_of_it() -> None:
    life = active().does(RequestCopy(SECOND, Placement(("second",))))
    life.does(RecordStepFailed(SECOND, Step.PLACE, FULL.failure))
    assert (life.now.status, life.now.failure) == (Status.ACTIVE, FULL.failure)
    assert not life.now.wants(SECOND_OUTPUT)
    assert data_of(life).locations == (OUTPUT.ref,)


def test_a_copy_into_stores_that_have_one_is_refused() -> None:
    with pytest.raises(errors.CopyExistsError):
        active().does(RequestCopy(SECOND, Placement(("main",))))


def test_an_image_without_bytes_is_not_copied() -> None:
    with pytest.raises(errors.ImageHasNoDataError):
        Life().does(CREATE, RequestCopy(SECOND, Placement(("second",))))


def test_one_copy_can_be_given_up_and_never_the_last_sound_one() -> None:
    life = active()
    with pytest.raises(errors.LastCopyError):
        life.does(RemoveCopy("main"))
    with pytest.raises(errors.CopyNotFoundError):
        life.does(RemoveCopy("second"))
    life.does(RequestCopy(SECOND, Placement(("second",))), RecordPlaced(SECOND, (SECOND_OUTPUT,)))
    life.does(RecordCopyDamaged(SECOND_OUTPUT, Digest("sha256", "11" * 32), None))
    with pytest.raises(errors.LastCopyError):  # the other one is damaged
        life.does(RemoveCopy("main"))
    life.does(RemoveCopy("second"))
    assert (data_of(life).locations, data_of(life).damaged) == ((OUTPUT.ref,), ())
    assert not life.now.wants(SECOND_OUTPUT)


def test_a_deletion_that_waits_keeps_the_bytes_and_can_be_undone() -> None:
    life = active().does(DeleteImage(purge_after=LATER))
    assert (life.now.status, next_step(life.now), life.now.wants(OUTPUT.ref)) == (Status.DELETED, None, True)
    life.does(RestoreImage(NOON))
    assert (life.now.status, life.now.wants(OUTPUT.ref), life.now.can_be_restored) == (Status.ACTIVE, True, False)


def test_an_image_without_bytes_is_restored_to_wait_for_them() -> None:
    life = Life().does(CREATE, IMPORT, STAGED, DeleteImage(purge_after=LATER))
    assert not life.now.wants(SOURCE.ref)  # the import is over
    assert life.does(RestoreImage(NOON)).now.status is Status.QUEUED


def test_once_the_delay_has_passed_the_bytes_go_and_nothing_is_restored() -> None:
    life = active().does(DeleteImage(purge_after=LATER), ExpireImage())
    assert (next_step(life.now), life.now.wants(OUTPUT.ref)) == (Step.PURGE, False)
    with pytest.raises(errors.RestoreTooLateError):
        life.does(RestoreImage(NOON))
    life.does(RecordPurged())
    assert next_step(life.now) is None


@pytest.mark.parametrize("command", [RestoreImage(NOON), ExpireImage()])
def test_what_is_not_deleted_or_is_deleted_at_once_is_not_restored(command: RestoreImage | ExpireImage) -> None:
    with pytest.raises(errors.ImageNotDeletedError):
        active().does(command)
    with pytest.raises(errors.ImageNotDeletedError):
        active().does(DeleteImage(), command)


def test_what_comes_too_late_is_not_restored_though_nobody_has_noted_the_end() -> None:
    life = active().does(DeleteImage(purge_after=LATER))
    for at in (LATER, LATER + timedelta(days=1)):
        with pytest.raises(errors.RestoreTooLateError):
            life.does(RestoreImage(at))
    assert life.does(RestoreImage(LATER - timedelta(microseconds=1))).now.status is Status.ACTIVE


def test_a_deletion_does_not_end_before_its_time() -> None:
    life = active().does(DeleteImage(purge_after=LATER))
    with pytest.raises(errors.StaleStepError):
        life.does(ExpireImage(LATER - timedelta(microseconds=1)))
    assert next_step(life.does(ExpireImage(LATER)).now) is Step.PURGE


def test_the_delay_of_a_deletion_can_be_cut_short() -> None:
    life = active().does(DeleteImage(purge_after=LATER))
    with pytest.raises(errors.ImageNotFoundError):
        life.does(DeleteImage())
    with pytest.raises(errors.EtagMismatchError):
        life.does(DeleteImage('"1"', skip_delay=True))
    assert next_step(life.does(DeleteImage(skip_delay=True)).now) is Step.PURGE
    with pytest.raises(errors.ImageNotFoundError):
        life.does(DeleteImage(skip_delay=True))


def test_a_deletion_without_a_delay_is_final_at_once() -> None:
    life = active().does(DeleteImage(skip_delay=True))
    assert next_step(life.now) is Step.PURGE
    with pytest.raises(errors.RestoreTooLateError):
        life.does(RestoreImage(NOON))


def test_a_restored_image_may_be_deleted_again_with_a_delay_of_its_own() -> None:
    life = active().does(DeleteImage(purge_after=LATER), RestoreImage(NOON))
    life.does(DeleteImage(purge_after=LATER + timedelta(days=1)))
    with pytest.raises(errors.StaleStepError):
        life.does(ExpireImage(LATER))
    assert life.does(RestoreImage(LATER)).now.status is Status.ACTIVE


def test_a_copy_that_a_deletion_ends_stays_ended_when_the_image_is_restored() -> None:
    life = active().does(RequestCopy(SECOND, Placement(("second",))), DeleteImage(purge_after=LATER))
    assert not life.now.wants(SECOND_OUTPUT)
    life.does(RestoreImage(NOON))
    assert life.now.operation is not None
    assert (life.now.status, life.now.operation.state) == (Status.ACTIVE, OperationState.CANCELLED)
    assert next_step(life.now) is None


def test_staged_bytes_that_waited_for_an_import_do_not_come_back() -> None:
    staged = replace(UPLOADED, purpose=StagePurpose.STAGE)
    life = Life().does(CREATE, staged, DeleteImage(purge_after=LATER), RestoreImage(NOON))
    assert (life.now.status, life.now.wants(SOURCE.ref)) == (Status.QUEUED, False)


def test_a_copy_is_cancelled_and_the_image_stays_active() -> None:
    life = active().does(RequestCopy(SECOND, Placement(("second",))), CancelOperation(SECOND))
    assert life.now.operation is not None
    assert (life.now.status, life.now.operation.state) == (Status.ACTIVE, OperationState.CANCELLED)
    assert not life.now.wants(SECOND_OUTPUT)


def test_deleting_and_restoring_makes_no_history_without_end() -> None:
    life = Life().does(CREATE)
    rounds: list[Command] = [DeleteImage(purge_after=LATER), RestoreImage(NOON)] * MAX_VERSION_FOR_CHANGES
    with pytest.raises(errors.HistoryFullError):
        life.does(*rounds)
    life.does(ExpireImage())
    assert next_step(life.now) is Step.PURGE
