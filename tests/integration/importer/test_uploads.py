"""Uploads and downloads over gRPC: resumable, also after a kill; one writer; nothing is left of what is refused."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2

from services.importer.servicer import SERVICE_NAME, register
from services.importer.upload_tokens import UploadToken
from services.importer.uploads import UploadLimits, Uploads
from tests.integration.importer.conftest import CALLER, Importer, MakeImporter, is_active
from tintype.adapters.filesystem.store import FileImageStore
from tintype.api.events.v1 import events_pb2
from tintype.api.importer.v1 import importer_pb2 as pb
from tintype.api.importer.v1.importer_pb2_grpc import ImporterServiceStub
from tintype.codec.call_metadata import STATUS_TRAILER
from tintype.codec.framing import WriteFrame
from tintype.domain.access import Caller
from tintype.domain.commands import DeleteImage, RequestImport
from tintype.domain.errors import (
    DigestMismatchError,
    ImageNotFoundError,
    NotPermittedError,
    StoreUnavailableError,
    TintypeError,
    UploadBusyError,
    UploadNotFoundError,
    UploadStalledError,
    WrongOffsetError,
)
from tintype.domain.events import ImportMethod, ImportSource, StagePurpose
from tintype.domain.lifecycle import Status
from tintype.domain.values import Digest, ImageId, OperationId, ProjectId
from tintype.runtime.grpc_server import serving
from tintype.testing.calls import call_by
from tintype.testing.events import an_id

DATA = random.Random(5).randbytes(2_500_000)
UPLOAD, STAGE = events_pb2.STAGE_PURPOSE_UPLOAD, events_pb2.STAGE_PURPOSE_STAGE
METADATA = (("tintype-project", "acme"),)


@pytest.fixture
async def stub(importer: Importer) -> AsyncIterator[ImporterServiceStub]:
    servicer = importer.new_servicer()
    async with (
        serving([partial(register, servicer)], [SERVICE_NAME], "127.0.0.1:0", 0) as (address, _),
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield ImporterServiceStub(channel)


def requests(upload_id: str, data: bytes, offset: int = 0, *, finish: bool = True) -> list[pb.WriteRequest]:
    made = [
        pb.WriteRequest(
            upload_id=upload_id if begin == offset else "", write_offset=begin, data=data[begin : begin + 400_000]
        )
        for begin in range(offset, len(data), 400_000)
    ] or [pb.WriteRequest(upload_id=upload_id, write_offset=offset)]
    made[-1].finish_write = finish
    return made


async def frames(*sent: WriteFrame) -> AsyncIterator[WriteFrame]:
    for frame in sent:
        yield frame


async def begin(importer: Importer, image_id: ImageId, **options: object) -> str:
    state = await importer.uploads.start(
        CALLER,
        image_id,
        StagePurpose.UPLOAD,
        **({"size": None, "digest": None, "request_id": "r"} | options),  # type: ignore[arg-type]
    )
    return str(state.token)


def reason_of(error: grpc.aio.AioRpcError) -> str:
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())[STATUS_TRAILER])
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    return info.reason


# --- as any gRPC client sees it ---------------------------------------------------------------------------------------


async def test_an_upload_is_published_as_it_came(importer: Importer, stub: ImporterServiceStub) -> None:
    image_id = await importer.create()
    async with importer.working():
        upload = await stub.StartUpload(
            pb.StartUploadRequest(
                image_id=image_id,
                purpose=UPLOAD,
                expected_size=len(DATA),
                expected_digest=f"sha512:{hashlib.sha512(DATA).hexdigest()}",
            ),
            metadata=METADATA,
        )
        assert (upload.committed_size, upload.complete) == (0, False)
        written = await stub.Write(iter(requests(upload.upload_id, DATA)), metadata=METADATA)
        assert (written.committed_size, written.operation_id) == (len(DATA), upload.operation_id)
        assert written.position > 0
        image = await importer.until(image_id, is_active)
    assert image.data is not None
    parts = [part.data async for part in stub.Read(pb.ReadRequest(image_id=image_id), metadata=METADATA)]
    assert b"".join(parts) == DATA
    assert max(len(part) for part in parts) <= 1024 * 1024
    ranged = stub.Read(pb.ReadRequest(image_id=image_id, read_offset=7, read_limit=9), metadata=METADATA)
    assert b"".join([part.data async for part in ranged]) == DATA[7:16]
    await importer.until_files({f"blobs/{image.data.locations[0].key}"})


async def test_staged_bytes_are_imported_later(importer: Importer, stub: ImporterServiceStub) -> None:
    image_id = await importer.create()
    upload = await stub.StartUpload(pb.StartUploadRequest(image_id=image_id, purpose=STAGE), metadata=METADATA)
    await stub.Write(iter(requests(upload.upload_id, DATA)), metadata=METADATA)
    assert (await importer.load(image_id)).status is Status.UPLOADING
    async with importer.working():
        await importer.execute(
            image_id, RequestImport(OperationId(an_id("direct")), ImportSource(ImportMethod.GLANCE_DIRECT))
        )
        await importer.until(image_id, is_active)
    assert await importer.read(image_id) == DATA


async def test_a_stream_that_breaks_goes_on_at_the_committed_size(
    importer: Importer, stub: ImporterServiceStub
) -> None:
    image_id = await importer.create()
    upload = await stub.StartUpload(pb.StartUploadRequest(image_id=image_id, purpose=UPLOAD), metadata=METADATA)
    half = await stub.Write(iter(requests(upload.upload_id, DATA[:900_000], finish=False)), metadata=METADATA)
    assert (half.committed_size, half.operation_id) == (900_000, "")
    status = await stub.QueryWriteStatus(pb.QueryWriteStatusRequest(upload_id=upload.upload_id), metadata=METADATA)
    assert (status.committed_size, status.complete) == (900_000, False)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Write(iter(requests(upload.upload_id, DATA)), metadata=METADATA)
    assert reason_of(caught.value) == "WRONG_OFFSET"
    written = await stub.Write(iter(requests(upload.upload_id, DATA, 900_000)), metadata=METADATA)
    assert written.committed_size == len(DATA)
    status = await stub.QueryWriteStatus(pb.QueryWriteStatusRequest(upload_id=upload.upload_id), metadata=METADATA)
    assert status.complete


@pytest.mark.parametrize("message", [b"\xff", b"\x0a\xff\xff", b"\x52\x05abc"])
async def test_a_message_that_is_none_is_the_clients_fault(
    importer: Importer, stub: ImporterServiceStub, message: bytes
) -> None:
    async def send() -> AsyncIterator[bytes]:
        yield message

    importer_write = importer.new_servicer().write
    with pytest.raises(Exception, match="byte stream") as caught:
        await importer_write(send(), call_by())
    assert type(caught.value).__name__ == "InvalidArgumentError"


async def test_reading_has_its_refusals(importer: Importer, stub: ImporterServiceStub) -> None:
    image_id = await importer.create()

    async def refusal(**request: object) -> str:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in stub.Read(pb.ReadRequest(**request), metadata=METADATA):  # type: ignore[arg-type]
                pass
        return reason_of(caught.value)

    assert await refusal(image_id=image_id) == "IMAGE_HAS_NO_DATA"
    assert await refusal(image_id=an_id("nobody")) == "IMAGE_NOT_FOUND"
    assert await refusal(image_id="x") == "INVALID_IDENTIFIER"
    async with importer.working():
        token = await begin(importer, image_id)
        await importer.uploads.write(CALLER, frames(WriteFrame(token, 0, True, b"12345")))
        await importer.until(image_id, is_active)
    assert await refusal(image_id=image_id, read_offset=6) == "RANGE_NOT_SATISFIABLE"
    assert await refusal(image_id=image_id, read_offset=-1) == "RANGE_NOT_SATISFIABLE"
    assert await refusal(image_id=image_id, read_limit=-1) == "RANGE_NOT_SATISFIABLE"
    assert await importer.read(image_id, 5) == b""


@pytest.mark.parametrize("purpose", [UPLOAD, STAGE])
async def test_digest_of_a_signature_that_is_set_meanwhile_is_taken(
    importer: Importer, stub: ImporterServiceStub, purpose: events_pb2.StagePurpose.ValueType
) -> None:
    image_id = await importer.create()
    request = pb.StartUploadRequest(image_id=image_id, purpose=purpose, hash_algorithm="sha384")
    upload = await stub.StartUpload(request, metadata=METADATA)
    await stub.Write(iter(requests(upload.upload_id, DATA[:900_000], finish=False)), metadata=METADATA)
    await importer.uploads.aclose()  # as after a kill: the name of the upload says it again
    await stub.Write(iter(requests(upload.upload_id, DATA, 900_000)), metadata=METADATA)
    operation = (await importer.load(image_id)).operation
    assert operation is not None and operation.staged is not None
    taken = operation.received or operation.staged
    assert taken.digests["sha384"] == hashlib.sha384(DATA).hexdigest()


@pytest.mark.parametrize("algorithm", ["sha-384", "blake2b", "x" * 2000, "\x00"])
async def test_unknown_digest_is_not_taken(importer: Importer, stub: ImporterServiceStub, algorithm: str) -> None:
    request = pb.StartUploadRequest(image_id=await importer.create(), purpose=UPLOAD, hash_algorithm=algorithm)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.StartUpload(request, metadata=METADATA)
    assert reason_of(caught.value) == "INVALID_DIGEST"


# --- kill and resume --------------------------------------------------------------------------------------------------


async def test_an_upload_survives_its_process(importer: Importer) -> None:
    image_id = await importer.create()
    token = await begin(importer, image_id, digest=Digest("sha256", hashlib.sha256(DATA).hexdigest()))
    await importer.uploads.write(CALLER, frames(WriteFrame(token, 0, False, DATA[:1_000_000])))
    await importer.uploads.aclose()  # the bytes remain, and nothing else, as after a kill
    after = importer.new_uploads()
    state = await after.status(CALLER, token)
    assert state.committed_size == 1_000_000
    state = await after.write(CALLER, frames(WriteFrame(token, 1_000_000, True, DATA[1_000_000:])))
    assert state.is_complete
    image = await importer.load(image_id)
    assert image.operation is not None
    assert image.operation.staged is not None
    assert image.operation.staged.digests["sha256"] == hashlib.sha256(DATA).hexdigest()


async def test_a_store_that_fails_while_hashes_are_made_again_leaves_the_bytes_as_they_are(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = await importer.create()
    token = await begin(importer, image_id)
    await importer.uploads.write(CALLER, frames(WriteFrame(token, 0, False, DATA[:1_000_000])))
    await importer.uploads.aclose()

    async def broken(_: str) -> AsyncIterator[bytes]:
        yield DATA[:1000]
        raise StoreUnavailableError("the store failed")

    monkeypatch.setattr(importer.store, "read_uncommitted", broken)
    rest = WriteFrame(token, 1_000_000, True, DATA[1_000_000:])
    with pytest.raises(StoreUnavailableError):
        await importer.uploads.write(CALLER, frames(rest))
    monkeypatch.undo()
    assert (await importer.uploads.status(CALLER, token)).committed_size == 1_000_000
    assert (await importer.uploads.write(CALLER, frames(rest))).is_complete
    image = await importer.load(image_id)
    assert image.operation is not None
    assert image.operation.staged is not None
    assert image.operation.staged.digests["sha256"] == hashlib.sha256(DATA).hexdigest()


async def test_a_client_that_leaves_while_hashes_are_made_again_loses_no_bytes(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = await importer.create()
    token = await begin(importer, image_id)
    await importer.uploads.write(CALLER, frames(WriteFrame(token, 0, False, DATA[:1_000_000])))
    await importer.uploads.aclose()
    is_reading = asyncio.Event()

    async def endless(_: str) -> AsyncIterator[bytes]:
        yield DATA[:1000]
        is_reading.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(importer.store, "read_uncommitted", endless)
    rest = WriteFrame(token, 1_000_000, True, DATA[1_000_000:])
    writing = asyncio.create_task(importer.uploads.write(CALLER, frames(rest)))
    await is_reading.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    monkeypatch.undo()
    assert (await importer.uploads.status(CALLER, token)).committed_size == 1_000_000
    assert (await importer.uploads.write(CALLER, frames(rest))).is_complete


async def test_an_upload_that_was_committed_and_not_recorded_is_finished_by_a_retry(importer: Importer) -> None:
    image_id = await importer.create()
    token = await begin(importer, image_id)
    await importer.uploads.aclose()
    key = UploadToken.parse(token).key
    writer = await importer.store.open_write(key)
    await writer.append(DATA)
    await writer.commit(size=len(DATA), digests={})
    state = await importer.uploads.status(CALLER, token)
    assert (state.committed_size, state.is_complete) == (len(DATA), False)
    state = await importer.uploads.write(CALLER, frames(WriteFrame(token, len(DATA), True, b"")))
    assert state.is_complete
    image = await importer.load(image_id)
    assert image.operation is not None
    assert image.operation.staged is not None
    assert image.operation.staged.digests["sha256"] == hashlib.sha256(DATA).hexdigest()


async def test_a_lost_answer_is_given_again(importer: Importer) -> None:
    image_id = await importer.create()
    token = await begin(importer, image_id)
    first = await importer.uploads.write(CALLER, frames(WriteFrame(token, 0, True, DATA)))
    again = await importer.uploads.write(CALLER, frames(WriteFrame(token, len(DATA), True, b"")))
    assert again == first
    assert await importer.uploads.status(CALLER, token) == first
    assert await begin(importer, image_id) == token
    assert len(await importer.journal.history(image_id)) == 2


async def test_the_same_request_is_one_upload(importer: Importer) -> None:
    image_id = await importer.create()
    token = await begin(importer, image_id, request_id="same")
    await importer.uploads.write(CALLER, frames(WriteFrame(token, 0, False, b"123")))
    assert await begin(importer, image_id, request_id="same") == token
    assert (await importer.uploads.status(CALLER, token)).committed_size == 3
    assert await begin(importer, image_id, request_id="other") != token


async def test_the_bytes_of_an_upload_may_go_to_another_importer_than_its_beginning(importer: Importer) -> None:
    token = await begin(importer, await importer.create())
    state = await importer.new_uploads().write(CALLER, frames(WriteFrame(token, 0, True, DATA)))
    assert state.is_complete


async def test_an_idle_upload_is_let_go_of_and_can_be_gone_on_with(importer: Importer) -> None:
    image_id = await importer.create()
    token = await begin(importer, image_id)
    await importer.uploads.write(CALLER, frames(WriteFrame(token, 0, False, DATA[:1000])))
    other = importer.new_uploads()
    with pytest.raises(UploadBusyError):
        await other.write(CALLER, frames(WriteFrame(token, 1000, True, DATA[1000:])))
    importer.now_s += 31
    await importer.uploads.close_idle()
    state = await other.write(CALLER, frames(WriteFrame(token, 1000, True, DATA[1000:])))
    assert state.is_complete


async def test_more_uploads_than_are_held_take_turns(importer: Importer) -> None:
    tokens = []
    for number in range(8):  # this importer holds four at once
        image_id = await importer.create(f"image {number}")
        tokens.append(await begin(importer, image_id))
        await importer.uploads.write(CALLER, frames(WriteFrame(tokens[-1], 0, False, DATA[:1000])))
    for token in tokens:
        state = await importer.uploads.write(CALLER, frames(WriteFrame(token, 1000, True, DATA[1000:2000])))
        assert state.is_complete


# --- refusals ---------------------------------------------------------------------------------------------------------


async def test_a_stream_that_brings_nothing_lets_go_of_its_upload(importer: Importer) -> None:
    limits = UploadLimits(30, 1, stall_timeout_s=0.01)
    uploads = Uploads(
        importer.journal, importer.stores, importer.settings.importer.policy, limits, monotonic=lambda: importer.now_s
    )
    image_id = await importer.create()
    token = await begin(importer, image_id)
    await importer.uploads.aclose()

    async def silent() -> AsyncIterator[WriteFrame]:
        yield WriteFrame(token, 0, False, DATA[:1000])
        await asyncio.Event().wait()

    with pytest.raises(UploadStalledError):
        await uploads.write(CALLER, silent())
    assert (await uploads.status(CALLER, token)).committed_size == 1000
    assert (await uploads.write(CALLER, frames(WriteFrame(token, 1000, True, DATA[1000:])))).is_complete


@pytest.mark.parametrize("data", [b"", b"x"])
async def test_a_stream_that_drips_is_ended_as_well(importer: Importer, data: bytes) -> None:
    own = importer.settings.importer
    limits = UploadLimits(30, 1, stall_timeout_s=0.1)
    uploads = Uploads(importer.journal, importer.stores, own.policy, limits, monotonic=lambda: 0.0)
    token = await begin(importer, await importer.create())
    await importer.uploads.aclose()

    async def dripping() -> AsyncIterator[WriteFrame]:
        for number in range(10_000):
            yield WriteFrame(token, number * len(data), False, data)
            await asyncio.sleep(0.01)

    with pytest.raises(UploadStalledError):
        await uploads.write(CALLER, dripping())
    await uploads.aclose()


async def test_an_upload_has_one_writer(importer: Importer) -> None:
    image_id = await importer.create()
    token = await begin(importer, image_id)

    async def two_at_once() -> AsyncIterator[WriteFrame]:
        yield WriteFrame(token, 0, False, b"1")
        with pytest.raises(UploadBusyError):
            await importer.uploads.write(CALLER, frames(WriteFrame(token, 1, True, b"2")))
        assert await begin(importer, image_id) == token
        yield WriteFrame("", 1, True, b"2")

    assert (await importer.uploads.write(CALLER, two_at_once())).committed_size == 2


async def test_refused_bytes_are_removed_and_the_image_waits_for_others(importer: Importer) -> None:
    image_id = await importer.create()
    token = await begin(importer, image_id, digest=Digest("sha256", "00" * 32))
    with pytest.raises(DigestMismatchError):
        await importer.uploads.write(CALLER, frames(WriteFrame(token, 0, True, DATA)))
    assert importer.files() == set()
    assert (await importer.load(image_id)).status is Status.QUEUED
    with pytest.raises(UploadNotFoundError):
        await importer.uploads.status(CALLER, token)


@pytest.mark.parametrize(
    ("options", "sent", "reason"),
    [
        ({"size": 4}, b"12345", "SIZE_MISMATCH"),
        ({"size": 6}, b"12345", "SIZE_MISMATCH"),
        ({}, b"", "EMPTY_IMAGE"),
        ({}, b"QFI\xfb" + bytes(100), "FORMAT_MISMATCH"),
        ({}, bytes(3_000_000), "IMAGE_TOO_LARGE"),
    ],
)
async def test_bytes_that_are_not_as_announced(
    make_importer: MakeImporter, options: dict[str, object], sent: bytes, reason: str
) -> None:
    importer = await make_importer(max_image_bytes=2_000_000)
    token = await begin(importer, await importer.create(), **options)
    with pytest.raises(TintypeError) as caught:
        await importer.uploads.write(CALLER, frames(WriteFrame(token, 0, True, sent)))
    assert caught.value.reason == reason
    assert importer.files() == set()


async def test_a_cancelled_upload_leaves_nothing(importer: Importer) -> None:
    token = await begin(importer, await importer.create())
    await importer.uploads.write(CALLER, frames(WriteFrame(token, 0, False, b"123")))
    await importer.uploads.cancel(CALLER, token)
    await importer.uploads.cancel(CALLER, token)
    assert importer.files() == set()
    for call in (
        importer.uploads.status(CALLER, token),
        importer.uploads.write(CALLER, frames(WriteFrame(token, 3, True, b""))),
    ):
        with pytest.raises(UploadNotFoundError):
            await call


async def test_an_upload_can_be_cancelled_while_it_is_sent(importer: Importer) -> None:
    token = await begin(importer, await importer.create())

    async def cancelled_in_the_middle() -> AsyncIterator[WriteFrame]:
        yield WriteFrame(token, 0, False, b"123")
        await importer.uploads.cancel(CALLER, token)
        yield WriteFrame("", 3, True, b"4")

    with pytest.raises(Exception, match="cancelled"):
        await importer.uploads.write(CALLER, cancelled_in_the_middle())
    assert importer.files() == set()


async def test_whoever_may_not_change_the_image_may_not_use_the_upload(importer: Importer) -> None:
    token = await begin(importer, await importer.create())
    stranger = Caller(ProjectId("other"), "eve")
    for call in (
        importer.uploads.status(stranger, token),
        importer.uploads.cancel(stranger, token),
        importer.uploads.write(stranger, frames(WriteFrame(token, 0, True, b"x"))),
    ):
        with pytest.raises((ImageNotFoundError, NotPermittedError)):
            await call


async def test_a_forged_name_does_not_reach_the_upload_of_another_image(importer: Importer) -> None:
    theirs, own = await importer.create("theirs"), await importer.create("own")
    name = await begin(importer, theirs)
    await importer.uploads.write(CALLER, frames(WriteFrame(name, 0, False, DATA)))
    forged = str(replace(UploadToken.parse(name), image_id=own))
    for attack in (
        importer.uploads.status(CALLER, forged),
        importer.uploads.write(CALLER, frames(WriteFrame(forged, len(DATA), True, b"!"))),
    ):
        with pytest.raises(UploadNotFoundError):
            await attack
    await importer.uploads.cancel(CALLER, forged)
    finished = await importer.uploads.write(CALLER, frames(WriteFrame(name, len(DATA), True, b"")))
    assert (finished.token.image_id, finished.committed_size) == (theirs, len(DATA))
    assert (await importer.load(own)).status is Status.QUEUED


async def test_a_deleted_image_takes_no_more_bytes(importer: Importer) -> None:
    image_id = await importer.create()
    token = await begin(importer, image_id)
    await importer.uploads.write(CALLER, frames(WriteFrame(token, 0, False, b"123")))
    async with importer.working():
        await importer.execute(image_id, DeleteImage())
        await importer.until(image_id, lambda image: image.is_purged)
    with pytest.raises(ImageNotFoundError):
        await importer.uploads.write(CALLER, frames(WriteFrame(token, 3, True, b"4")))
    assert importer.files() == set()


async def test_the_offset_of_every_message_counts(importer: Importer) -> None:
    token = await begin(importer, await importer.create())
    with pytest.raises(WrongOffsetError):
        await importer.uploads.write(CALLER, frames(WriteFrame(token, 0, False, b"123"), WriteFrame("", 2, True, b"4")))
    assert (await importer.uploads.status(CALLER, token)).committed_size == 3


# --- the sweep --------------------------------------------------------------------------------------------------------


async def test_the_sweep_removes_what_is_old_and_unwanted_and_nothing_else(importer: Importer) -> None:
    async with importer.working():
        active = await importer.create("active")
        token = await begin(importer, active)
        await importer.uploads.write(CALLER, frames(WriteFrame(token, 0, True, b"keep me")))
        await importer.until(active, is_active)
    fresh = await begin(importer, await importer.create("fresh"))
    await importer.uploads.write(CALLER, frames(WriteFrame(fresh, 0, False, b"not yet finished")))
    await importer.uploads.aclose()
    queued = await importer.create("queued")
    for image, operation in ((an_id("unknown image"), an_id("x")), (queued, an_id("never recorded"))):
        writer = await importer.store.open_write(f"{image}/{operation}/source")
        await writer.append(b"old")
        await writer.commit(size=3, digests={})
    before = importer.files()
    await importer.sweeper.sweep()
    assert importer.files() == before
    await importer.sweeper_in(hours=2).sweep()
    assert await importer.read(active) == b"keep me"
    assert len(importer.files()) == 1


async def test_what_an_unfinished_upload_left_goes_when_another_gave_the_image_its_bytes(importer: Importer) -> None:
    async with importer.working():
        image = await importer.create()
        abandoned = await begin(importer, image)
        await importer.uploads.write(CALLER, frames(WriteFrame(abandoned, 0, False, b"the client was killed")))
        token = await begin(importer, image, request_id="begun anew")
        await importer.uploads.write(CALLER, frames(WriteFrame(token, 0, True, b"keep me")))
        await importer.until(image, is_active)
    await importer.sweeper.sweep()
    assert len(importer.files()) == 2  # whoever began it may still be at it
    await importer.uploads.aclose()
    await importer.sweeper.sweep()
    assert await importer.read(image) == b"keep me"
    assert len(importer.files()) == 1


async def test_bytes_that_went_missing_are_never_passed_over(importer: Importer) -> None:
    assert isinstance(importer.store, FileImageStore)
    image_id = await importer.create()
    async with importer.working():
        token = await begin(importer, image_id)
        await importer.uploads.write(CALLER, frames(WriteFrame(token, 0, True, DATA)))
        image = await importer.until(image_id, is_active)
    assert image.data is not None
    path = importer.store.local_path(image.data.locations[0].key)
    assert path is not None
    with path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(Exception, match="has only 1000 bytes") as caught:
        await importer.read(image_id)
    assert caught.value.reason == "BLOB_DAMAGED"  # type: ignore[attr-defined]
