"""Receiving an image's bytes: verified while they arrive, resumed where the stream breaks, whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO

import grpc.aio

from tintype.api.importer.v1 import importer_pb2 as pb
from tintype.client.custody import CustodyVerifier
from tintype.client.decoding import understood
from tintype.client.drain import Drain
from tintype.client.errors import ClientError, IntegrityError, InvalidRequestError, ServiceUnavailableError
from tintype.client.models import Download, Image, Trust, Verify
from tintype.client.partial_file import named_when_done
from tintype.client.transport import Transport, is_transient, translated
from tintype.codec.framing import decode_read
from tintype.domain.values import STRONG_DIGESTS

_READ = "/tintype.api.importer.v1.ImporterService/Read"


class Downloads:
    """The downloads of one client."""

    def __init__(
        self, transport: Transport, get_image: Callable[[str], Awaitable[Image]], verifier: CustodyVerifier
    ) -> None:
        self._transport = transport
        self._get_image = get_image
        self._verifier = verifier

    async def save(
        self,
        image_id: str,
        destination: Path | str | BinaryIO,
        *,
        offset: int,
        length: int | None,
        verify: Verify,
        trust: Trust | None,
        allow_unsigned: bool,
        fsync: bool,
        on_progress: Callable[[int, int | None], None] | None,
    ) -> Download:
        """Write the bytes, or a range of them, to ``destination``.

        Raises:
            IntegrityError: the bytes are not those that the catalog describes, or that were proven to be the image.
            ContentError: a link of the chain of custody is missing, or does not hold; not one byte was asked for.
            ClientError: the service refused, or the connection broke for good.
            OSError: the destination cannot be written.
        """
        image = await self._get_image(image_id)
        is_whole = offset == 0 and (length is None or length == image.size)
        if verify is Verify.CUSTODY:
            if not is_whole:
                raise InvalidRequestError("a range cannot be verified by what was signed: download the whole image")
            return await self._save_proven(image, destination, trust, allow_unsigned, fsync, on_progress)
        digest = _digest(image) if verify is Verify.DIGEST and is_whole and image.size is not None else ""
        views = self._views(image_id, offset, _end(image, offset, length))
        expected = None if image.size is None else max(min(length or image.size, image.size - offset), 0)
        async with aclosing(views), named_when_done(destination, fsync=fsync) as file:
            size = await _fill(views, file, expected, digest, on_progress)
        return Download(image.id, size, digest)

    async def _save_proven(
        self,
        image: Image,
        destination: Path | str | BinaryIO,
        trust: Trust | None,
        allow_unsigned: bool,
        fsync: bool,
        on_progress: Callable[[int, int | None], None] | None,
    ) -> Download:
        # Everything but the bytes is proven before the first of them is asked for; what they must be, nobody can
        # change any more.
        custody = await self._verifier.verify(image.id, trust, allow_unsigned=allow_unsigned)
        views = self._views(image.id, 0, custody.size)
        async with aclosing(views), named_when_done(destination, fsync=fsync) as file:
            size = await _fill(views, file, custody.size, str(custody.digest), on_progress, "the attestation")
        return Download(image.id, size, str(custody.digest), custody)

    async def chunks(self, image_id: str, *, offset: int, length: int | None) -> AsyncGenerator[bytes, None]:
        """Yield the bytes, or a range of them.

        Raises:
            ClientError: the service refused, or the connection broke for good.
        """
        image = await self._get_image(image_id)
        async with aclosing(self._views(image_id, offset, _end(image, offset, length))) as views:
            async for view in views:
                yield bytes(view)

    async def _views(self, image_id: str, offset: int, end: int | None) -> AsyncGenerator[memoryview, None]:
        attempts = 0
        while True:
            limit = 0 if end is None else end - offset
            if end is not None and limit == 0 and offset > 0:
                return
            request = pb.ReadRequest(image_id=image_id, read_offset=offset, read_limit=limit)
            try:
                async with aclosing(self._stream(request)) as views:
                    async for view in views:
                        offset += len(view)
                        attempts = 0
                        yield view
                return
            except ClientError as exc:
                is_broken = is_transient(exc) or exc.reason == "STALLED"
                if not is_broken or attempts >= self._transport.config.resume_attempts:
                    raise
                await self._transport.sleep(min(0.1 * 2**attempts, 5.0))
                attempts += 1

    async def _stream(self, request: pb.ReadRequest) -> AsyncGenerator[memoryview, None]:
        method: grpc.aio.UnaryStreamMultiCallable[pb.ReadRequest, bytes]
        method = self._transport.importer_channel.unary_stream(
            _READ, request_serializer=pb.ReadRequest.SerializeToString, response_deserializer=None
        )
        call = method(request, metadata=self._transport.metadata)
        stall_timeout_s = self._transport.config.stall_timeout_s
        try:
            async with translated():
                while True:
                    async with asyncio.timeout(stall_timeout_s):
                        message = await call.read()
                    if not isinstance(message, bytes):
                        return
                    with understood("bytes"):
                        view = decode_read(message)
                    yield view
        except TimeoutError as exc:
            raise ServiceUnavailableError("the importer sent no bytes for too long", reason="STALLED") from exc
        finally:
            call.cancel()


async def _fill(
    views: AsyncIterator[memoryview],
    file: BinaryIO,
    expected: int | None,
    digest: str,
    on_progress: Callable[[int, int | None], None] | None,
    witness: str = "the catalog",
) -> int:
    algorithm, _, wanted = digest.partition(":")
    size = 0
    async with Drain(file, algorithm) as drain:
        async for view in views:
            size += len(view)
            if expected is not None and size > expected:
                raise IntegrityError(f"more than the {expected} bytes came that {witness} tells of")
            await drain.put(view)
            if on_progress:
                on_progress(size, expected)
        actual = await drain.finish()
    if expected is not None and size != expected:
        raise IntegrityError(f"{size} bytes came, and {witness} tells of {expected}")
    if actual != wanted:
        raise IntegrityError(f"the bytes' {algorithm} is {actual}, and {witness} tells of {wanted}")
    return size


def _end(image: Image, offset: int, length: int | None) -> int | None:
    """Where the range ends; ``None`` where the service shall judge, because the image has no bytes yet."""
    if offset < 0 or (length is not None and length <= 0):
        raise InvalidRequestError("a range begins at 0 or later, and has at least one byte")
    if image.size is None or offset >= image.size:
        return None if length is None else offset + length
    return image.size if length is None else min(offset + length, image.size)


def _digest(image: Image) -> str:
    for algorithm in STRONG_DIGESTS:
        if algorithm in image.digests:
            return f"{algorithm}:{image.digests[algorithm]}"
    raise IntegrityError(
        f"the catalog knows no digest of image {image.id} that proves anything",
        reason="DIGEST_UNKNOWN",
        hint="Download without verification, if you must.",
    )
