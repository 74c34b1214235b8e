"""Images over the wire: what is asked, what is answered, and what is repeated."""

from __future__ import annotations

import uuid
from contextlib import aclosing

import pytest

from tests.unit.client.fake_services import NOW, FakeServices
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.events.v1 import events_pb2
from tintype.api.importer.v1 import importer_pb2
from tintype.api.types.v1 import types_pb2
from tintype.client import (
    AlreadyExistsError,
    Client,
    ClientConfig,
    ConflictError,
    DiskFormat,
    Fact,
    ImageEvent,
    ImportPlugin,
    InvalidRequestError,
    NotFoundError,
    PluginState,
    PreconditionError,
    ServiceDefectError,
    ServiceUnavailableError,
    Status,
    Visibility,
    connect,
)
from tintype.codec import values


async def test_a_created_image_is_answered_with_plain_values(client: Client) -> None:
    image = await client.images.create(
        "debian", disk_format="qcow2", container_format="bare", tags=["b", "a"], properties={"hw_cpu_cores": 4}
    )

    assert (image.name, image.status, image.disk_format) == ("debian", Status.QUEUED, DiskFormat.QCOW2)
    assert (image.size, image.failure, image.verification) == (None, None, None)
    assert image.properties == {"hw_cpu_cores": 4}
    assert image.created_at == NOW
    assert image.visibility is Visibility.SHARED


async def test_every_call_carries_project_and_actor(client: Client, services: FakeServices) -> None:
    await client.images.create("x")

    assert services.metadata["tintype-project"] == "p1"
    assert services.metadata["tintype-actor"] == "tester"


async def test_a_retry_is_the_same_request(client: Client, services: FakeServices) -> None:
    services.faults.unavailable_calls = 2

    await client.images.create("x")

    ids = {request.request_id for request in services.requests if isinstance(request, pb.CreateImageRequest)}
    assert len(services.requests) == 3
    assert len(ids) == 1
    assert uuid.UUID(ids.pop()).version == 4


async def test_retries_end(client: Client, services: FakeServices) -> None:
    services.faults.unavailable_calls = 10_000

    with pytest.raises(ServiceUnavailableError) as caught:
        await client.images.get(str(uuid.uuid4()))

    assert caught.value.reason == "UNAVAILABLE"
    assert caught.value.retryable
    assert 5 < len(services.requests) < 100


async def test_a_read_asks_for_what_was_written(client: Client, services: FakeServices) -> None:
    image = await client.images.create("x")
    await client.images.get(image.id)
    [_ async for _ in client.images.list()]

    asked = [request for request in services.requests if not isinstance(request, pb.CreateImageRequest)]
    assert image.position > 0
    assert {request.min_position for request in asked} == {image.position}  # type: ignore[attr-defined]


async def test_the_services_reason_and_hint_arrive(client: Client, services: FakeServices) -> None:
    protected = services.add_image("x")
    protected.protected = True

    with pytest.raises(PreconditionError) as caught:
        await client.images.delete(protected.id)

    assert (caught.value.reason, caught.value.hint) == ("IMAGE_PROTECTED", "Clear `protected` first.")
    assert not caught.value.retryable


async def test_an_id_is_used_once(client: Client) -> None:
    chosen = str(uuid.uuid4())
    assert (await client.images.create(image_id=chosen)).id == chosen

    with pytest.raises(AlreadyExistsError, match=chosen):
        await client.images.create(image_id=chosen)


async def test_an_unknown_word_is_refused_before_the_call(client: Client, services: FakeServices) -> None:
    with pytest.raises(InvalidRequestError, match="'qcow' is not a disk format") as caught:
        await client.images.create(disk_format="qcow")

    assert caught.value.reason == "INVALID_FORMAT"
    assert "qcow2" in caught.value.hint
    assert services.requests == []


async def test_a_list_goes_on_over_its_pages(client: Client, services: FakeServices) -> None:
    for number in range(5):
        services.add_image(f"image-{number}")

    names = [image.name async for image in client.images.list(page_size=2)]

    assert names == [f"image-{number}" for number in range(5)]
    assert len(services.requests) == 3


async def test_a_limit_asks_for_no_more(client: Client, services: FakeServices) -> None:
    for number in range(5):
        services.add_image(f"image-{number}")

    assert len([image async for image in client.images.list(limit=3, page_size=2)]) == 3
    assert [request.page_size for request in services.requests] == [2, 1]  # type: ignore[attr-defined]


async def test_filters_are_quoted(client: Client, services: FakeServices) -> None:
    found = client.images.list(
        name='a "b" AND c\\',
        status="active",
        tags=["x"],
        hidden=True,
        properties={"os_distro": "debian"},
        filter="size>1",
    )
    [_ async for _ in found]

    request = services.requests[0]
    assert isinstance(request, pb.ListImagesRequest)
    assert request.filter == (
        r'name="a \"b\" AND c\\" AND status="active" AND tag="x" AND hidden="true"'
        ' AND properties.os_distro="debian" AND size>1'
    )


async def test_a_name_that_one_image_has_is_found(client: Client, services: FakeServices) -> None:
    wanted = services.add_image("debian")
    services.add_image("fedora")

    assert (await client.images.find("debian")).id == wanted.id
    assert (await client.images.find(wanted.id.upper())).id == wanted.id


async def test_a_name_that_two_images_have_is_no_name(client: Client, services: FakeServices) -> None:
    first, second = services.add_image("debian"), services.add_image("debian")

    with pytest.raises(ConflictError) as caught:
        await client.images.find("debian")

    assert caught.value.reason == "NAME_NOT_UNIQUE"
    assert first.id in caught.value.message
    assert second.id in caught.value.message


