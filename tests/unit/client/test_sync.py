"""The synchronous face: the same names, the same answers, nothing left running."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.client.fake_services import FakeServices, serving_in_thread
from tintype import client as asynchronous
from tintype.client import NotFoundError, admin, events, images, importer, operations, policy, signer, stores, sync

FACES = [
    (images.Images, sync.Images),
    (operations.Operations, sync.Operations),
    (events.Events, sync.Events),
    (importer.Importer, sync.Importer),
    (stores.Stores, sync.Stores),
    (signer.Signer, sync.Signer),
    (admin.Admin, sync.Admin),
    (policy.Policy, sync.Policy),
    (asynchronous.Client, sync.Client),
]


@pytest.fixture
def services() -> Iterator[FakeServices]:
    with serving_in_thread(FakeServices()) as running:
        yield running


@pytest.mark.parametrize(("wanted", "face"), FACES)
def test_no_public_name_is_missing(wanted: type[object], face: type[object]) -> None:
    def public(cls: type[object]) -> set[str]:
        return {name for name in vars(cls) if not name.startswith("_")}

    assert public(face) == public(wanted)


def test_a_method_keeps_its_signature_and_words() -> None:
    assert inspect.signature(sync.Images.create) == inspect.signature(images.Images.create)
    assert sync.Images.create.__doc__ == images.Images.create.__doc__


def test_a_script_needs_no_await(services: FakeServices, tmp_path: Path) -> None:
    config = asynchronous.ClientConfig(catalog=services.target, importer=services.target)
    (tmp_path / "disk").write_bytes(b"x" * 5000)

    with sync.connect(config) as client:
        image = client.images.create("debian")
        upload = client.images.upload(image.id, tmp_path / "disk")
        assert client.images.get(image.id).name == "debian"
        assert [found.id for found in client.images.list()] == [image.id]
        first = next(client.images.list())
        with pytest.raises(NotFoundError):
            client.images.get("absent")
        assert client.images.update(image.id, overrides={"os_type": "linux"}).overrides == {"os_type": "linux"}
        assert client.importer.import_plugins() == ()

    assert upload.complete
    assert first.id == image.id
    assert "tintype-client" not in {thread.name for thread in threading.enumerate()}
