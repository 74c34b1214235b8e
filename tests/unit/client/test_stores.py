"""Several stores over the wire: placements, copies, locations, what is found in a store, and what is swept."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.unit.client.fake_services import NOW, FakeServices, store
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.importer.v1 import importer_pb2
from tintype.api.types.v1 import types_pb2
from tintype.client import (
    AlreadyExistsError,
    Client,
    ClientError,
    FailedStore,
    Failure,
    Grade,
    ImageLocation,
    IntegrityError,
    InvalidRequestError,
    NotFoundError,
    OperationKind,
    PreconditionError,
    ServiceDefectError,
    ServiceUnavailableError,
    Status,
    StoreFinding,
    StoreMode,
    SweepFinding,
    SweepFindingKind,
    SweepReport,
)
from tintype.client.store_models import require_good
from tintype.codec import values
from tintype.codec.framing import MESSAGE_SIZE

FULL = types_pb2.Failure(reason="STORE_FULL", message="no room", retryable=True)


def placements(services: FakeServices) -> list[types_pb2.Placement | None]:
    """What was asked for, in order; ``None`` where nothing was said."""
    return [
        request.placement if request.HasField("placement") else None  # type: ignore[attr-defined]
        for request in services.requests
        if "placement" in request.DESCRIPTOR.fields_by_name
    ]


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


async def test_whoever_says_nothing_of_stores_asks_for_the_default_one(client: Client, services: FakeServices) -> None:
    image = services.add_image("x")
    await client.images.upload(image.id, pieces(b"x"))
    await client.images.import_(image.id)

    assert placements(services) == [None, None]


async def test_stores_are_asked_for_in_their_order(client: Client, services: FakeServices) -> None:
    image = services.add_image("x")
    await client.images.upload(image.id, pieces(b"x"), stores=["b", "a"], all_must_succeed=True)
    await client.images.import_(image.id, stores=("a",), all_stores=True)
    await client.images.copy(image.id, ["c"])

    assert placements(services) == [
        types_pb2.Placement(stores=["b", "a"], all_must_succeed=True),
        types_pb2.Placement(stores=["a"], in_all=True),
        types_pb2.Placement(stores=["c"]),
    ]


async def test_one_name_is_not_taken_for_a_list_of_letters(client: Client, services: FakeServices) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await client.images.copy(services.add_image("x").id, "main")

    assert "['main']" in refused.value.hint
    assert services.requests == []


async def test_an_upload_to_several_stores_goes_on_after_a_break(
    client: Client, services: FakeServices, tmp_path: Path
) -> None:
    data = os.urandom(3 * MESSAGE_SIZE + 17)
    (tmp_path / "disk").write_bytes(data)
    services.faults.break_writes_at = [MESSAGE_SIZE, 2 * MESSAGE_SIZE]
    image = services.add_image("x")

    upload = await client.images.upload(image.id, tmp_path / "disk", stores=["a", "b"])

    assert bytes(services.uploads[upload.upload_id].data) == data
    assert placements(services) == [types_pb2.Placement(stores=["a", "b"])]


async def test_a_store_that_failed_is_told_with_its_reason(client: Client, services: FakeServices) -> None:
    image = services.add_image("x")
    image.failed_stores.add(store="s3", failure=FULL)

    (failed,) = (await client.images.get(image.id)).failed_stores

    assert failed == FailedStore("s3", Failure("STORE_FULL", "no room", "", True, {}))


async def test_copies_come_and_go_and_one_stays(client: Client, services: FakeServices) -> None:
    image = services.add_image("x", data=b"x")
    image.stores.append("a")

    operation = await client.images.copy(image.id, ["b"])
    assert operation.kind is OperationKind.COPY
    with pytest.raises(AlreadyExistsError) as exists:
        await client.images.copy(image.id, ["b"])
    assert exists.value.reason == "COPY_EXISTS"
    assert (await client.images.remove_copy(image.id, "a")).stores == ("b",)
    with pytest.raises(PreconditionError) as last:
        await client.images.remove_copy(image.id, "b")
    assert last.value.reason == "LAST_COPY"
    with pytest.raises(NotFoundError):
        await client.images.remove_copy(image.id, "elsewhere")


async def test_a_deleted_image_is_restored_unless_its_bytes_went_at_once(
    client: Client, services: FakeServices
) -> None:
    services.delays_deletion = True
    image = services.add_image("x", data=b"x")

    deleted = await client.images.delete(image.id)
    assert (deleted.status, deleted.purge_after) == (Status.DELETED, NOW)
    restored = await client.images.restore(image.id)
    assert (restored.status, restored.purge_after) == (Status.ACTIVE, None)
    await client.images.delete(image.id, skip_delay=True)
    with pytest.raises(NotFoundError):
        await client.images.restore(image.id)
    ids = [request.request_id for request in services.requests if isinstance(request, pb.DeleteImageRequest)]
    assert len(set(ids)) == 2


async def test_locations_are_told_with_their_expiry(client: Client, services: FakeServices) -> None:
    image = services.add_image("x", data=b"x")
    until = values.encode_time(NOW + timedelta(hours=1))
    services.locations = [
        importer_pb2.ImageLocation(store="s3", kind="presigned-url", url="https://x", expires_at=until),
        importer_pb2.ImageLocation(store="nfs", kind="file", url="file:///x"),
    ]

    first, second = await client.images.locations(image.id, expires_in_s=3600)

    assert first == ImageLocation("s3", "presigned-url", "https://x", NOW + timedelta(hours=1))
    assert second.expires_at is None
    assert services.requests[-1] == importer_pb2.ListImageLocationsRequest(image_id=image.id, expires_in_s=3600)


async def test_a_store_says_how_it_is(client: Client, services: FakeServices) -> None:
    services.stores = [
        store("main", is_default=True, weight=10, free_bytes=0, total_bytes=100),
        store("nfs", mode=importer_pb2.STORE_MODE_AWAY, failure=types_pb2.Failure(reason="STORE_MISSING")),
    ]

    main, nfs = await client.stores.list()

    assert (main.is_default, main.weight, main.free_bytes, main.failure) == (True, 10, 0, None)
    assert (nfs.mode, nfs.since, nfs.free_bytes) == (StoreMode.AWAY, NOW, None)
    assert await client.stores.get("nfs") == nfs
    with pytest.raises(NotFoundError) as absent:
        await client.stores.get("elsewhere")
    assert absent.value.reason == "STORE_NOT_FOUND"


async def test_a_mode_of_a_newer_release_is_an_error_and_no_guess(client: Client, services: FakeServices) -> None:
    services.stores = [store("main", mode=99)]  # type: ignore[arg-type]

    with pytest.raises(ServiceDefectError):
        await client.stores.list()


async def test_an_examination_is_an_administrators(client: Client, services: FakeServices) -> None:
    services.stores = [store("main")]
    services.findings = [
        importer_pb2.StoreFinding(name="access", grade=importer_pb2.GRADE_GOOD, found="it answers"),
        importer_pb2.StoreFinding(name="room", grade=importer_pb2.GRADE_BAD, found="none", advice="make room"),
    ]

    findings = await client.admin.examine_store("main")

    assert services.metadata["tintype-admin"] == "true"
    assert findings[1] == StoreFinding("room", Grade.BAD, "none", "make room")
    require_good("main", findings[:1])
    with pytest.raises(ClientError, match="room") as bad:
        require_good("main", findings)
    assert bad.value.reason == "STORE_CHECK_FAILED"
    with pytest.raises(NotFoundError):
        await client.admin.examine_store("elsewhere")


async def test_a_sweep_tells_how_far_it_is_and_what_it_found(client: Client, services: FakeServices) -> None:
    orphan = importer_pb2.SweepFinding(
        store="main", key="k", size=5, kind=importer_pb2.SWEEP_FINDING_KIND_ORPHAN, removed=True
    )
    services.swept = [importer_pb2.SweepResponse(blobs=1), importer_pb2.SweepResponse(blobs=2, finding=orphan)]

    states = [state async for state in client.admin.sweep(store="main", dry_run=True)]

    assert services.metadata["tintype-admin"] == "true"
    assert services.requests[-1] == importer_pb2.SweepRequest(store="main", dry_run=True)
    assert [state.blobs for state in states] == [1, 2]
    assert states[0].finding is None
    assert states[1].finding == SweepFinding("main", "k", "", 5, SweepFindingKind.ORPHAN, removed=True, failure=None)


def found(kind: SweepFindingKind | None, failure: Failure | None = None) -> SweepFinding:
    return SweepFinding("main", "k", "i", 5, kind, removed=failure is None, failure=failure)


def test_a_sweep_fails_for_copies_that_are_gone_before_all_else() -> None:
    away = found(None, Failure("STORE_TIMEOUT", "no answer", "", True, {}))
    swept = SweepReport(3, (found(SweepFindingKind.ORPHAN),))
    swept.require_swept()
    assert swept.removed_bytes == 5

    with pytest.raises(ServiceUnavailableError) as unavailable:
        SweepReport(3, (away,)).require_swept()
    assert unavailable.value.reason == "STORE_TIMEOUT"
    with pytest.raises(IntegrityError, match="and 1 more") as missing:
        SweepReport(3, (away, *[found(SweepFindingKind.MISSING)] * 2)).require_swept()
    assert missing.value.reason == "BLOB_NOT_FOUND"