async def test_a_name_that_no_image_has_is_not_found(client: Client) -> None:
    with pytest.raises(NotFoundError, match="no image named 'debian'"):
        await client.images.find("debian")


async def test_an_update_names_what_it_changes(client: Client, services: FakeServices) -> None:
    image = services.add_image("old")
    image.properties["gone"].string_value = "x"

    changed = await client.images.update(
        image.id, name="new", protected=False, properties={"a.b": "c"}, remove_properties=["gone"]
    )

    request = services.requests[0]
    assert isinstance(request, pb.UpdateImageRequest)
    assert set(request.update_mask.paths) == {"name", "protected", "properties.a.b", "properties.gone"}
    assert (changed.name, changed.properties) == ("new", {"a.b": "c"})


async def test_an_update_sets_overrides_and_clears_others(client: Client, services: FakeServices) -> None:
    image = services.add_image("x")
    image.overrides["gone"].string_value = "x"

    changed = await client.images.update(image.id, overrides={"min_disk": 4, "os.x": "y"}, clear_overrides=["gone"])

    request = services.requests[0]
    assert isinstance(request, pb.UpdateImageRequest)
    assert set(request.update_mask.paths) == {"overrides.min_disk", "overrides.os.x", "overrides.gone"}
    assert changed.overrides == {"min_disk": 4, "os.x": "y"}


async def test_an_image_may_be_created_with_overrides(client: Client) -> None:
    assert (await client.images.create("x", overrides={"hw_cpu_cores": 4})).overrides == {"hw_cpu_cores": 4}


async def test_what_was_read_says_where(client: Client, services: FakeServices) -> None:
    image = services.add_image("x")
    image.read_facts["os_type"].value.string_value = "linux"
    image.read_facts["os_type"].source = "/etc/os-release"
    image.effective_properties["os_type"].string_value = "linux"

    found = await client.images.get(image.id)

    assert found.read_facts == {"os_type": Fact("linux", "/etc/os-release")}
    assert found.effective_properties == {"os_type": "linux"}


async def test_the_importer_tells_what_it_does_with_imports(client: Client, services: FakeServices) -> None:
    services.plugins = [
        importer_pb2.PluginState(plugin=types_pb2.IMPORT_PLUGIN_CONVERSION, enabled=True, description="to raw")
    ]

    assert await client.importer.import_plugins() == (PluginState(ImportPlugin.CONVERSION, True, "to raw"),)

    services.plugins[0].plugin = 99  # type: ignore[assignment]
    with pytest.raises(ServiceDefectError):
        await client.importer.import_plugins()


async def test_an_update_of_nothing_reads(client: Client, services: FakeServices) -> None:
    image = services.add_image("old")

    assert (await client.images.update(image.id)).name == "old"
    assert not any(isinstance(request, pb.UpdateImageRequest) for request in services.requests)


async def test_a_value_of_a_newer_release_is_an_error_and_no_guess(client: Client, services: FakeServices) -> None:
    image = services.add_image("x")
    image.status = 99  # type: ignore[assignment]

    with pytest.raises(ServiceDefectError) as caught:
        await client.images.get(image.id)

    assert caught.value.reason == "NOT_UNDERSTOOD"


def event(image_id: str, position: int) -> events_pb2.ImageEvent:
    return events_pb2.ImageEvent(
        position=position,
        version=position,
        event_id=str(uuid.uuid4()),
        image_id=image_id,
        project="p1",
        time=values.encode_time(NOW),
        actor="a",
        created=events_pb2.ImageCreated(attributes=types_pb2.ImageAttributes(name=f"n{position}")),
    )


async def test_a_history_goes_on_over_its_pages(client: Client, services: FakeServices) -> None:
    image = services.add_image("x")
    services.events = [event(image.id, position) for position in (1, 2, 3)]

    found = [event async for event in client.images.history(image.id)]

    assert [(event.version, event.type) for event in found] == [(1, "created"), (2, "created"), (3, "created")]


async def test_a_watch_survives_breaks_without_a_gap_or_a_repetition(client: Client, services: FakeServices) -> None:
    image = services.add_image("x")
    services.events = [event(image.id, position) for position in (3, 5, 8)]
    seen = []

    async with aclosing(client.images.watch(after=0)) as changes:
        async for change in changes:
            assert isinstance(change, ImageEvent)
            seen.append(change.position)
            if len(seen) == 3:
                break

    assert seen == [3, 5, 8]
    assert client.position == 8


async def test_a_watch_that_breaks_before_its_first_event_misses_none(client: Client, services: FakeServices) -> None:
    image = services.add_image("x")
    services.meanwhile = [event(image.id, services.position + 1)]

    async with aclosing(client.images.watch()) as changes:
        change = await anext(changes)

    assert isinstance(change, ImageEvent)
    assert change.position == services.position


async def test_a_watch_of_a_service_that_stays_away_ends(client: Client) -> None:
    with pytest.raises(ServiceUnavailableError):
        async for _ in client.images.watch(after=0):
            pass


async def test_a_rebuild_tells_how_far_it_is(client: Client) -> None:
    states = [state async for state in client.admin.rebuild()]

    assert [(state.position, state.switched) for state in states] == [(1, False), (2, True)]


async def test_a_rebuild_is_asked_for_as_an_administrator(client: Client, services: FakeServices) -> None:
    [_ async for _ in client.admin.rebuild()]
    assert services.metadata["tintype-admin"] == "true"

    await client.images.create("x")
    assert "tintype-admin" not in services.metadata


async def test_a_client_without_an_actor_speaks_for_the_user(services: FakeServices) -> None:
    async with connect(ClientConfig(catalog=services.target, admin=True)) as client:
        await client.images.create("x")

    assert services.metadata["tintype-actor"]
    assert services.metadata["tintype-admin"] == "true"
