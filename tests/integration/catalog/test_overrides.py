"""Overrides and links over gRPC: who may, what counts, and what is checked."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from tests.integration.catalog.conftest import ADMIN, Catalog, as_project, refused
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.types.v1 import types_pb2
from tintype.domain.commands import (
    RecordAttested,
    RecordConversionSkipped,
    RecordPublished,
    RecordStaged,
    RecordVerified,
)
from tintype.domain.events import SkipReason, StagePurpose, Verdict, Verification
from tintype.domain.values import Fact, OperationId
from tintype.testing.events import STAGED_BLOB

OPERATION = OperationId(str(uuid.uuid4()))
FACTS = {"os_distro": Fact("debian", "/etc/os-release"), "min_disk": Fact(4, "the virtual size")}


def text(value: str) -> types_pb2.PropertyValue:
    return types_pb2.PropertyValue(string_value=value)


def number(value: int) -> types_pb2.PropertyValue:
    return types_pb2.PropertyValue(int_value=value)


async def update(catalog: Catalog, image: pb.Image, *paths: str, metadata: Any = None, **request: Any) -> pb.Image:
    wanted = pb.UpdateImageRequest(image=image, update_mask=FieldMask(paths=paths), **request)
    answer: pb.Image = await catalog.images.UpdateImage(wanted, metadata=metadata or as_project())
    return answer


async def override(catalog: Catalog, image_id: str, **overrides: types_pb2.PropertyValue) -> pb.Image:
    paths = [f"overrides.{key}" for key in overrides]
    return await update(catalog, pb.Image(id=image_id, overrides=overrides), *paths, metadata=ADMIN)


async def published(catalog: Catalog, **attributes: Any) -> pb.Image:
    """An active image with facts."""
    image = await catalog.create(**attributes)
    blob = replace(STAGED_BLOB, facts=FACTS)
    for command in (
        RecordStaged(OPERATION, StagePurpose.UPLOAD, blob),
        RecordVerified(OPERATION, Verification(Verdict.UNSIGNED)),
        RecordConversionSkipped(OPERATION, SkipReason.NOT_AN_IMPORT),
        RecordAttested(OPERATION, "key", b"{}"),
        RecordPublished(OPERATION, (blob.ref,)),
    ):
        await catalog.work(image.id, command)
    return image


async def listed(catalog: Catalog, filter_: str, position: int) -> list[str]:
    request = pb.ListImagesRequest(filter=filter_, min_position=position)
    return [image.name for image in (await catalog.images.ListImages(request)).images]


async def test_an_override_wins_everywhere_and_the_read_fact_stays(catalog: Catalog) -> None:
    image = await published(catalog, name="x", properties={"os_version": text("13")})
    changed = await override(catalog, image.id, os_distro=text("fedora"), min_disk=text("20"), os_version=text("42"))
    assert changed.effective_properties["os_distro"] == text("fedora")
    assert changed.effective_properties["os_version"] == text("42")
    assert changed.properties["os_version"] == text("13")
    assert changed.read_facts["os_distro"].value == text("debian")
    assert changed.read_facts["os_distro"].source == "/etc/os-release"
    assert (changed.min_disk, changed.overrides["min_disk"]) == (20, number(20))
    read = await catalog.images.GetImage(pb.GetImageRequest(image_id=image.id, min_position=changed.position))
    assert read == changed

    at = changed.position
    assert await listed(catalog, "properties.os_distro=fedora AND properties.os_version=42 AND min_disk=20", at) == [
        "x"
    ]
    assert await listed(catalog, "properties.os_distro=debian", at) == []
    assert await listed(catalog, "properties.os_version=13", at) == []

    cleared = await update(catalog, pb.Image(id=image.id), "overrides.os_distro", "overrides.min_disk", metadata=ADMIN)
    assert await listed(catalog, "properties.os_distro=debian AND min_disk=4", cleared.position) == ["x"]


async def test_both_what_was_read_and_what_was_put_in_its_place_are_in_the_history(catalog: Catalog) -> None:
    image = await published(catalog)
    changed = await override(catalog, image.id, os_distro=text("fedora"))
    request = pb.ListImageEventsRequest(image_id=image.id, min_position=changed.position)
    events = (await catalog.images.ListImageEvents(request)).events
    assert events[1].staged.blob.read_facts["os_distro"].value == text("debian")
    assert list(events[-1].updated.changed) == ["overrides"]
    assert events[-1].updated.attributes.overrides["os_distro"] == text("fedora")
    assert events[-1].actor == "tester"


@pytest.mark.parametrize("validate_only", [False, True])
async def test_only_an_administrator_overrides(catalog: Catalog, validate_only: bool) -> None:
    image = await catalog.create()
    await override(catalog, image.id, os_distro=text("fedora"))
    head = await catalog.log.head()
    other = pb.Image(id=image.id, overrides={"os_distro": text("arch")})
    create = pb.CreateImageRequest(image=pb.Image(overrides={"os_distro": text("x")}), validate_only=validate_only)
    for call in (
        catalog.images.CreateImage(create),
        update(catalog, other, "overrides.os_distro", validate_only=validate_only),
        update(catalog, other, "overrides", validate_only=validate_only),
        update(catalog, other, validate_only=validate_only),
        update(catalog, other, "*", validate_only=validate_only),
        update(catalog, pb.Image(id=image.id), "overrides", validate_only=validate_only),
        update(catalog, pb.Image(id=image.id), "overrides.os_distro", validate_only=validate_only),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED")
        assert "only an administrator sets or clears overrides" in refusal.message
    assert await catalog.log.head() == head


async def test_an_administrator_creates_an_image_with_overrides(catalog: Catalog) -> None:
    request = pb.CreateImageRequest(image=pb.Image(overrides={"hw_cpu_cores": text("4")}))
    created = await catalog.images.CreateImage(request, metadata=ADMIN)
    assert created.effective_properties["hw_cpu_cores"] == number(4)


async def test_an_owner_who_updates_everything_keeps_the_overrides(catalog: Catalog) -> None:
    image = await catalog.create("x", properties={"note": text("old")})
    await override(catalog, image.id, note=text("admin"))
    changed = await update(catalog, pb.Image(id=image.id, name="y"), "*")
    assert (changed.name, dict(changed.properties), dict(changed.overrides)) == ("y", {}, {"note": text("admin")})
    # What was read may be sent back as it is.
    changed.name = "z"
    assert (await update(catalog, changed, "*")).overrides["note"] == text("admin")
    changed.etag = ""
    assert (await update(catalog, changed, "name", "overrides")).overrides["note"] == text("admin")


async def test_an_administrator_who_updates_everything_clears_what_is_not_sent(catalog: Catalog) -> None:
    image = await catalog.create("x")
    await override(catalog, image.id, note=text("admin"))
    changed = await update(catalog, pb.Image(id=image.id, name="y"), "*", metadata=ADMIN)
    assert dict(changed.overrides) == {}


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("min_disk", text("large"), "PROPERTY_TYPE"),
        ("min_disk", number(-1), "INVALID_SIZE"),
        ("min_ram", number(2**62), "INVALID_SIZE"),
        ("hw_cpu_cores", text("many"), "PROPERTY_TYPE"),
        ("img_signature", text("x"), "INVALID_PROPERTY"),
        ("kernel_id", text("x"), "LINKED_IMAGE"),
    ],
)
async def test_an_absurd_override_is_refused(
    catalog: Catalog, key: str, value: types_pb2.PropertyValue, reason: str
) -> None:
    image = await catalog.create()
    assert (await refused(override(catalog, image.id, **{key: value}))).reason == reason


# --- links ------------------------------------------------------------------------------------------------------------

AKI: dict[str, Any] = {"disk_format": types_pb2.DISK_FORMAT_AKI, "container_format": types_pb2.CONTAINER_FORMAT_AKI}
ARI: dict[str, Any] = {"disk_format": types_pb2.DISK_FORMAT_ARI, "container_format": types_pb2.CONTAINER_FORMAT_ARI}
AMI: dict[str, Any] = {"disk_format": types_pb2.DISK_FORMAT_AMI, "container_format": types_pb2.CONTAINER_FORMAT_AMI}


async def test_a_machine_image_names_its_kernel_and_its_ramdisk(catalog: Catalog) -> None:
    kernel, ramdisk = await catalog.create("k", **AKI), await catalog.create("r", **ARI)
    links = {"kernel_id": text(kernel.id), "ramdisk_id": text(ramdisk.id)}
    image = await catalog.create("m", **AMI, properties=links)
    assert dict(image.properties) == links


@pytest.mark.parametrize("validate_only", [False, True])
async def test_a_link_names_an_image_of_its_kind_that_the_caller_sees(catalog: Catalog, validate_only: bool) -> None:
    kernel, ramdisk = await catalog.create("k", **AKI), await catalog.create("r", **ARI)
    hidden = await catalog.create("h", project="other", visibility=types_pb2.VISIBILITY_PRIVATE, **AKI)
    image = await catalog.create("m", **AMI)
    deleted = await catalog.create("d", **AKI)
    await catalog.images.DeleteImage(pb.DeleteImageRequest(image_id=deleted.id))
    for key, value, words in (
        ("kernel_id", ramdisk.id, "must be of disk format aki, and is of ari"),
        ("ramdisk_id", kernel.id, "must be of disk format ari, and is of aki"),
        ("kernel_id", hidden.id, "there is no such image"),
        ("kernel_id", deleted.id, "there is no such image"),
        ("ramdisk_id", str(uuid.uuid4()), "there is no such image"),
        ("kernel_id", "vmlinuz", "is none"),
        ("kernel_id", "", "is none"),
    ):
        linked = pb.Image(id=image.id, properties={key: text(value)})
        creation = pb.CreateImageRequest(image=linked, validate_only=validate_only)
        for call in (
            catalog.images.CreateImage(creation, metadata=as_project()),
            update(catalog, linked, f"properties.{key}", validate_only=validate_only),
            update(catalog, linked, validate_only=validate_only),
        ):
            refusal = await refused(call)
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LINKED_IMAGE")
            assert key in refusal.message and words in refusal.message


async def test_a_link_is_checked_only_when_it_changes(catalog: Catalog) -> None:
    kernel = await catalog.create("k", **AKI)
    creation = pb.CreateImageRequest(
        image=pb.Image(name="m", properties={"kernel_id": text(kernel.id)}), request_id=str(uuid.uuid4())
    )
    image = await catalog.images.CreateImage(creation)
    await catalog.images.DeleteImage(pb.DeleteImageRequest(image_id=kernel.id))  # as in Glance: a link is no claim

    assert await catalog.images.CreateImage(creation) == image  # the repeated request is the same one
    renamed = await update(catalog, pb.Image(id=image.id, name="n"), "name")
    assert renamed.properties["kernel_id"] == text(kernel.id)
    removed = await update(catalog, pb.Image(id=image.id), "properties.kernel_id")
    assert dict(removed.properties) == {}
    again = pb.Image(id=image.id, properties={"kernel_id": text(kernel.id)})
    assert (await refused(update(catalog, again, "properties.kernel_id"))).reason == "LINKED_IMAGE"
