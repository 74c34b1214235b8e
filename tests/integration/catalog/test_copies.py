"""Copies in further stores, over gRPC: asked for, refused, cancelled, given up."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
import pytest

from services.catalog.settings import CatalogSection
from tests.integration.catalog.conftest import (
    ADMIN,
    DEADLINE_S,
    Catalog,
    as_project,
    refused,
    running,
    until_ready,
)
from tests.integration.catalog.test_operations import finish
from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.types.v1 import types_pb2
from tintype.domain.commands import RecordPlaced
from tintype.domain.events import CopyRequested, FailedStore, Failure, ImportRequested
from tintype.domain.values import BlobRef, ImageId, OperationId, Placement
from tintype.testing.clock import FakeClock

SECOND = BlobRef("second", "images/x")
FULL = FailedStore("third", Failure("STORE_FULL", "no room"))


async def active(catalog: Catalog) -> str:
    """An image whose bytes are in the store `default`."""
    image = await catalog.create(visibility=types_pb2.VISIBILITY_PUBLIC)
    await finish(catalog, image.id, (await catalog.start_import(image.id)).id)
    return image.id


async def copy(catalog: Catalog, image_id: str, *stores: str, **fields: Any) -> pb.Operation:
    caller, in_all = fields.pop("metadata", as_project()), fields.pop("in_all", False)
    placement = types_pb2.Placement(stores=stores, in_all=in_all, all_must_succeed=True)
    request = pb.CopyImageRequest(image_id=image_id, placement=placement, **fields)
    operation: pb.Operation = await catalog.images.CopyImage(request, metadata=caller, timeout=DEADLINE_S)
    return operation


async def remove(catalog: Catalog, image_id: str, store: str, **fields: Any) -> pb.Image:
    caller = fields.pop("metadata", as_project())
    request = pb.RemoveCopyRequest(image_id=image_id, store=store, **fields)
    image: pb.Image = await catalog.images.RemoveCopy(request, metadata=caller, timeout=DEADLINE_S)
    return image


async def shown(catalog: Catalog, image_id: str) -> pb.Image:
    request = pb.GetImageRequest(image_id=image_id, min_position=await catalog.log.head())
    image: pb.Image = await catalog.images.GetImage(request, timeout=DEADLINE_S)
    return image


async def test_a_copy_is_an_operation_and_the_image_shows_where_its_bytes_are(catalog: Catalog) -> None:
    image = await active(catalog)
    operation = await copy(catalog, image, "second", "third")
    assert (operation.kind, operation.step, operation.done) == (
        pb.OPERATION_KIND_COPY,
        types_pb2.STEP_PLACE,
        False,
    )
    assert (await shown(catalog, image)).status == types_pb2.STATUS_ACTIVE
    recorded = (await catalog.log.history(ImageId(image)))[-1].payload
    assert recorded == CopyRequested(OperationId(operation.id), Placement(("second", "third"), all_must_succeed=True))
    await catalog.work(image, RecordPlaced(OperationId(operation.id), (SECOND,), (FULL,)))
    placed = await shown(catalog, image)
    assert list(placed.stores) == ["default", "second"]
    assert [(failed.store, failed.failure.reason) for failed in placed.failed_stores] == [("third", "STORE_FULL")]
    done = await catalog.operations.GetOperation(pb.GetOperationRequest(operation_id=operation.id))
    assert (done.kind, done.state) == (pb.OPERATION_KIND_COPY, pb.OPERATION_STATE_SUCCEEDED)


async def test_a_repeated_copy_is_one_operation(catalog: Catalog) -> None:
    image, request_id = await active(catalog), str(uuid.uuid4())
    first = await copy(catalog, image, "second", request_id=request_id)
    head = await catalog.log.head()
    assert await copy(catalog, image, "second", request_id=request_id) == first
    assert await catalog.log.head() == head
    assert (await refused(copy(catalog, image, "third", request_id=request_id))).reason == "REQUEST_ID_REUSED"
    assert (await refused(copy(catalog, image, "third"))).reason == "IMAGE_BUSY"


async def test_a_cancelled_copy_leaves_the_image_active(catalog: Catalog) -> None:
    image = await active(catalog)
    operation = await copy(catalog, image, in_all=True)
    cancel = pb.CancelOperationRequest(operation_id=operation.id)
    cancelled = await catalog.operations.CancelOperation(cancel)
    assert (cancelled.kind, cancelled.state) == (pb.OPERATION_KIND_COPY, pb.OPERATION_STATE_CANCELLED)
    left = await shown(catalog, image)
    assert (left.status, list(left.stores)) == (types_pb2.STATUS_ACTIVE, ["default"])
    assert (await copy(catalog, image, "second")).state == pb.OPERATION_STATE_RUNNING


async def test_a_copy_can_be_validated_only(catalog: Catalog) -> None:
    image = await active(catalog)
    head = await catalog.log.head()
    assert (await copy(catalog, image, "second", validate_only=True)).kind == pb.OPERATION_KIND_COPY
    assert (await refused(copy(catalog, image, "default", validate_only=True))).reason == "COPY_EXISTS"
    assert await catalog.log.head() == head


async def test_only_what_is_the_caller_s_and_has_bytes_is_copied(catalog: Catalog) -> None:
    image, empty = await active(catalog), await catalog.create()
    assert (await refused(copy(catalog, empty.id, "second"))).reason == "IMAGE_HAS_NO_DATA"
    assert (await refused(copy(catalog, str(uuid.uuid4()), "second"))).reason == "IMAGE_NOT_FOUND"
    other = as_project("other")
    assert (await refused(copy(catalog, image, "second", metadata=other))).reason == "NOT_PERMITTED"
    assert (await refused(remove(catalog, image, "default", metadata=other))).reason == "NOT_PERMITTED"
    assert (await refused(copy(catalog, empty.id, "second", metadata=other))).reason == "IMAGE_NOT_FOUND"
    assert (await refused(remove(catalog, empty.id, "default", metadata=other))).reason == "IMAGE_NOT_FOUND"
    assert (await copy(catalog, image, "second", metadata=ADMIN)).state == pb.OPERATION_STATE_RUNNING


@pytest.mark.parametrize(
    "stores", [(), ("second", "second"), ("../etc",), ("x" * 100_000,), tuple(f"s{number}" for number in range(33))]
)
async def test_stores_that_cannot_be_meant_are_refused(catalog: Catalog, stores: tuple[str, ...]) -> None:
    image = await active(catalog)
    refusal = await refused(copy(catalog, image, *stores))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PLACEMENT")
    assert len(refusal.message) < 300


async def test_a_copy_is_given_up_and_never_the_last_one(catalog: Catalog) -> None:
    image = await active(catalog)
    assert (await refused(remove(catalog, image, "default"))).reason == "LAST_COPY"
    operation = await copy(catalog, image, "second")
    assert (await refused(remove(catalog, image, "default"))).reason == "IMAGE_BUSY"
    await catalog.work(image, RecordPlaced(OperationId(operation.id), (SECOND,)))
    assert (await refused(remove(catalog, image, "third"))).reason == "COPY_NOT_FOUND"
    assert (await refused(remove(catalog, image, "x" * 100_000))).reason == "COPY_NOT_FOUND"
    assert (await refused(remove(catalog, image, "default", etag='"1"'))).reason == "ETAG_MISMATCH"
    head, request_id = await catalog.log.head(), str(uuid.uuid4())
    assert list((await remove(catalog, image, "default", validate_only=True)).stores) == ["second"]
    assert await catalog.log.head() == head
    removed = await remove(catalog, image, "default", request_id=request_id)
    assert list(removed.stores) == ["second"]
    assert await remove(catalog, image, "default", request_id=request_id) == removed
    assert await shown(catalog, image) == removed


async def test_an_import_says_where_its_bytes_shall_be(catalog: Catalog) -> None:
    image = await catalog.create()
    source = types_pb2.ImportSource(method=types_pb2.IMPORT_METHOD_WEB_DOWNLOAD, uri="https://example.org/disk")
    request = pb.ImportImageRequest(
        image_id=image.id, source=source, placement=types_pb2.Placement(stores=["second"], in_all=True)
    )
    await catalog.images.ImportImage(request)
    recorded = (await catalog.log.history(ImageId(image.id)))[-1].payload
    assert isinstance(recorded, ImportRequested)
    assert recorded.placement == Placement(("second",), in_all=True)


async def test_a_store_that_is_not_configured_is_refused_at_once(catalog_settings: CatalogSection) -> None:
    stores = frozenset({"default", "second"})
    async with running(catalog_settings, MemoryEventLog(), FakeClock(), stores) as catalog:
        await until_ready(catalog)
        image = await active(catalog)
        refusal = await refused(copy(catalog, image, "second", "third"))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "STORE_NOT_FOUND")
        empty = await catalog.create()
        source = types_pb2.ImportSource(method=types_pb2.IMPORT_METHOD_GLANCE_DIRECT)
        request = pb.ImportImageRequest(
            image_id=empty.id, source=source, placement=types_pb2.Placement(stores=["third"])
        )
        assert (await refused(catalog.images.ImportImage(request))).reason == "STORE_NOT_FOUND"
        assert (await copy(catalog, image, "second")).state == pb.OPERATION_STATE_RUNNING
