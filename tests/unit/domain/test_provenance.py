"""Which events of a history lead to an image's bytes, and what is told of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tintype.domain.errors import ImageHasNoDataError
from tintype.domain.events import (
    ConversionSkipped,
    Event,
    Failure,
    ImageAttested,
    ImageConverted,
    ImageCreated,
    ImagePublished,
    ImageStaged,
    ImageStepFailed,
    ImageUpdated,
    ImageVerified,
    ImportMethod,
    ImportRequested,
    ImportSource,
    SkipReason,
    StagePurpose,
    Step,
    Verdict,
    Verification,
    VerificationEvidence,
)
from tintype.domain.provenance import Provenance, Road, provenance_of, road_of
from tintype.domain.values import OperationId, Received
from tintype.testing.events import (
    ATTRIBUTES,
    CONVERTED_BLOB,
    GUEST_DIGEST,
    OPERATION,
    STAGED_BLOB,
    EventBuilder,
    an_id,
)

CREATED = ImageCreated(replace(ATTRIBUTES, properties={**ATTRIBUTES.properties, "img_signature": "c2ln"}))
REQUESTED = ImportRequested(OPERATION, ImportSource(ImportMethod.WEB_DOWNLOAD, "https://example.org/a"))
STAGED = ImageStaged(OPERATION, StagePurpose.IMPORT, STAGED_BLOB)
VERIFIED = ImageVerified(OPERATION, Verification(Verdict.UNSIGNED), VerificationEvidence("78" * 32, (b"der",)))
CONVERTED = ImageConverted(OPERATION, CONVERTED_BLOB, "qemu-img", "7.2.0", (), GUEST_DIGEST)
SKIPPED = ConversionSkipped(OPERATION, SkipReason.DISABLED, {}, GUEST_DIGEST)
ATTESTED = ImageAttested(OPERATION, "key-1", b"{}")
PUBLISHED = ImagePublished(OPERATION, CONVERTED_BLOB, (CONVERTED_BLOB.ref,))
ROAD: tuple[Event, ...] = (CREATED, REQUESTED, STAGED, VERIFIED, CONVERTED, ATTESTED, PUBLISHED)


def road(*events: Event) -> Road:
    return road_of(EventBuilder().recorded(events))


def provenance(*events: Event) -> Provenance:
    return provenance_of(EventBuilder().recorded(events))


def test_a_road_goes_from_what_was_sent_to_what_is_published() -> None:
    found = road(*ROAD[:5])
    assert (found.operation_id, found.method) == (OPERATION, "web-download")
    assert (found.sent.digests, found.published.digests) == (STAGED_BLOB.digests, CONVERTED_BLOB.digests)
    assert found.sent.guest_digest == GUEST_DIGEST
    assert found.signature_properties == {"img_signature": "c2ln"}


def test_the_provenance_has_what_the_log_has() -> None:
    found = provenance(*ROAD)
    assert (found.attestation, found.attestation_key_id, found.certificates) == (b"{}", "key-1", (b"der",))


def test_what_is_not_converted_is_published_as_it_was_sent() -> None:
    found = road(CREATED, REQUESTED, STAGED, VERIFIED, SKIPPED)
    assert found.sent == found.published
    assert found.published.guest_digest == GUEST_DIGEST


def test_a_signature_covers_what_came_and_not_what_was_decompressed() -> None:
    received = Received(7, {"sha256": "56" * 32}, "gzip")
    found = road(CREATED, REQUESTED, replace(STAGED, received=received), VERIFIED, SKIPPED)
    assert (found.sent.size, found.sent.digests, found.sent.compression) == (7, received.digests, "gzip")
    assert found.sent.disk_format is None
    assert found.published.digests == STAGED_BLOB.digests


def test_bytes_that_were_staged_before_their_import_are_on_its_road() -> None:
    kept = OperationId(an_id("staging"))
    direct = ImportRequested(OPERATION, ImportSource(ImportMethod.GLANCE_DIRECT))
    found = road(CREATED, replace(STAGED, operation_id=kept, purpose=StagePurpose.STAGE), direct, VERIFIED, CONVERTED)
    assert (found.operation_id, found.method) == (OPERATION, "glance-direct")
    assert found.sent.digests == STAGED_BLOB.digests


def test_an_upload_is_a_road_without_a_request() -> None:
    uploaded = replace(STAGED, purpose=StagePurpose.UPLOAD)
    assert road(CREATED, uploaded, VERIFIED, SKIPPED).method == "upload"


def test_what_failed_before_is_on_no_road() -> None:
    failed = ImageStepFailed(OPERATION, Step.PUBLISH, Failure("STORE_FULL", "full"))
    again = OperationId(an_id("again"))
    other = replace(STAGED_BLOB, digests={"sha256": "99" * 32})
    second = (
        replace(REQUESTED, operation_id=again),
        replace(STAGED, operation_id=again, blob=other),
        replace(VERIFIED, operation_id=again),
        replace(SKIPPED, operation_id=again),
    )
    found = road(*ROAD[:6], failed, *second)
    assert (found.operation_id, found.sent.digests) == (again, other.digests)
    published = replace(PUBLISHED, operation_id=again, blob=other)
    assert provenance(*ROAD[:6], failed, *second, published).attestation == b""


def test_changes_by_users_are_no_part_of_a_road() -> None:
    renamed = ImageUpdated(replace(CREATED.attributes, name="another"), ("name",))
    assert provenance(*ROAD, renamed) == provenance(*ROAD)
    with_change = road(*ROAD[:5], renamed)
    assert with_change.conversion.payload == CONVERTED


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_a_road_that_has_not_come_so_far_is_none(length: int) -> None:
    with pytest.raises(ImageHasNoDataError):
        road(*ROAD[:length])


def test_what_is_not_published_has_no_provenance() -> None:
    with pytest.raises(ImageHasNoDataError):
        provenance(*ROAD[:6])
