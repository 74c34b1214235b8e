"""Bytes both ways: resumed where they break, whole or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.unit.client.fake_services import FakeServices
from tintype.client import (
    Client,
    ClientConfig,
    ConfigurationError,
    ContentError,
    IntegrityError,
    InvalidRequestError,
    NotFoundError,
    PreconditionError,
    ServiceUnavailableError,
    UploadInterruptedError,
)
from tintype.client.sources import KEPT_BYTES
from tintype.client.transport import Transport
from tintype.codec.framing import MESSAGE_SIZE
from tintype.domain import errors

BIG = os.urandom(3 * MESSAGE_SIZE + 17)
SMALL = os.urandom(5000)


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


class Pipe(io.BytesIO):
    """A file that cannot go back."""

    def seekable(self) -> bool:
        return False


async def test_a_file_arrives_whole(client: Client, services: FakeServices, tmp_path: Path) -> None:
    image = services.add_image("x")
    path = tmp_path / "disk"
    path.write_bytes(BIG)
    told: list[tuple[int, int | None]] = []

    upload = await client.images.upload(image.id, path, on_progress=lambda done, total: told.append((done, total)))

    kept = services.uploads[upload.upload_id]
    assert (bytes(kept.data), kept.is_complete, kept.expected_size) == (BIG, True, len(BIG))
    assert (upload.committed_size, upload.complete, upload.operation_id) == (len(BIG), True, kept.operation_id)
    assert (told[0], told[-1]) == ((0, len(BIG)), (len(BIG), len(BIG)))
    assert client.position == 41
    assert services.cancelled == []


@pytest.mark.parametrize("size", [1, 1000, MESSAGE_SIZE, 2 * MESSAGE_SIZE + 1])
async def test_an_iterator_arrives_whole_whatever_its_pieces(client: Client, services: FakeServices, size: int) -> None:
    data = BIG if size > 1 else SMALL
    image = services.add_image("x")

    upload = await client.images.upload(image.id, pieces(data, size))

    assert services.uploads[upload.upload_id].data == data
    assert services.uploads[upload.upload_id].expected_size is None


@pytest.mark.parametrize("kind", [io.BytesIO, Pipe])
async def test_a_file_object_arrives_from_where_it_stands(
    client: Client, services: FakeServices, kind: type[io.BytesIO]
) -> None:
    file = kind(BIG)
    file.read(100)

    upload = await client.images.upload(services.add_image("x").id, file)

    assert services.uploads[upload.upload_id].data == BIG[100:]
    assert not file.closed


@pytest.mark.parametrize("source", ["file", "iterator"])
async def test_a_broken_upload_goes_on_at_the_committed_size(
    client: Client, services: FakeServices, tmp_path: Path, source: str
) -> None:
    (tmp_path / "disk").write_bytes(BIG)
    services.faults.break_writes_at = [1, MESSAGE_SIZE, 2 * MESSAGE_SIZE, len(BIG)]
    services.faults.lost_bytes = 1000

    sent: Path | AsyncIterator[bytes] = tmp_path / "disk" if source == "file" else pieces(BIG, 70_000)
    upload = await client.images.upload(services.add_image("x").id, sent)

    assert services.uploads[upload.upload_id].data == BIG
    assert services.faults.break_writes_at == []


@pytest.mark.parametrize("source", ["file", "iterator"])
async def test_a_lost_last_answer_is_asked_for_again(client: Client, services: FakeServices, source: str) -> None:
    services.faults.lose_last_answer = True

    upload = await client.images.upload(
        services.add_image("x").id, io.BytesIO(BIG) if source == "file" else pieces(BIG, MESSAGE_SIZE)
    )

    assert upload.complete
    assert services.uploads[upload.upload_id].data == BIG
    assert client.position == 41
    assert services.cancelled == []


async def test_an_upload_that_never_gets_on_is_given_up(client: Client, services: FakeServices) -> None:
    services.faults.break_writes_at = [1] * 100
    services.faults.lost_bytes = MESSAGE_SIZE

    with pytest.raises(ServiceUnavailableError):
        await client.images.upload(services.add_image("x").id, io.BytesIO(BIG))

    assert services.cancelled == ["upload-0"]


async def test_a_stream_cannot_go_back_behind_what_is_kept(client: Client, services: FakeServices) -> None:
    size = KEPT_BYTES + 3 * MESSAGE_SIZE
    services.faults.break_writes_at = [size]
    services.faults.lost_bytes = size

    with pytest.raises(UploadInterruptedError):
        await client.images.upload(services.add_image("x").id, pieces(bytes(size), MESSAGE_SIZE))

    assert services.cancelled == ["upload-0"]


async def test_refused_bytes_are_not_sent_again(client: Client, services: FakeServices) -> None:
    services.faults.refuse_write = errors.FormatMismatchError("these bytes are not qcow2")

    with pytest.raises(ContentError, match="not qcow2") as caught:
        await client.images.upload(services.add_image("x").id, io.BytesIO(BIG))

    assert caught.value.reason == "FORMAT_MISMATCH"
    assert len(services.uploads) == 1


async def test_the_announced_size_is_enforced(client: Client, services: FakeServices) -> None:
    with pytest.raises(ContentError) as caught:
        await client.images.upload(services.add_image("x").id, io.BytesIO(SMALL), expected_size=len(SMALL) + 1)

    assert caught.value.reason == "SIZE_MISMATCH"


async def test_a_source_that_fails_leaves_no_upload(client: Client, services: FakeServices) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"some"
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        await client.images.upload(services.add_image("x").id, broken())

    assert services.cancelled == ["upload-0"]


async def test_bytes_need_an_importer(services: FakeServices) -> None:
    transport = Transport(ClientConfig(catalog=services.target))

    with pytest.raises(ConfigurationError, match="importer is missing"):
        await Client(transport).images.upload("x", io.BytesIO(SMALL))

    await transport.close()


async def test_a_download_is_whole_and_verified(client: Client, services: FakeServices, tmp_path: Path) -> None:
    image = services.add_image("x", data=SMALL)

    done = await client.images.download(image.id, tmp_path / "copy", fsync=True)

    assert (tmp_path / "copy").read_bytes() == SMALL
    assert (done.size, done.digest) == (len(SMALL), f"sha256:{image.digests['sha256']}")
    assert os.listdir(tmp_path) == ["copy"]


async def test_a_broken_download_goes_on_where_it_was(client: Client, services: FakeServices, tmp_path: Path) -> None:
    image = services.add_image("x", data=SMALL)
    services.faults.break_reads_at = [0, 1024, 2048, 4096]

    await client.images.download(image.id, tmp_path / "copy")

    assert (tmp_path / "copy").read_bytes() == SMALL
    assert services.faults.break_reads_at == []


async def test_damaged_bytes_get_no_name(client: Client, services: FakeServices, tmp_path: Path) -> None:
    image = services.add_image("x", data=SMALL)
    services.faults.damaged_reads = True
    (tmp_path / "copy").write_bytes(b"older")

    with pytest.raises(IntegrityError, match="sha256"):
        await client.images.download(image.id, tmp_path / "copy")

    assert (tmp_path / "copy").read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["copy"]


@pytest.mark.parametrize("difference", [-1, 1])
async def test_a_download_of_another_size_gets_no_name(
    client: Client, services: FakeServices, tmp_path: Path, difference: int
) -> None:
    image = services.add_image("x", data=SMALL)
    services.data[image.id] = SMALL[:difference] if difference < 0 else SMALL + b"x" * 3000
    image.size = len(SMALL) if difference < 0 else len(SMALL) + 5000

    with pytest.raises(IntegrityError, match="the catalog tells of"):
        await client.images.download(image.id, tmp_path / "copy", verify=False)

    assert os.listdir(tmp_path) == []


async def test_md5_proves_nothing(client: Client, services: FakeServices, tmp_path: Path) -> None:
    image = services.add_image("x", data=SMALL)
    del image.digests["sha256"]

    with pytest.raises(IntegrityError) as caught:
        await client.images.download(image.id, tmp_path / "copy")
    unverified = await client.images.download(image.id, tmp_path / "copy", verify=False)

    assert caught.value.reason == "DIGEST_UNKNOWN"
    assert unverified.digest == ""


@pytest.mark.parametrize(
    ("offset", "length", "end"), [(0, 10, 10), (100, 2000, 2100), (4990, 100, 5000), (4000, None, 5000)]
)
async def test_a_range_is_what_was_asked_for(
    client: Client, services: FakeServices, offset: int, length: int | None, end: int
) -> None:
    image = services.add_image("x", data=SMALL)
    file: BinaryIO = io.BytesIO()

    done = await client.images.download(image.id, file, offset=offset, length=length)
    read = b"".join([chunk async for chunk in client.images.read(image.id, offset=offset, length=length)])

    file.seek(0)
    assert file.read() == read == SMALL[offset:end]
    assert (done.size, done.digest) == (end - offset, "")


@pytest.mark.parametrize(("offset", "length"), [(-1, None), (0, 0), (0, -5)])
async def test_a_range_of_nothing_is_refused(
    client: Client, services: FakeServices, offset: int, length: int | None
) -> None:
    image = services.add_image("x", data=SMALL)

    with pytest.raises(InvalidRequestError):
        await client.images.download(image.id, io.BytesIO(), offset=offset, length=length)


async def test_an_image_without_bytes_cannot_be_downloaded(
    client: Client, services: FakeServices, tmp_path: Path
) -> None:
    with pytest.raises(PreconditionError) as caught:
        await client.images.download(services.add_image("x").id, tmp_path / "copy")

    assert caught.value.reason == "IMAGE_HAS_NO_DATA"
    assert os.listdir(tmp_path) == []


async def test_a_missing_image_cannot_be_downloaded(client: Client, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        await client.images.download("00000000-0000-0000-0000-000000000000", tmp_path / "copy")


async def test_a_full_disk_leaves_nothing(client: Client, services: FakeServices) -> None:
    image = services.add_image("x", data=SMALL)

    with pytest.raises(OSError, match="No space left"):
        await client.images.download(image.id, Path("/dev/full"))

    assert Path("/dev/full").is_char_device()


async def test_a_link_is_followed_and_stays(client: Client, services: FakeServices, tmp_path: Path) -> None:
    image = services.add_image("x", data=SMALL)
    (tmp_path / "link").symlink_to("target")

    await client.images.download(image.id, tmp_path / "link")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == SMALL
