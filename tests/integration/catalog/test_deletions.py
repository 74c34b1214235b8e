"""Deletions that wait, over gRPC: hidden at once, undone within their time, ended when it has passed."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.catalog.settings import CatalogSection
from tests.backends.shared_servers import RunningNats
from tests.contract.event_logs import NatsHarness
from tests.integration.catalog.conftest import (
    ADMIN,
    DEADLINE_S,
    Catalog,
    as_project,
    refused,
    running,
    until_ready,
)
from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.types.v1 import types_pb2
from tintype.testing.clock import FakeClock

DELAY_S = 3600
PUBLIC = types_pb2.VISIBILITY_PUBLIC


@pytest.fixture
def patient_settings(catalog_settings: CatalogSection) -> CatalogSection:
    return catalog_settings.model_copy(update={"delete_delay_s": float(DELAY_S)})


@pytest.fixture
async def patient(patient_settings: CatalogSection) -> AsyncIterator[Catalog]:
    """A running catalog in which a deleted image can be restored for an hour."""
    async with running(patient_settings, MemoryEventLog(), FakeClock()) as started:
        await until_ready(started)
        yield started


async def delete(catalog: Catalog, image_id: str, **fields: Any) -> pb.Image:
    caller = fields.pop("metadata", as_project())
    request = pb.DeleteImageRequest(image_id=image_id, **fields)
    image: pb.Image = await catalog.images.DeleteImage(request, metadata=caller, timeout=DEADLINE_S)
    return image


async def restore(catalog: Catalog, image_id: str, **fields: Any) -> pb.Image:
    caller = fields.pop("metadata", as_project())
    request = pb.RestoreImageRequest(image_id=image_id, **fields)
    image: pb.Image = await catalog.images.RestoreImage(request, metadata=caller, timeout=DEADLINE_S)
    return image


async def listed(catalog: Catalog, position: int, text: str = "") -> list[str]:
    answer = await catalog.images.ListImages(pb.ListImagesRequest(min_position=position, filter=text))
    return [image.id for image in answer.images]


async def events_of(catalog: Catalog, image_id: str) -> list[str]:
    request = pb.ListImageEventsRequest(image_id=image_id)
    events = (await catalog.images.ListImageEvents(request, metadata=ADMIN)).events
    return [event.WhichOneof("payload") or "" for event in events]


async def test_a_deleted_image_is_hidden_at_once_and_listed_again_when_it_is_restored(patient: Catalog) -> None:
    image = await patient.create(visibility=PUBLIC, tags=["lts"])
    deleted = await delete(patient, image.id)
    assert deleted.purge_after.ToDatetime(tzinfo=patient.clock.now().tzinfo) == patient.clock.now() + timedelta(
        seconds=DELAY_S
    )
    fresh = pb.GetImageRequest(image_id=image.id, min_position=deleted.position)
    assert (await refused(patient.images.GetImage(fresh))).reason == "IMAGE_NOT_FOUND"
    assert (await refused(delete(patient, image.id))).reason == "IMAGE_NOT_FOUND"
    assert await listed(patient, deleted.position) == []
    patient.clock.advance(DELAY_S - 1)
    restored = await restore(patient, image.id)
    assert (restored.status, restored.HasField("purge_after")) == (types_pb2.STATUS_QUEUED, False)
    fresh.min_position = restored.position
    assert await patient.images.GetImage(fresh) == restored
    assert await listed(patient, restored.position, "tag=lts") == [image.id]


async def test_a_deletion_without_a_delay_cannot_be_undone(catalog: Catalog) -> None:
    image = await catalog.create()
    assert not (await delete(catalog, image.id)).HasField("purge_after")
    refusal = await refused(restore(catalog, image.id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RESTORE_TOO_LATE")


async def test_repeated_requests_are_the_same_ones_however_late(patient: Catalog) -> None:
    image = await patient.create()
    deletion, restoring = str(uuid.uuid4()), str(uuid.uuid4())
    deleted = await delete(patient, image.id, request_id=deletion)
    patient.clock.advance(60)
    restored = await restore(patient, image.id, request_id=restoring)
    patient.clock.advance(2 * DELAY_S)
    assert await delete(patient, image.id, request_id=deletion) == deleted
    assert await restore(patient, image.id, request_id=restoring) == restored
    assert (await refused(restore(patient, image.id, request_id=deletion))).reason == "REQUEST_ID_REUSED"
    assert (await refused(restore(patient, image.id))).reason == "IMAGE_NOT_DELETED"
    skipping = str(uuid.uuid4())
    await delete(patient, image.id)
    ended = await delete(patient, image.id, skip_delay=True, request_id=skipping)
    assert await delete(patient, image.id, skip_delay=True, request_id=skipping) == ended
    assert await events_of(patient, image.id) == [
        "created",
        "deleted",
        "restored",
        "deleted",
        "expired",
    ]


async def test_what_comes_too_late_is_refused_though_nothing_has_ended_the_deletion(patient: Catalog) -> None:
    image = await patient.create()
    await delete(patient, image.id)
    patient.clock.advance(DELAY_S)
    assert (await refused(restore(patient, image.id))).reason == "RESTORE_TOO_LATE"
    assert (await refused(restore(patient, image.id, metadata=ADMIN))).reason == "RESTORE_TOO_LATE"


async def test_others_do_not_find_what_is_deleted(patient: Catalog) -> None:
    other = as_project("other")
    image = await patient.create(visibility=PUBLIC)
    assert (await refused(restore(patient, image.id, metadata=other))).reason == "NOT_PERMITTED"
    await delete(patient, image.id)
    assert (await refused(restore(patient, image.id, metadata=other))).reason == "IMAGE_NOT_FOUND"
    refusal = await refused(delete(patient, image.id, skip_delay=True, metadata=other))
    assert refusal.reason == "IMAGE_NOT_FOUND"
    assert (await refused(restore(patient, str(uuid.uuid4())))).reason == "IMAGE_NOT_FOUND"
    assert (await restore(patient, image.id, metadata=ADMIN)).owner == "default"


async def test_the_delay_can_be_skipped_at_once_or_later(patient: Catalog) -> None:
    first, second = await patient.create(), await patient.create()
    assert not (await delete(patient, first.id, skip_delay=True)).HasField("purge_after")
    assert (await refused(restore(patient, first.id))).reason == "RESTORE_TOO_LATE"
    deleted = await delete(patient, second.id)
    assert (await refused(delete(patient, second.id, skip_delay=True, etag=first.etag))).reason == "ETAG_MISMATCH"
    ended = await delete(patient, second.id, skip_delay=True, etag=deleted.etag, metadata=ADMIN)
    assert (ended.status, ended.HasField("purge_after")) == (types_pb2.STATUS_DELETED, False)
    assert (await refused(restore(patient, second.id))).reason == "RESTORE_TOO_LATE"


async def test_deletions_and_restores_can_be_validated_only(patient: Catalog) -> None:
    image = await patient.create()
    assert (await delete(patient, image.id, validate_only=True)).HasField("purge_after")
    assert (await refused(restore(patient, image.id, validate_only=True))).reason == "IMAGE_NOT_DELETED"
    await delete(patient, image.id)
    assert (await restore(patient, image.id, validate_only=True)).status == types_pb2.STATUS_QUEUED
    assert await patient.log.head() == 2


async def test_a_protected_image_is_deleted_in_no_way(patient: Catalog) -> None:
    image = await patient.create(protected=True)
    assert (await refused(delete(patient, image.id, skip_delay=True))).reason == "IMAGE_PROTECTED"


async def test_an_import_that_a_deletion_ended_does_not_come_back(patient: Catalog) -> None:
    image = await patient.create()
    operation = await patient.start_import(image.id)
    await delete(patient, image.id)
    restored = await restore(patient, image.id)
    assert restored.status == types_pb2.STATUS_QUEUED
    request = pb.GetOperationRequest(operation_id=operation.id, min_position=restored.position)
    assert (await patient.operations.GetOperation(request)).state == pb.OPERATION_STATE_CANCELLED
    assert (await patient.start_import(image.id)).state == pb.OPERATION_STATE_RUNNING


async def test_a_restart_ends_what_has_become_due_meanwhile(patient_settings: CatalogSection) -> None:
    log, clock = MemoryEventLog(), FakeClock()
    async with running(patient_settings, log, clock) as before:
        due, kept = await before.create(), await before.create()
        await delete(before, due.id)
        clock.advance(DELAY_S / 2)
        await delete(before, kept.id)
        end = await log.head()
    clock.advance(DELAY_S / 2)
    async with running(patient_settings, log, clock) as after:
        watch = after.images.WatchImages(pb.WatchImagesRequest(after_position=end), timeout=DEADLINE_S)
        change = await anext(aiter(watch))
        assert (change.event.image_id, change.event.WhichOneof("payload")) == (due.id, "expired")
        watch.cancel()
        assert (await restore(after, kept.id)).status == types_pb2.STATUS_QUEUED


async def test_on_a_real_log_requests_stay_the_same_and_replicas_end_a_deletion_once(
    nats_server: RunningNats, patient_settings: CatalogSection, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        log, clock = await (await NatsHarness.make(nats_server.url, stack)).open(), FakeClock()
        clock.advance(0.123457)
        other_settings = patient_settings.model_copy(update={"data_dir": tmp_path / "other"})
        async with running(patient_settings, log, clock) as catalog:
            image, request_id = await catalog.create(), str(uuid.uuid4())
            deleted = await delete(catalog, image.id, request_id=request_id)
            clock.advance(DELAY_S)
            assert await delete(catalog, image.id, request_id=request_id) == deleted
        async with running(patient_settings, log, clock) as one, running(other_settings, log, clock) as other:
            for catalog in (one, other):
                request = pb.WatchImagesRequest(after_position=deleted.position)
                watch = catalog.images.WatchImages(request, timeout=DEADLINE_S)
                assert (await anext(aiter(watch))).event.WhichOneof("payload") == "expired"
                watch.cancel()
            await asyncio.gather(until_ready(one), until_ready(other))
            assert await events_of(one, image.id) == ["created", "deleted", "expired"]
