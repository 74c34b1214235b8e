"""Imports of compressed images, and what else a deployment does with imports."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import grpc.aio
import pytest
from aiohttp import web

from services.importer.servicer import SERVICE_NAME, register
from services.importer.uploads import UploadState
from tests.integration.importer.conftest import CALLER, PROJECT, Importer, MakeImporter, is_active
from tintype.api.importer.v1 import importer_pb2 as pb
from tintype.api.importer.v1.importer_pb2_grpc import ImporterServiceStub
from tintype.api.types.v1 import types_pb2
from tintype.codec.framing import WriteFrame
from tintype.domain.access import Caller
from tintype.domain.attributes import ImageAttributes
from tintype.domain.commands import CreateImage, RequestImport
from tintype.domain.errors import FormatMismatchError
from tintype.domain.events import EventContext, ImportMethod, ImportPlugin, ImportSource, StagePurpose
from tintype.domain.lifecycle import Status
from tintype.domain.values import CommandId, ContainerFormat, Digest, DiskFormat, ImageId, OperationId
from tintype.runtime.grpc_server import serving as serving_calls
from tintype.testing.events import an_id
from tintype.testing.handmade import qcow2
from tintype.testing.hostile_compressed import COMPRESSORS
from tintype.testing.hostile_sizes import empty_giants

DISK = random.Random(4).randbytes(900_000) + bytes(1 << 20)
ADMIN = Caller(PROJECT, "root", is_admin=True)


@asynccontextmanager
async def serving(content: bytes, *, breaks_at: int | None = None) -> AsyncIterator[str]:
    """A web server that has this content, and breaks the first answer off."""
    broken = breaks_at is None

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal broken
        begin = request.http_range.start or 0
        headers = {"Content-Length": str(len(content) - begin), "ETag": '"1"', "Accept-Ranges": "bytes"}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        response = web.StreamResponse(status=206 if begin else 200, headers=headers)
        await response.prepare(request)
        if not broken:
            broken = True
            await response.write(content[:breaks_at])
            assert request.transport is not None
            request.transport.abort()
            return response
        with contextlib.suppress(ConnectionError):
            await response.write(content[begin:])
        return response

    app = web.Application()
    app.router.add_get("/{name}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/disk"
    finally:
        await runner.cleanup()


def sha256(data: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(data).hexdigest())


async def frames(upload_id: str, data: bytes, offset: int = 0, *, finish: bool = True) -> AsyncIterator[WriteFrame]:
    for begin in range(offset, len(data), 200_000):
        end = min(begin + 200_000, len(data))
        yield WriteFrame(upload_id if begin == offset else "", begin, finish and end == len(data), data[begin:end])


async def begun(importer: Importer, image_id: ImageId, caller: Caller = CALLER, **options: object) -> UploadState:
    wanted = {"size": None, "digest": None, "request_id": "r", "purpose": StagePurpose.STAGE} | options
    return await importer.uploads.start(caller, image_id, **wanted)  # type: ignore[arg-type]


async def import_staged(importer: Importer, image_id: ImageId) -> None:
    source = ImportSource(ImportMethod.GLANCE_DIRECT)
    await importer.execute(image_id, RequestImport(OperationId(an_id("import staged")), source))


# --- decompression ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(COMPRESSORS))
async def test_compressed_download_becomes_the_image_inside(kind: str, importer: Importer) -> None:
    came = COMPRESSORS[kind](DISK)
    async with serving(came, breaks_at=700_000) as url, importer.working():
        image_id = await importer.request_import(url, size=len(came), digest=sha256(came))
        image = await importer.until(image_id, is_active)
    assert await importer.read(image_id) == DISK
    assert image.data is not None
    assert image.data.received is not None
    assert (image.data.received.size, image.data.received.compression) == (len(came), kind)
    assert image.data.received.digests["sha256"] == sha256(came).hex
    assert (image.data.blob.size, image.data.blob.digests) == (len(DISK), {"sha256": sha256(DISK).hex})
    await importer.until_files({f"blobs/{image.data.locations[0].key}"})


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "bomb": (lambda: gzip.compress(bytes(65 << 20)), "DECOMPRESSION_BOMB"),
    "cut": (lambda: gzip.compress(DISK)[:-4], "TRUNCATED"),
    "damaged": (lambda: gzip.compress(DISK)[:-4] + b"spam", "MALFORMED_IMAGE"),
    "another format": (lambda: gzip.compress(qcow2()), "FORMAT_MISMATCH"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_compressed_download_that_is_refused_leaves_a_queued_image_and_no_bytes(
    name: str, importer: Importer
) -> None:
    build, reason = REFUSED[name]
    async with serving(build()) as url, importer.working():
        image = await importer.until_ended(await importer.request_import(url))
    assert image.status is Status.QUEUED
    assert image.failure is not None
    assert image.failure.reason == reason
    assert importer.files() == set()


async def test_staged_upload_that_is_compressed_becomes_the_image_inside(importer: Importer) -> None:
    came = gzip.compress(DISK)
    image_id = await importer.create()
    async with importer.working():
        state = await begun(importer, image_id, size=len(came), digest=sha256(came))
        written = await importer.uploads.write(CALLER, frames(str(state.token), came))
        assert (written.committed_size, written.is_complete) == (len(came), True)
        assert (await importer.uploads.status(CALLER, str(state.token))).committed_size == len(came)
        await import_staged(importer, image_id)
        image = await importer.until(image_id, is_active)
        assert image.data is not None
        await importer.until_files({f"blobs/{image.data.locations[0].key}"})
    assert await importer.read(image_id) == DISK
    assert image.data.received is not None
    assert image.data.received.size == len(came)


@pytest.mark.parametrize("is_killed", [False, True])
async def test_staged_upload_that_is_compressed_is_gone_on_with_in_its_own_bytes(
    is_killed: bool, importer: Importer
) -> None:
    came = gzip.compress(DISK)
    image_id = await importer.create()
    state = await begun(importer, image_id)
    half = await importer.uploads.write(CALLER, frames(str(state.token), came[:600_000], finish=False))
    assert half.committed_size == 600_000
    if is_killed:
        await importer.uploads.aclose()
        importer.uploads = importer.new_uploads()
    status = await importer.uploads.status(CALLER, str(state.token))
    assert status.committed_size == 600_000
    await importer.uploads.write(CALLER, frames(str(state.token), came, 600_000))
    async with importer.working():
        await import_staged(importer, image_id)
        await importer.until(image_id, is_active)
    assert await importer.read(image_id) == DISK


async def test_staged_upload_that_is_cancelled_leaves_nothing(importer: Importer) -> None:
    image_id = await importer.create()
    state = await begun(importer, image_id)
    await importer.uploads.write(CALLER, frames(str(state.token), gzip.compress(DISK)[:600_000], finish=False))
    await importer.uploads.cancel(CALLER, str(state.token))
    assert importer.files() == set()


async def test_plain_upload_is_never_decompressed(importer: Importer) -> None:
    image_id = await importer.create(disk_format=DiskFormat.QCOW2)
    state = await begun(importer, image_id, purpose=StagePurpose.UPLOAD)
    with pytest.raises(FormatMismatchError):
        await importer.uploads.write(CALLER, frames(str(state.token), gzip.compress(qcow2())))
    assert importer.files() == set()


async def test_nothing_is_decompressed_where_that_is_switched_off(make_importer: MakeImporter) -> None:
    importer = await make_importer(decompression=False)
    async with serving(gzip.compress(qcow2())) as url, importer.working():
        image_id = await importer.request_import(url, disk_format=DiskFormat.QCOW2)
        image = await importer.until_ended(image_id)
    assert image.failure is not None
    assert image.failure.reason == "FORMAT_MISMATCH"


@pytest.mark.parametrize("purpose", [StagePurpose.UPLOAD, StagePurpose.STAGE])
async def test_compressed_container_stays_compressed(purpose: StagePurpose, importer: Importer) -> None:
    came = COMPRESSORS["zstd"](qcow2())
    image_id = await importer.create()
    attributes = ImageAttributes(disk_format=DiskFormat.QCOW2, container_format=ContainerFormat.COMPRESSED)
    image_id = ImageId(an_id("contained"))
    await importer.execute(image_id, CreateImage(attributes))
    async with importer.working():
        state = await begun(importer, image_id, purpose=purpose)
        await importer.uploads.write(CALLER, frames(str(state.token), came))
        if purpose is StagePurpose.STAGE:
            await import_staged(importer, image_id)
        image = await importer.until(image_id, is_active)
    assert await importer.read(image_id) == came
    assert image.data is not None
    assert image.data.received is None
    assert (image.data.blob.disk_format, image.data.blob.virtual_size) == (DiskFormat.QCOW2, 1 << 20)
    assert image.facts["compression"].value == "zstd"


async def test_disk_that_is_too_large_for_its_file_is_refused(make_importer: MakeImporter) -> None:
    importer = await make_importer(max_allocation_ratio=1000, max_virtual_bytes=1 << 62)
    giant = dict(empty_giants())[DiskFormat.QCOW2]()
    async with serving(giant) as url, importer.working():
        image = await importer.until_ended(await importer.request_import(url, disk_format=DiskFormat.QCOW2))
    assert image.failure is not None
    assert image.failure.reason == "ALLOCATION_RATIO"


# --- injection, and what is switched off ------------------------------------------------------------------------------


@pytest.mark.parametrize("is_admin", [False, True])
async def test_injected_properties_are_added_to_what_ordinary_users_import(
    is_admin: bool, make_importer: MakeImporter
) -> None:
    importer = await make_importer(injected_properties={"os_admin_user": "cloud"}, conversion=False)
    image_id = await importer.create()
    async with serving(DISK) as url, importer.working():
        await importer.journal.execute(
            image_id,
            RequestImport(OperationId(an_id("op")), ImportSource(ImportMethod.WEB_DOWNLOAD, url)),
            project=PROJECT,
            command_id=CommandId("import"),
            context=EventContext("somebody", "request", "request", is_admin=is_admin),
        )
        image = await importer.until(image_id, is_active)
    assert image.attributes.properties == ({} if is_admin else {"os_admin_user": "cloud"})
    assert image.operation is not None
    off = {ImportPlugin.CONVERSION} | ({ImportPlugin.INJECTION} if is_admin else set())
    assert set(image.operation.switched_off) == off


@pytest.mark.parametrize("caller", [CALLER, ADMIN])
@pytest.mark.parametrize("purpose", [StagePurpose.UPLOAD, StagePurpose.STAGE])
async def test_injected_properties_are_added_to_what_is_staged_and_not_to_plain_uploads(
    purpose: StagePurpose, caller: Caller, make_importer: MakeImporter
) -> None:
    importer = await make_importer(injected_properties={"os_admin_user": "cloud"})
    image_id = await importer.create()
    state = await begun(importer, image_id, caller, purpose=purpose)
    await importer.uploads.write(caller, frames(str(state.token), DISK))
    is_injected = purpose is StagePurpose.STAGE and not caller.is_admin
    image = await importer.load(image_id)
    assert image.attributes.properties == ({"os_admin_user": "cloud"} if is_injected else {})


async def test_facts_are_not_kept_where_introspection_is_switched_off(make_importer: MakeImporter) -> None:
    importer = await make_importer(introspection=False)
    async with serving(gzip.compress(qcow2())) as url, importer.working():
        image = await importer.until(await importer.request_import(url, disk_format=DiskFormat.QCOW2), is_active)
    assert image.facts == {}


async def test_plugins_are_listed(make_importer: MakeImporter) -> None:
    importer = await make_importer(decompression=False, injected_properties={"os_admin_user": "cloud"})
    servicer = importer.new_servicer()
    async with (
        serving_calls([partial(register, servicer)], [SERVICE_NAME], "127.0.0.1:0", 0) as (address, _),
        grpc.aio.insecure_channel(address) as channel,
    ):
        answer = await ImporterServiceStub(channel).ListImportPlugins(pb.ListImportPluginsRequest())
    enabled = {types_pb2.ImportPlugin.Name(state.plugin): state.enabled for state in answer.plugins}
    assert enabled == {
        "IMPORT_PLUGIN_DECOMPRESSION": False,
        "IMPORT_PLUGIN_CONVERSION": True,
        "IMPORT_PLUGIN_INTROSPECTION": True,
        "IMPORT_PLUGIN_INJECTION": True,
    }
    assert all(state.description for state in answer.plugins)
