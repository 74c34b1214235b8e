"""Sending an image's bytes, with the semantics of google.bytestream: what breaks goes on at the committed size.

What is in flight is bounded: a message is written only when gRPC has taken the one before, and its size is fixed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

import grpc.aio
from google.protobuf.field_mask_pb2 import FieldMask

from tintype.api.catalog.v1 import catalog_pb2
from tintype.api.events.v1 import events_pb2
from tintype.api.importer.v1 import importer_pb2 as pb
from tintype.api.signer.v1 import signer_pb2
from tintype.api.types.v1 import types_pb2
from tintype.client import decoding
from tintype.client.errors import ClientError, ConflictError, ServiceUnavailableError
from tintype.client.hashed_source import HashedSource
from tintype.client.models import Upload
from tintype.client.signing import SignDigest, UploadSigner, hash_algorithm_of
from tintype.client.sources import Source, open_source
from tintype.client.transport import Transport, is_transient, new_request_id, translated
from tintype.codec import values
from tintype.codec.framing import WriteFrame, encode_write
from tintype.domain.values import Digest

_WRITE = "/tintype.api.importer.v1.ImporterService/Write"
_CANCEL_TIMEOUT_S = 2.0
_RESUMABLE_REASONS = {"WRONG_OFFSET", "UPLOAD_BUSY", "STALLED"}

# grpc.aio's own words (grpc/_cython/_cygrpc/aio/call.pyx.pxi) on a write that the transport did not take.
_PLACEHOLDER = "Internal error from Core"
_SETTLE_ATTEMPTS = 100
_SETTLE_INTERVAL_S = 0.01

Conclude = Callable[[], Awaitable[None]]
"""What is done when all bytes are sent, before the upload is finished."""

WriteCall = grpc.aio.StreamUnaryCall[bytes, pb.WriteResponse]


class Uploads:
    """The uploads of one client."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def send(
        self,
        image_id: str,
        source: Path | str | BinaryIO | AsyncIterator[bytes],
        *,
        stage: bool,
        expected_size: int | None,
        expected_digest: str,
        sign: UploadSigner | None = None,
        placement: types_pb2.Placement | None = None,
        on_progress: Callable[[int, int | None], None] | None,
    ) -> Upload:
        """Send all bytes of ``source``; what cannot be finished is given up, and its bytes removed.

        Raises:
            ClientError: the bytes are refused, or the connection broke for good.
        """
        algorithm = hash_algorithm_of(sign.hash_method) if sign else ""
        sign_digest = await sign.prepared(self._sign_by_service) if sign else None
        async with open_source(source) as opened:
            conclude = _nothing
            if sign_digest:
                opened = hashed = HashedSource(opened, algorithm)
                conclude = _Once(partial(self._sign, image_id, hashed, sign_digest))
            size = opened.size if expected_size is None else expected_size
            request = pb.StartUploadRequest(
                image_id=image_id,
                purpose=events_pb2.STAGE_PURPOSE_STAGE if stage else events_pb2.STAGE_PURPOSE_UPLOAD,
                expected_size=size,
                expected_digest=expected_digest,
                request_id=new_request_id(),
                hash_algorithm=algorithm,
                placement=placement,
            )
            started = await self._transport.call(self._transport.importer.StartUpload, request)
            try:
                report = on_progress or _silent
                return await self._push(started, opened, lambda done: report(done, size), conclude)
            except BaseException:
                await self._abandon(started.upload_id)
                raise

    async def _push(
        self, started: pb.Upload, source: Source, report: Callable[[int], None], conclude: Conclude
    ) -> Upload:
        upload = started
        attempts = 0
        while True:
            try:
                response = await self._write(upload, source, report, conclude)
            except ClientError as exc:
                if not _is_resumable(exc) or attempts >= self._transport.config.resume_attempts:
                    raise
                committed = upload.committed_size
                # Complete or not: an upload whose last answer was lost tells its position when it is finished again.
                upload = await self._resume(started.upload_id, attempts)
                attempts = 0 if upload.committed_size > committed else attempts + 1
            else:
                self._transport.observe(response.position)
                upload.committed_size, upload.complete = response.committed_size, True
                upload.operation_id = response.operation_id
                return decoding.upload(upload)

    async def _resume(self, upload_id: str, attempts: int) -> pb.Upload:
        """How many bytes are kept, after a pause that grows with the attempts."""
        await self._transport.sleep(min(0.1 * 2**attempts, 5.0))
        request = pb.QueryWriteStatusRequest(upload_id=upload_id)
        return await self._transport.call(self._transport.importer.QueryWriteStatus, request)

    async def _write(
        self, upload: pb.Upload, source: Source, report: Callable[[int], None], conclude: Conclude
    ) -> pb.WriteResponse:
        """One stream, from the committed size to the end; ``conclude`` comes before the message that finishes it."""
        method: grpc.aio.StreamUnaryMultiCallable[bytes, pb.WriteResponse]
        method = self._transport.importer_channel.stream_unary(
            _WRITE, request_serializer=None, response_deserializer=pb.WriteResponse.FromString
        )
        call: WriteCall = method(metadata=self._transport.metadata)
        try:
            async with translated():
                try:
                    await self._feed(call, upload, source, report, conclude)
                except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
                    # The service may end the call before it has all: then the call's own status says why.
                    await _settled(call)
                response = await self._in_time(call)
        finally:
            call.cancel()
        if not response.operation_id:
            raise ServiceUnavailableError("the importer ended the stream before the upload was complete")
        return response

    async def _feed(
        self, call: WriteCall, upload: pb.Upload, source: Source, report: Callable[[int], None], conclude: Conclude
    ) -> None:
        offset = upload.committed_size
        name = upload.upload_id
        report(offset)
        while data := await source.read(offset):
            await self._in_time(call.write(encode_write(WriteFrame(name, offset, False, data))))
            name = ""
            offset += len(data)
            report(offset)
        await conclude()
        await self._in_time(call.write(encode_write(WriteFrame(name, offset, True, b""))))
        await self._in_time(call.done_writing())

    async def _in_time(self, step: object) -> pb.WriteResponse:
        try:
            async with asyncio.timeout(self._transport.config.stall_timeout_s):
                return await step  # type: ignore[misc,no-any-return]
        except TimeoutError as exc:
            raise ServiceUnavailableError("the importer took no bytes for too long", reason="STALLED") from exc

    async def _sign(self, image_id: str, hashed: HashedSource, sign_digest: SignDigest) -> None:
        """Sign what was sent. Until the upload is finished the image is queued, and its signature may change."""
        properties = await sign_digest(await hashed.digest())
        request = catalog_pb2.UpdateImageRequest(
            image=catalog_pb2.Image(id=image_id, properties=values.encode_properties(properties)),
            update_mask=FieldMask(paths=[f"properties.{name}" for name in properties]),
            request_id=new_request_id(),
        )
        image = await self._transport.call(self._transport.catalog.UpdateImage, request)
        self._transport.observe(image.position)

    async def _sign_by_service(self, digest: Digest) -> Mapping[str, str]:
        request = signer_pb2.SignDigestRequest(digest=str(digest))
        return dict((await self._transport.call(self._transport.signer.SignDigest, request)).properties)

    async def _abandon(self, upload_id: str) -> None:
        # The service sweeps what is left, should it not hear this.
        with suppress(ClientError):
            async with translated():
                await self._transport.importer.CancelUpload(
                    pb.CancelUploadRequest(upload_id=upload_id),
                    timeout=_CANCEL_TIMEOUT_S,
                    metadata=self._transport.metadata,
                )


class _Once:
    """Does something until it has been done."""

    def __init__(self, work: Conclude) -> None:
        self._work = work
        self._is_done = False

    async def __call__(self) -> None:
        if not self._is_done:
            await self._work()
            self._is_done = True


async def _nothing() -> None:
    """Do nothing."""


async def _settled(call: WriteCall) -> None:
    """Wait for the service's own status: a failed write puts a placeholder there, which the status then replaces.

    Raises:
        ServiceUnavailableError: it does not come; the connection is gone.
    """
    for _ in range(_SETTLE_ATTEMPTS):
        if await call.details() != _PLACEHOLDER:
            return
        await asyncio.sleep(_SETTLE_INTERVAL_S)
    raise ServiceUnavailableError("the connection to the importer broke")


def _is_resumable(error: ClientError) -> bool:
    if error.reason in _RESUMABLE_REASONS:
        return True
    return is_transient(error) or (isinstance(error, ConflictError) and error.retryable)


def _silent(done: int, total: int | None) -> None:
    """Tell nobody."""
