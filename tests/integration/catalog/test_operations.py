"""Imports and their operations over gRPC."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.integration.catalog.conftest import ADMIN, DEADLINE_S, Catalog, as_project, refused
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.types.v1 import types_pb2
from tintype.domain.commands import (
    RecordAttested,
    RecordConversionSkipped,
    RecordPublished,
    RecordStaged,
    RecordStepFailed,
    RecordVerified,
)
from tintype.domain.events import Failure, Progress, SkipReason, StagePurpose, Step, Verdict, Verification
from tintype.domain.values import BlobRef, ImageId, OperationId, ProjectId
from tintype.testing.events import STAGED_BLOB

NOBODY = str(uuid.uuid4())
WEB, DIRECT = types_pb2.IMPORT_METHOD_WEB_DOWNLOAD, types_pb2.IMPORT_METHOD_GLANCE_DIRECT


async def finish(catalog: Catalog, image_id: str, operation_id: str) -> None:
    operation = OperationId(operation_id)
    for command in (
        RecordStaged(operation, StagePurpose.IMPORT, STAGED_BLOB),
        RecordVerified(operation, Verification(Verdict.UNSIGNED)),
        RecordConversionSkipped(operation, SkipReason.DISABLED),
        RecordAttested(operation, "key", b"{}"),
        RecordPublished(operation, (BlobRef("default", "images/x"),)),
    ):
        await catalog.work(image_id, command)


async def test_an_import_is_an_operation_that_can_be_awaited(catalog: Catalog) -> None:
    image = await catalog.create()
    operation = await catalog.start_import(image.id)
    assert (operation.image_id, operation.kind, operation.state, operation.step, operation.done) == (
        image.id,
        pb.OPERATION_KIND_IMPORT,
        pb.OPERATION_STATE_RUNNING,
        types_pb2.STEP_STAGE,
        False,
    )
    request = pb.WaitOperationRequest(operation_id=operation.id, min_position=operation.position)
    waiting = asyncio.ensure_future(catalog.operations.WaitOperation(request, timeout=DEADLINE_S))
    await finish(catalog, image.id, operation.id)
    done = await waiting
    assert (done.done, done.state) == (True, pb.OPERATION_STATE_SUCCEEDED)
    assert done.HasField("ended_at")
    active = await catalog.images.GetImage(pb.GetImageRequest(image_id=image.id, min_position=done.position))
    assert (active.status, active.size, active.stores) == (types_pb2.STATUS_ACTIVE, STAGED_BLOB.size, ["default"])


async def test_a_repeated_import_is_one_operation(catalog: Catalog) -> None:
    image, request_id = await catalog.create(), str(uuid.uuid4())
    first = await catalog.start_import(image.id, request_id)
    assert await catalog.start_import(image.id, request_id) == first
    assert await catalog.log.head() == 2
    refusal = await refused(catalog.start_import(image.id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "IMAGE_BUSY")
    other = await catalog.create()
    assert (await catalog.start_import(other.id, request_id)).id != first.id


async def test_an_import_is_validated_without_being_begun(catalog: Catalog) -> None:
    image = await catalog.create()
    source = types_pb2.ImportSource(method=WEB, uri="https://example.org/")
    request = pb.ImportImageRequest(image_id=image.id, source=source, validate_only=True)
    assert (await catalog.images.ImportImage(request)).state == pb.OPERATION_STATE_RUNNING
    assert await catalog.log.head() == 1


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (types_pb2.ImportSource(), "INVALID_ARGUMENT"),
        (types_pb2.ImportSource(method=99), "INVALID_ARGUMENT"),  # type: ignore[arg-type]  # what a client may send
        (types_pb2.ImportSource(method=WEB), "INVALID_URI"),
        (types_pb2.ImportSource(method=WEB, uri="file:///dev/zero"), "INVALID_URI"),
        (types_pb2.ImportSource(method=WEB, uri="http://u:p@example.org/"), "INVALID_URI"),
        (types_pb2.ImportSource(method=WEB, uri="http://example.org/" + "x" * 100_000), "INVALID_URI"),
        (types_pb2.ImportSource(method=DIRECT, uri="http://example.org/"), "INVALID_URI"),
        (types_pb2.ImportSource(method=DIRECT), "NOTHING_STAGED"),
        (types_pb2.ImportSource(method=WEB, uri="http://example.org/", expected_size=-1), "INVALID_SIZE"),
        (types_pb2.ImportSource(method=WEB, uri="http://example.org/", expected_size=2**62), "IMAGE_TOO_LARGE"),
        (types_pb2.ImportSource(method=WEB, uri="http://example.org/", expected_digest="sha256:12"), "INVALID_DIGEST"),
    ],
)
async def test_an_absurd_source_is_refused(catalog: Catalog, source: types_pb2.ImportSource, reason: str) -> None:
    image = await catalog.create()
    request = pb.ImportImageRequest(image_id=image.id, source=source)
    assert (await refused(catalog.images.ImportImage(request))).reason == reason
    assert await catalog.log.head() == 1


async def test_an_image_without_formats_takes_no_bytes(catalog: Catalog) -> None:
    image = await catalog.create(disk_format=0)
    assert (await refused(catalog.start_import(image.id))).reason == "FORMAT_MISSING"


async def test_a_failed_operation_says_why(catalog: Catalog) -> None:
    image = await catalog.create()
    operation = await catalog.start_import(image.id)
    failure = Failure("SOURCE_UNREACHABLE", "example.org does not answer", "Try again.", True)
    queued = await catalog.work(image.id, RecordStepFailed(OperationId(operation.id), Step.STAGE, failure))
    request = pb.GetOperationRequest(operation_id=operation.id, min_position=queued.position)
    failed = await catalog.operations.GetOperation(request)
    assert (failed.state, failed.failure.reason, failed.failure.retryable) == (
        pb.OPERATION_STATE_FAILED,
        "SOURCE_UNREACHABLE",
        True,
    )
    # A later operation does not change what became of this one.
    later = await catalog.start_import(image.id)
    request.min_position = later.position
    assert await catalog.operations.GetOperation(request) == failed


async def test_an_operation_is_cancelled_once_and_its_image_queued(catalog: Catalog) -> None:
    image = await catalog.create()
    operation = await catalog.start_import(image.id)
    # At once: the catalog may not have projected the operation yet.
    request = pb.CancelOperationRequest(operation_id=operation.id, request_id=str(uuid.uuid4()))
    cancelled = await catalog.operations.CancelOperation(request)
    assert (cancelled.state, cancelled.done) == (pb.OPERATION_STATE_CANCELLED, True)
    assert await catalog.operations.CancelOperation(request) == cancelled
    queued = await catalog.images.GetImage(pb.GetImageRequest(image_id=image.id, min_position=cancelled.position))
    assert (queued.status, queued.failure.reason) == (types_pb2.STATUS_QUEUED, "CANCELLED")
    again = pb.CancelOperationRequest(operation_id=operation.id)
    assert (await refused(catalog.operations.CancelOperation(again))).reason == "OPERATION_DONE"
    await catalog.start_import(image.id)
    assert (await refused(catalog.operations.CancelOperation(again))).reason == "OPERATION_DONE"


async def test_an_operation_of_a_deleted_image_has_ended(catalog: Catalog) -> None:
    image = await catalog.create()
    operation = await catalog.start_import(image.id)
    deleted = await catalog.images.DeleteImage(pb.DeleteImageRequest(image_id=image.id))
    request = pb.WaitOperationRequest(operation_id=operation.id, min_position=deleted.position)
    assert (await catalog.operations.WaitOperation(request)).state == pb.OPERATION_STATE_CANCELLED


async def test_an_operation_is_its_project_s_own(catalog: Catalog) -> None:
    image = await catalog.create(visibility=types_pb2.VISIBILITY_PUBLIC)
    operation = await catalog.start_import(image.id)
    other: Any = {"metadata": as_project("other")}
    get = pb.GetOperationRequest(operation_id=operation.id, min_position=operation.position)
    for call in (
        catalog.operations.GetOperation(get, **other),
        catalog.operations.WaitOperation(pb.WaitOperationRequest(operation_id=operation.id), **other),
        catalog.operations.CancelOperation(pb.CancelOperationRequest(operation_id=operation.id), **other),
        catalog.operations.GetOperation(pb.GetOperationRequest(operation_id=NOBODY)),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "OPERATION_NOT_FOUND")
    assert (await catalog.operations.GetOperation(get, metadata=ADMIN)).id == operation.id
    malformed = pb.GetOperationRequest(operation_id="1")
    assert (await refused(catalog.operations.GetOperation(malformed))).reason == "INVALID_IDENTIFIER"


@pytest.mark.parametrize("timeout", [Duration(), Duration(seconds=-5), Duration(nanos=1)])
async def test_waiting_ends_with_the_time(catalog: Catalog, timeout: Duration) -> None:
    image = await catalog.create()
    operation = await catalog.start_import(image.id)
    request = pb.WaitOperationRequest(operation_id=operation.id, timeout=timeout, min_position=operation.position)
    assert not (await catalog.operations.WaitOperation(request, timeout=DEADLINE_S)).done


async def test_progress_of_the_running_step_is_shown(catalog: Catalog) -> None:
    image = await catalog.create()
    operation = await catalog.start_import(image.id)
    get = pb.GetOperationRequest(operation_id=operation.id, min_position=operation.position)
    told = Progress(
        ImageId(image.id), ProjectId("default"), OperationId(operation.id), Step.STAGE, 5, 9, catalog.clock.now()
    )
    shown = pb.Operation()
    while not shown.HasField("progress"):
        await catalog.log.tell_progress(told)
        shown = await catalog.operations.GetOperation(get)
    assert (shown.progress.done, shown.progress.total) == (5, 9)
    staged = await catalog.work(image.id, RecordStaged(OperationId(operation.id), StagePurpose.IMPORT, STAGED_BLOB))
    get.min_position = staged.position
    verifying = await catalog.operations.GetOperation(get)
    assert (verifying.step, verifying.HasField("progress")) == (types_pb2.STEP_VERIFY, False)
