"""Calls of the S3 API for one bucket, in a bounded pool of threads; every failure in the domain's words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from botocore.exceptions import ConnectionClosedError

from tintype.adapters.s3.errors import FAILURES, is_missing, is_no_upload, is_refused_condition, translated
from tintype.adapters.s3.layout import MAX_SMALL_OBJECT
from tintype.adapters.s3.parts import PartBody, copied_ranges
from tintype.domain.errors import BlobDamagedError, StoreUnavailableError

R = TypeVar("R")

_NOT_REPEATABLE = frozenset({"create_multipart_upload", "complete_multipart_upload"})
"""Calls of which a second one does something else than the first."""


@dataclass(frozen=True, slots=True)
class SmallObject:
    """A marker or a lease as it is now; ``age`` is by the server's clock alone."""

    data: bytes
    etag: str
    modified_at: datetime
    age: timedelta


@dataclass(frozen=True, slots=True)
class ListedObject:
    """A line of a listing."""

    name: str
    size: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """A multipart upload that is neither completed nor aborted."""

    name: str
    upload_id: str
    begun_at: datetime


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a multipart upload that the server has."""

    number: int
    etag: str
    size: int


class UploadGoneError(StoreUnavailableError):
    """The multipart upload was aborted or completed by somebody else."""


class Bucket:
    """A bucket of ``client``, which is botocore's."""

    def __init__(self, store: str, client: Any, name: str, *, threads: int) -> None:
        self._store = store
        self._client = client
        self._name = name
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"store-{store}")

    async def run(self, work: Callable[[], R], *, undo: Callable[[R], None] | None = None) -> R:
        """Do ``work`` in a thread.

        A cancelled caller waits for it to end (its sockets have deadlines), since a call that were still under way
        could take effect after what the caller does next. ``undo`` takes back what it made.

        Raises:
            StoreUnavailableError, StoreFullError: it failed.
        """
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            if not future.cancelled() and future.exception() is None and undo is not None:
                undo(future.result())
            raise
        except FAILURES as exc:
            raise translated(self._store, exc) from exc

    def call(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """Call the API in this thread; raises what the library raises."""

        def work() -> Mapping[str, Any]:
            if isinstance(body := parameters.get("Body"), PartBody):
                body.seek(0)
            answer: Mapping[str, Any] = getattr(self._client, operation)(Bucket=self._name, **parameters)
            return answer

        return work() if operation in _NOT_REPEATABLE else _repeated(work)

    async def put(self, name: str, data: bytes | bytearray, *, is_new: bool = False) -> bool:
        """Write an object at once; with ``is_new`` only where there is none: ``False`` if there is one."""
        conditions = {"IfNoneMatch": "*"} if is_new else {}
        # Of a file the library asks first whether it may be sent (Expect: 100-continue): small bodies are sent at once.
        body = bytes(data) if len(data) <= MAX_SMALL_OBJECT else PartBody(data)

        def work() -> bool:
            try:
                self.call("put_object", Key=name, Body=body, **conditions)
            except FAILURES as exc:
                if is_new and is_refused_condition(exc):
                    return False
                raise
            return True

        return await self.run(work)

    async def get_small(self, name: str) -> SmallObject | None:
        """An object of at most 64 KiB; ``None`` if there is none.

        Raises:
            BlobDamagedError: it is larger.
        """

        def work() -> SmallObject | None:
            try:
                answer = self.call("get_object", Key=name)
            except FAILURES as exc:
                if is_missing(exc):
                    return None
                raise
            with answer["Body"] as body:
                if int(answer["ContentLength"]) > MAX_SMALL_OBJECT:
                    raise BlobDamagedError(f"store {self._store!r} has something else than a marker under its name")
                data = body.read()
            modified = _aware(answer["LastModified"])
            return SmallObject(data, str(answer["ETag"]), modified, max(timedelta(), date_of(answer) - modified))

        return await self.run(work)

    async def size(self, name: str) -> int | None:
        """Bytes of an object; ``None`` if there is none."""

        def work() -> int | None:
            try:
                return int(self.call("head_object", Key=name)["ContentLength"])
            except FAILURES as exc:
                if is_missing(exc):
                    return None
                raise

        return await self.run(work)

    async def delete(self, name: str) -> None:
        """Remove an object; it is no error that there is none."""

        def work() -> None:
            try:
                self.call("delete_object", Key=name)
            except FAILURES as exc:
                if not is_missing(exc):
                    raise

        await self.run(work)

    async def objects(self, begin: str) -> list[ListedObject]:
        """All whose names begin so."""
        return await self.run(lambda: _repeated(lambda: list(self._objects(begin))))

    async def uploads(self, begin: str) -> list[PendingUpload]:
        """All multipart uploads of objects whose names begin so."""
        return await self.run(lambda: _repeated(lambda: list(self._uploads(begin))))

    async def create_upload(self, name: str) -> str:
        """Begin a multipart upload."""

        def undo(upload_id: str) -> None:
            self._pool.submit(self._abort, name, upload_id)

        return await self.run(
            lambda: str(
                self.call("create_multipart_upload", Key=name, ContentType="application/octet-stream")["UploadId"]
            ),
            undo=undo,
        )

    async def upload_part(self, name: str, upload_id: str, number: int, data: bytes | bytearray) -> Part:
        """Send a part.

        Raises:
            UploadGoneError: the upload is there no more.
        """
        return await self._of_upload(
            lambda: Part(
                number,
                str(
                    self.call("upload_part", Key=name, UploadId=upload_id, PartNumber=number, Body=PartBody(data))[
                        "ETag"
                    ]
                ),
                len(data),
            )
        )

    async def copy_parts(self, name: str, upload_id: str, source: str, size: int) -> list[Part]:
        """Make ``size`` bytes of another object the first parts, within the server."""
        parts: list[Part] = []
        for first, last in copied_ranges(size):
            parts.append(await self._copy_part(name, upload_id, len(parts) + 1, source, first, last))
        return parts

    async def _copy_part(self, name: str, upload_id: str, number: int, source: str, first: int, last: int) -> Part:
        def work() -> Part:
            answer = self.call(
                "upload_part_copy",
                Key=name,
                UploadId=upload_id,
                PartNumber=number,
                CopySource={"Bucket": self._name, "Key": source},
                CopySourceRange=f"bytes={first}-{last}",
            )
            return Part(number, str(answer["CopyPartResult"]["ETag"]), last - first + 1)

        return await self._of_upload(work)

    async def parts(self, name: str, upload_id: str) -> list[Part]:
        """What of an upload the server has, in order; nothing, if there is no such upload."""

        def work() -> list[Part]:
            try:
                return _repeated(lambda: list(self._parts(name, upload_id)))
            except FAILURES as exc:
                if is_no_upload(exc) or is_missing(exc):
                    return []
                raise

        return await self.run(work)

    async def complete(self, name: str, upload_id: str, parts: list[Part]) -> None:
        """Make an object of the parts, which are in order.

        Raises:
            UploadGoneError: the upload is there no more.
        """
        listed = [{"PartNumber": part.number, "ETag": part.etag} for part in parts]
        await self._of_upload(
            lambda: self.call(
                "complete_multipart_upload", Key=name, UploadId=upload_id, MultipartUpload={"Parts": listed}
            )
        )

    async def abort(self, name: str, upload_id: str) -> None:
        """Remove an upload and its parts; it is no error that there is none."""
        await self.run(lambda: self._abort(name, upload_id))

    def presigned(self, name: str, expires_in_s: int) -> str:
        """A URL to GET an object with, without asking the server."""
        return str(
            self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self._name, "Key": name}, ExpiresIn=expires_in_s
            )
        )

    async def aclose(self) -> None:
        """End the threads once their calls are over, and the connections."""

        def close() -> None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._client.close()

        await asyncio.get_running_loop().run_in_executor(None, close)

    # --- in threads ---------------------------------------------------------------------------------------------------

    async def _of_upload(self, work: Callable[[], R]) -> R:
        def tried() -> R:
            try:
                return work()
            except FAILURES as exc:
                if is_no_upload(exc):
                    raise UploadGoneError(
                        f"store {self._store!r}: the bytes were removed from the store while they were written"
                    ) from exc
                raise

        return await self.run(tried)

    def _abort(self, name: str, upload_id: str) -> None:
        try:
            self.call("abort_multipart_upload", Key=name, UploadId=upload_id)
        except FAILURES as exc:
            if not (is_no_upload(exc) or is_missing(exc)):
                raise

    def _objects(self, begin: str) -> Iterator[ListedObject]:
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=begin):
            for item in page.get("Contents", ()):
                yield ListedObject(str(item["Key"]), int(item["Size"]), _aware(item["LastModified"]))

    def _parts(self, name: str, upload_id: str) -> Iterator[Part]:
        pages = self._client.get_paginator("list_parts").paginate(Bucket=self._name, Key=name, UploadId=upload_id)
        for page in pages:
            for part in page.get("Parts", ()):
                yield Part(int(part["PartNumber"]), str(part["ETag"]), int(part["Size"]))

    def _uploads(self, begin: str) -> Iterator[PendingUpload]:
        for page in self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._name, Prefix=begin):
            for item in page.get("Uploads", ()):
                yield PendingUpload(str(item["Key"]), str(item["UploadId"]), _aware(item["Initiated"]))


def _repeated(work: Callable[[], R]) -> R:
    """Do it again, once, where the connection was closed without an answer (RFC 9110, section 9.2.2).

    Servers close connections that they kept open as they please; Ceph's gateway does after each refusal.
    """
    try:
        return work()
    except ConnectionClosedError:
        return work()


def date_of(answer: Mapping[str, Any]) -> datetime:
    """The server's clock, as its answer tells it; ours, where it does not."""
    try:
        return _aware(parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]))
    except (KeyError, TypeError, ValueError):
        return datetime.now(UTC)


def _aware(time: datetime) -> datetime:
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
