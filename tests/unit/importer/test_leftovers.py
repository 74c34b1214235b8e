"""Which bytes may go: races included, nothing that is or may yet be wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from services.importer.sweep_judgement import Kind, SweepLimits, judged
from tintype.domain.errors import AbandonedError
from tintype.domain.events import (
    Event,
    Failure,
    ImageConverted,
    ImageCreated,
    ImageDeleted,
    ImagePublished,
    ImageStaged,
    ImageStepFailed,
    ImageVerified,
    ImportMethod,
    ImportRequested,
    ImportSource,
    RecordedEvent,
    StagePurpose,
    Step,
    Verdict,
    Verification,
)
from tintype.domain.values import Blob, BlobRef, OperationId
from tintype.ports.image_store import StoredBlob
from tintype.testing.events import ATTRIBUTES, CONVERTED_BLOB, STAGED_BLOB, EventBuilder, an_id, an_image_id

IMAGE = an_image_id()
FIRST, SECOND, UNKNOWN = (OperationId(an_id(name)) for name in ("first", "second", "unknown"))
WEB = ImportSource(ImportMethod.WEB_DOWNLOAD, "https://example.org/disk")
DIRECT = ImportSource(ImportMethod.GLANCE_DIRECT)


def ref(operation: OperationId, name: str, image: str = IMAGE) -> BlobRef:
    return BlobRef("default", f"{image}/{operation}/{name}")


def blob(operation: OperationId, name: str, like: Blob = STAGED_BLOB) -> Blob:
    return replace(like, ref=ref(operation, name))


def history(*events: Event) -> list[RecordedEvent]:
    return EventBuilder(IMAGE).recorded([ImageCreated(ATTRIBUTES), *events])


def failed(operation: OperationId, step: Step = Step.STAGE) -> ImageStepFailed:
    return ImageStepFailed(operation, step, Failure(AbandonedError.reason, "x"))


def staged(operation: OperationId, name: str, purpose: StagePurpose = StagePurpose.IMPORT) -> ImageStaged:
    return ImageStaged(operation, purpose, blob(operation, name))


VERIFIED = ImageVerified(FIRST, Verification(Verdict.UNSIGNED))
CONVERTED = ImageConverted(FIRST, blob(FIRST, "output-1", CONVERTED_BLOB), "qemu-img", "7", ())


def leftovers(events: Sequence[RecordedEvent], stored: Sequence[BlobRef]) -> tuple[BlobRef, ...]:
    """What may go at once, however young it is."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    blobs = [StoredBlob(each.key, 1, is_committed=True, modified_at=now) for each in stored]
    kinds = judged(events, "default", blobs, now, SweepLimits(upload_ttl_s=60, orphan_age_s=60, interval_s=60))
    return tuple(BlobRef("default", each.key) for each, kind in kinds.items() if kind is Kind.UNWANTED)


def test_an_image_that_nobody_knows_has_no_leftovers() -> None:
    assert leftovers([], [ref(FIRST, "source-1")]) == ()


def test_the_bytes_of_an_unfinished_upload_are_left_alone() -> None:
    assert leftovers(history(), [ref(UNKNOWN, "source")]) == ()
    assert leftovers(history(ImportRequested(FIRST, WEB), failed(FIRST)), [ref(UNKNOWN, "source")]) == ()


def test_what_a_running_operation_writes_is_left_alone() -> None:
    in_flight = [ref(FIRST, "source-1"), ref(FIRST, "source-2"), ref(FIRST, "output-9")]
    assert leftovers(history(ImportRequested(FIRST, WEB)), in_flight) == ()
    assert leftovers(history(ImportRequested(FIRST, WEB), staged(FIRST, "source-1")), in_flight) == ()


def test_all_that_a_failed_operation_wrote_may_go() -> None:
    written = [ref(FIRST, "source-1"), ref(FIRST, "output-1")]
    events = (ImportRequested(FIRST, WEB), staged(FIRST, "source-1"), VERIFIED, CONVERTED)
    assert set(leftovers(history(*events, failed(FIRST, Step.PUBLISH)), written)) == set(written)


def test_the_bytes_of_a_retry_survive_the_end_of_the_attempt_before() -> None:
    events = (ImportRequested(FIRST, WEB), failed(FIRST), ImportRequested(SECOND, WEB), staged(SECOND, "source-2"))
    stored = [ref(FIRST, "source-1"), ref(SECOND, "source-2"), ref(SECOND, "output-3")]
    assert leftovers(history(*events), stored) == (ref(FIRST, "source-1"),)


def test_a_list_that_is_newer_than_the_history_loses_nothing() -> None:
    # The observer holds the history of a failure, and the user has begun anew meanwhile.
    events = (ImportRequested(FIRST, WEB), failed(FIRST))
    assert leftovers(history(*events), [ref(SECOND, "source-2")]) == ()


def test_of_a_published_image_only_what_was_published_is_wanted() -> None:
    final = blob(FIRST, "output-1", CONVERTED_BLOB)
    events = (
        ImportRequested(FIRST, WEB),
        staged(FIRST, "source-1"),
        VERIFIED,
        CONVERTED,
        ImagePublished(FIRST, final, (final.ref,)),
    )
    stored = [ref(FIRST, "source-1"), ref(FIRST, "output-1"), ref(FIRST, "output-0")]
    assert leftovers(history(*events), stored) == (ref(FIRST, "source-1"), ref(FIRST, "output-0"))


def test_of_a_published_image_no_upload_goes_on() -> None:
    final = blob(FIRST, "source-1")
    running = (ImportRequested(FIRST, WEB), staged(FIRST, "source-1"), VERIFIED)
    upload = ref(UNKNOWN, "source")
    assert leftovers(history(*running), [final.ref, upload]) == ()
    assert leftovers(history(*running, ImagePublished(FIRST, final, (final.ref,))), [final.ref, upload]) == (upload,)


def test_staged_bytes_wait_for_their_import_and_for_nothing_else() -> None:
    first, second = staged(FIRST, "source", StagePurpose.STAGE), staged(SECOND, "source", StagePurpose.STAGE)
    stored = [ref(FIRST, "source"), ref(SECOND, "source")]
    assert leftovers(history(first), stored) == ()
    assert leftovers(history(first, second), stored) == (ref(FIRST, "source"),)


def test_an_import_keeps_the_bytes_that_another_operation_staged_until_it_ends() -> None:
    events = (staged(FIRST, "source", StagePurpose.STAGE), ImportRequested(SECOND, DIRECT))
    assert leftovers(history(*events), [ref(FIRST, "source")]) == ()
    assert leftovers(history(*events, failed(SECOND, Step.VERIFY)), [ref(FIRST, "source")]) == (ref(FIRST, "source"),)


def test_a_deleted_image_wants_nothing_not_even_of_uploads_under_way() -> None:
    stored = [ref(FIRST, "source-1"), ref(UNKNOWN, "source")]
    assert leftovers(history(ImportRequested(FIRST, WEB), ImageDeleted()), stored) == tuple(stored)


def test_the_bytes_of_other_images_are_none_of_its_business() -> None:
    other = ref(FIRST, "source-1", an_image_id("other"))
    assert leftovers(history(ImportRequested(FIRST, WEB), ImageDeleted()), [other]) == ()
