"""Images over gRPC: what is promised to clients, and how each refusal looks to them."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from tests.integration.catalog.conftest import ADMIN, DEADLINE_S, Catalog, as_project, refused
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.types.v1 import types_pb2
from tintype.domain.commands import RecordPurged

NOBODY = str(uuid.uuid4())
PUBLIC = types_pb2.VISIBILITY_PUBLIC
PRIVATE = types_pb2.VISIBILITY_PRIVATE


def text(value: str) -> types_pb2.PropertyValue:
    return types_pb2.PropertyValue(string_value=value)


def time_of(catalog: Catalog) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(catalog.clock.now())
    return stamp


# --- create -----------------------------------------------------------------------------------------------------------


async def test_an_image_is_created_and_read_at_once(catalog: Catalog) -> None:
    created = await catalog.create(
        "Debian 13", tags=["lts", "lts"], properties={"os_distro": text("debian"), "hw_cpu_cores": text("4")}
    )
    read = await catalog.images.GetImage(pb.GetImageRequest(image_id=created.id, min_position=created.position))
    assert read == created
    assert (read.owner, read.status, list(read.tags)) == ("default", types_pb2.STATUS_QUEUED, ["lts"])
    assert read.properties["hw_cpu_cores"].int_value == 4
    assert not read.HasField("size")


async def test_the_same_request_twice_makes_one_image(catalog: Catalog) -> None:
    request = pb.CreateImageRequest(image=pb.Image(name="once"), request_id=str(uuid.uuid4()))
    first = await catalog.images.CreateImage(request)
    assert await catalog.images.CreateImage(request) == first
    listed = await catalog.images.ListImages(pb.ListImagesRequest(min_position=first.position))
    assert [image.id for image in listed.images] == [first.id]
    # Ids of requests are each project's own.
    other = await catalog.images.CreateImage(request, metadata=as_project("other"))
    assert other.id != first.id


async def test_a_request_id_cannot_name_two_requests(catalog: Catalog) -> None:
    request_id = str(uuid.uuid4())
    await catalog.images.CreateImage(pb.CreateImageRequest(image=pb.Image(name="a"), request_id=request_id))
    other = pb.CreateImageRequest(image=pb.Image(name="b"), request_id=request_id)
    assert (await refused(catalog.images.CreateImage(other))).reason == "REQUEST_ID_REUSED"


async def test_a_chosen_id_is_used_once(catalog: Catalog) -> None:
    request = pb.CreateImageRequest(image=pb.Image(name="mine"), image_id=NOBODY.upper())
    assert (await catalog.images.CreateImage(request)).id == NOBODY
    refusal = await refused(catalog.images.CreateImage(request))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "IMAGE_EXISTS")


async def test_validate_only_decides_and_appends_nothing(catalog: Catalog) -> None:
    request = pb.CreateImageRequest(image=pb.Image(name="maybe"), validate_only=True)
    assert (await catalog.images.CreateImage(request)).name == "maybe"
    assert await catalog.log.head() == 0
    image = await catalog.create()
    for call in (
        catalog.images.UpdateImage(pb.UpdateImageRequest(image=pb.Image(id=image.id, name="x"), validate_only=True)),
        catalog.images.DeleteImage(pb.DeleteImageRequest(image_id=image.id, validate_only=True)),
    ):
        answer = await call
        assert answer.id == image.id
    assert await catalog.log.head() == 1
    request.image.min_disk = -1
    assert (await refused(catalog.images.CreateImage(request))).reason == "INVALID_SIZE"


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"name": "x" * 256}, "INVALID_NAME"),
        ({"name": "a\x00b"}, "INVALID_NAME"),
        ({"min_disk": 2**62}, "INVALID_SIZE"),
        ({"min_ram": -1}, "INVALID_SIZE"),
        ({"tags": [""]}, "INVALID_TAG"),
        ({"tags": [str(number) for number in range(129)]}, "INVALID_TAG"),
        ({"properties": {"": text("x")}}, "INVALID_PROPERTY"),
        ({"properties": {"k": text("v" * 20_000)}}, "INVALID_PROPERTY"),
        ({"properties": {f"k{number}": text("v") for number in range(129)}}, "INVALID_PROPERTY"),
        ({"properties": {f"k{number}": text("v" * 16_000) for number in range(9)}}, "INVALID_PROPERTY"),
        ({"properties": {"k": types_pb2.PropertyValue()}}, "PROPERTY_TYPE"),
        ({"properties": {"os_distro": types_pb2.PropertyValue(int_value=3)}}, "PROPERTY_TYPE"),
        ({"properties": {"hw_cpu_cores": text("many")}}, "PROPERTY_TYPE"),
        ({"visibility": 99}, "INVALID_ARGUMENT"),
        ({"disk_format": 99}, "INVALID_ARGUMENT"),
        ({"disk_format": types_pb2.DISK_FORMAT_AMI, "container_format": 1}, "INVALID_FORMAT"),
    ],
)
async def test_absurd_attributes_are_refused(catalog: Catalog, attributes: dict[str, Any], reason: str) -> None:
    refusal = await refused(catalog.create(**{"name": "absurd"} | attributes))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert await catalog.log.head() == 0


@pytest.mark.parametrize(
    "request_message",
    [
        pb.CreateImageRequest(request_id="not-a-uuid"),
        pb.CreateImageRequest(request_id="{" + str(uuid.uuid4()) + "}"),
        pb.CreateImageRequest(image_id="../../etc/passwd"),
        pb.CreateImageRequest(image_id="x" * 100_000),
    ],
)
async def test_malformed_ids_are_refused(catalog: Catalog, request_message: pb.CreateImageRequest) -> None:
    refusal = await refused(catalog.images.CreateImage(request_message))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_IDENTIFIER")


@pytest.mark.parametrize(
    "metadata", [(("tintype-project", "a b"),), (("tintype-project", "x" * 65),), (("tintype-actor", "x" * 129),)]
)
async def test_a_malformed_caller_is_refused(catalog: Catalog, metadata: Any) -> None:
    for call in (
        catalog.images.CreateImage(pb.CreateImageRequest(), metadata=metadata),
        catalog.images.GetImage(pb.GetImageRequest(image_id=NOBODY), metadata=metadata),
        catalog.images.ListImages(pb.ListImagesRequest(), metadata=metadata),
    ):
        assert (await refused(call)).reason == "INVALID_IDENTIFIER"


# --- update and delete ------------------------------------------------------------------------------------------------


async def test_an_update_changes_what_the_mask_names(catalog: Catalog) -> None:
    image = await catalog.create("before", properties={"a": text("1"), "b": text("2")})
    change = pb.Image(id=image.id, name="after", min_disk=7, properties={"a": text("3")})
    mask = FieldMask(paths=["name", "properties.a", "properties.b"])
    updated = await catalog.images.UpdateImage(pb.UpdateImageRequest(image=change, update_mask=mask))
    assert (updated.name, updated.min_disk, updated.disk_format) == ("after", 0, image.disk_format)
    assert dict(updated.properties) == {"a": text("3")}
    assert updated.etag != image.etag
    assert updated.position > image.position


async def test_an_update_without_a_mask_changes_what_is_set(catalog: Catalog) -> None:
    image = await catalog.create("before", min_disk=3)
    updated = await catalog.images.UpdateImage(pb.UpdateImageRequest(image=pb.Image(id=image.id, name="after")))
    assert (updated.name, updated.min_disk) == ("after", 3)


@pytest.mark.parametrize("path", ["status", "id", "owner", "nonsense", "name.x", "properties.", "size"])
async def test_a_mask_names_attributes_only(catalog: Catalog, path: str) -> None:
    image = await catalog.create()
    request = pb.UpdateImageRequest(
        image=pb.Image(id=image.id, properties={"": text("x")}), update_mask=FieldMask(paths=[path])
    )
    refusal = await refused(catalog.images.UpdateImage(request))
    assert refusal.reason in ("INVALID_UPDATE_MASK", "INVALID_PROPERTY")


async def test_an_old_etag_changes_nothing(catalog: Catalog) -> None:
    image = await catalog.create()
    request = pb.UpdateImageRequest(image=pb.Image(id=image.id, name="first", etag=image.etag))
    await catalog.images.UpdateImage(request)
    refusal = await refused(catalog.images.UpdateImage(request))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    deletion = pb.DeleteImageRequest(image_id=image.id, etag=image.etag)
    assert (await refused(catalog.images.DeleteImage(deletion))).reason == "ETAG_MISMATCH"


async def test_a_deleted_image_is_gone_and_its_owner_still_reads_its_history(catalog: Catalog) -> None:
    image = await catalog.create(visibility=PUBLIC)
    then = time_of(catalog)
    catalog.clock.advance(10)
    request = pb.DeleteImageRequest(image_id=image.id, request_id=str(uuid.uuid4()))
    deleted = await catalog.images.DeleteImage(request)
    assert deleted.status == types_pb2.STATUS_DELETED
    assert await catalog.images.DeleteImage(request) == deleted  # the repeated request is the same one
    fresh = pb.GetImageRequest(image_id=image.id, min_position=deleted.position)
    assert (await refused(catalog.images.GetImage(fresh))).reason == "IMAGE_NOT_FOUND"
    assert (await refused(catalog.images.DeleteImage(pb.DeleteImageRequest(image_id=image.id)))).reason == (
        "IMAGE_NOT_FOUND"
    )
    assert not (await catalog.images.ListImages(pb.ListImagesRequest(min_position=deleted.position))).images
    history = pb.ListImageEventsRequest(image_id=image.id)
    assert len((await catalog.images.ListImageEvents(history)).events) == 2
    assert (await refused(catalog.images.ListImageEvents(history, metadata=as_project("other")))).reason == (
        "IMAGE_NOT_FOUND"
    )
    past = pb.GetImageRequest(image_id=image.id, as_of=then)
    assert (await catalog.images.GetImage(past)).status == types_pb2.STATUS_QUEUED
    await catalog.work(image.id, RecordPurged())
    assert len((await catalog.images.ListImageEvents(history)).events) == 3


async def test_a_protected_image_is_not_deleted(catalog: Catalog) -> None:
    image = await catalog.create(protected=True)
    refusal = await refused(catalog.images.DeleteImage(pb.DeleteImageRequest(image_id=image.id)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "IMAGE_PROTECTED")


# --- who may ----------------------------------------------------------------------------------------------------------


async def test_a_private_image_does_not_exist_for_others(catalog: Catalog) -> None:
    image = await catalog.create(visibility=PRIVATE)
    other: Any = {"metadata": as_project("other")}
    get = pb.GetImageRequest(image_id=image.id, min_position=image.position)
    for call in (
        catalog.images.GetImage(get, **other),
        catalog.images.UpdateImage(pb.UpdateImageRequest(image=pb.Image(id=image.id, name="x")), **other),
        catalog.images.DeleteImage(pb.DeleteImageRequest(image_id=image.id), **other),
        catalog.images.ListImageEvents(pb.ListImageEventsRequest(image_id=image.id), **other),
        catalog.images.GetImage(pb.GetImageRequest(image_id=image.id, as_of=time_of(catalog)), **other),
        catalog.start_import(image.id, project="other"),
        catalog.images.GetImage(pb.GetImageRequest(image_id=NOBODY), **other),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "IMAGE_NOT_FOUND")
    assert (await catalog.images.GetImage(get, metadata=ADMIN)).id == image.id


async def test_a_public_image_is_read_by_all_and_changed_by_its_owner(catalog: Catalog) -> None:
    image = await catalog.create(visibility=PUBLIC)
    other: Any = {"metadata": as_project("other")}
    get = pb.GetImageRequest(image_id=image.id, min_position=image.position)
    assert (await catalog.images.GetImage(get, **other)).id == image.id
    for call in (
        catalog.images.UpdateImage(pb.UpdateImageRequest(image=pb.Image(id=image.id, name="x")), **other),
        catalog.images.DeleteImage(pb.DeleteImageRequest(image_id=image.id), **other),
        catalog.start_import(image.id, project="other"),
    ):
        assert (await refused(call)).reason == "NOT_PERMITTED"
    deleted = await catalog.images.DeleteImage(pb.DeleteImageRequest(image_id=image.id), metadata=ADMIN)
    assert deleted.owner == "default"


# --- lists ------------------------------------------------------------------------------------------------------------


async def test_pages_follow_each_other(catalog: Catalog) -> None:
    for number in range(5):
        catalog.clock.advance(1)
        await catalog.create(f"n{number}")
    request = pb.ListImagesRequest(page_size=2, order_by="name desc", min_position=5)
    names = []
    while True:
        page = await catalog.images.ListImages(request)
        names.append([image.name for image in page.images])
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert names == [["n4", "n3"], ["n2", "n1"], ["n0"]]
    request.filter = "hidden=false"
    assert (await refused(catalog.images.ListImages(request))).reason == "INVALID_FILTER"
    request.filter = ""
    stolen = catalog.images.ListImages(request, metadata=as_project("other"))
    assert (await refused(stolen)).reason == "INVALID_FILTER"


@pytest.mark.parametrize(
    ("request_message", "reason"),
    [
        (pb.ListImagesRequest(filter="state=x"), "INVALID_FILTER"),
        (pb.ListImagesRequest(filter="name='x' OR 1=1"), "INVALID_FILTER"),
        (pb.ListImagesRequest(filter="(" * 4000), "INVALID_FILTER"),
        (pb.ListImagesRequest(filter="x" * 1_000_000), "INVALID_FILTER"),
        (pb.ListImagesRequest(order_by="(select 1)"), "INVALID_FILTER"),
        (pb.ListImagesRequest(page_token="AAAA"), "INVALID_FILTER"),
        (pb.ListImagesRequest(page_token="W" * 1_000_000), "INVALID_FILTER"),
        (pb.ListImagesRequest(page_size=-1), "INVALID_ARGUMENT"),
        (pb.ListImagesRequest(page_size=1001), "INVALID_ARGUMENT"),
        (pb.ListImagesRequest(min_position=-1), "INVALID_ARGUMENT"),
    ],
)
async def test_hostile_lists_are_refused(catalog: Catalog, request_message: pb.ListImagesRequest, reason: str) -> None:
    refusal = await refused(catalog.images.ListImages(request_message))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)


async def test_a_position_that_does_not_come_is_a_lag(catalog: Catalog) -> None:
    refusal = await refused(catalog.images.ListImages(pb.ListImagesRequest(min_position=2**62), timeout=1))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "PROJECTION_LAG")


# --- the past ---------------------------------------------------------------------------------------------------------


async def test_an_image_is_shown_as_it_was(catalog: Catalog) -> None:
    before = time_of(catalog)
    before.seconds -= 1
    image = await catalog.create("old name")
    then = time_of(catalog)
    catalog.clock.advance(60)
    await catalog.images.UpdateImage(pb.UpdateImageRequest(image=pb.Image(id=image.id, name="new name")))
    past = pb.GetImageRequest(image_id=image.id, as_of=then)
    assert await catalog.images.GetImage(past) == image
    assert (await refused(catalog.images.GetImage(pb.GetImageRequest(image_id=image.id, as_of=before)))).reason == (
        "IMAGE_NOT_FOUND"
    )
    endless = pb.GetImageRequest(image_id=image.id, as_of=Timestamp(seconds=2**62))
    assert (await refused(catalog.images.GetImage(endless))).reason == "INVALID_ARGUMENT"
    history = pb.ListImageEventsRequest(image_id=image.id, as_of=then)
    assert [event.version for event in (await catalog.images.ListImageEvents(history)).events] == [1]


async def test_a_history_is_read_in_pages(catalog: Catalog) -> None:
    image = await catalog.create()
    for number in range(4):
        await catalog.images.UpdateImage(pb.UpdateImageRequest(image=pb.Image(id=image.id, name=f"n{number}")))
    request = pb.ListImageEventsRequest(image_id=image.id, page_size=2)
    versions = []
    while True:
        page = await catalog.images.ListImageEvents(request)
        versions.append([event.version for event in page.events])
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert versions == [[1, 2], [3, 4], [5]]
    assert page.events[0].updated.attributes.name == "n3"
    assert page.events[0].previous_hash
    other = await catalog.create("other")
    request.image_id = other.id
    assert (await refused(catalog.images.ListImageEvents(request))).reason == "INVALID_FILTER"


async def test_a_request_that_is_no_message_is_refused(catalog: Catalog) -> None:
    call: Any = catalog.channel.unary_unary("/tintype.api.catalog.v1.CatalogService/CreateImage")
    with pytest.raises(grpc.aio.AioRpcError):
        await call(b"\xff" * 100, timeout=DEADLINE_S)
    assert (await catalog.create("still here")).name == "still here"


async def test_a_page_of_history_ends_where_a_message_is_full(catalog: Catalog) -> None:
    image = await catalog.create("long")
    long = pb.Image(id=image.id, properties={f"k{n}": text("\u20ac" * 10_000) for n in range(12)})
    mask = FieldMask(paths=["properties"])
    for _ in range(24):
        await catalog.images.UpdateImage(pb.UpdateImageRequest(image=long, update_mask=mask))
    versions: list[int] = []
    request = pb.ListImageEventsRequest(image_id=image.id)
    while True:
        page = await catalog.images.ListImageEvents(request)
        versions += [event.version for event in page.events]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert versions == list(range(1, 26))
