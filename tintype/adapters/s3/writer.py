"""A staged write: parts of a multipart upload, which becomes an object, which a marker makes visible."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tintype.adapters.s3.bucket import Bucket, Part, UploadGoneError
from tintype.adapters.s3.layout import MAX_OBJECT_SIZE, Layout, Marker
from tintype.adapters.s3.lease import Lease
from tintype.adapters.s3.parts import MAX_PARTS, part_size
from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import (
    BlobDamagedError,
    StoreAccessDeniedError,
    StoreObjectTooLargeError,
    StoreUnavailableError,
    TintypeError,
)

R = TypeVar("R")

_IN_FLIGHT_AT_ONCE = 2
_BACKOFF_S = 0.1
_REMOVED = "the bytes were removed from the store while they were written"


class _OutcomeUnknownError(StoreUnavailableError):
    """The store did not say whether the bytes are committed, and cannot be asked."""


@dataclass(frozen=True, slots=True)
class DataObject:
    """The bytes of one write, as an object of their own."""

    write: str
    size: int


class S3Writer:
    """Appends to the data object ``write``, behind the bytes of ``base``."""

    def __init__(
        self,
        bucket: Bucket,
        layout: Layout,
        key: BlobKey,
        lease: Lease,
        write: str,
        *,
        first_part: int,
        attempts: int = 4,
        replaced: Marker | None = None,
        base: DataObject | None = None,
        begin: bytes = b"",
    ) -> None:
        """``begin`` has the bytes of a base that is too small to be copied; else they are copied when more come."""
        self._bucket = bucket
        self._layout = layout
        self._key = key
        self._lease = lease
        self._write = write
        self._first_part = first_part
        self._attempts = attempts
        self._replaced = replaced
        self._base = base
        self._copied = base if base is not None and not begin and base.size else None
        self._offset = base.size if base is not None else 0
        self._buffer = bytearray(begin)
        self._upload_id: str | None = None
        self._may_have_strays = False
        """An upload may have been begun of which no answer came."""
        self._opening = asyncio.Lock()
        self._next_number = 1
        self._shift = 0
        self._parts: dict[int, Part] = {}
        self._flying: dict[asyncio.Task[Part], tuple[int, bytearray]] = {}
        self._failed: dict[int, bytearray] = {}
        self._object: DataObject | None = None
        self._is_open = True

    @property
    def key(self) -> str:
        """What the bytes will be called."""
        return str(self._key)

    @property
    def offset(self) -> int:
        """How many bytes have been appended."""
        return self._offset

    @property
    def local_path(self) -> Path | None:
        """There is no file."""
        return None

    async def append(self, data: bytes | memoryview) -> None:
        """Take ``data``; whole parts are sent while more is taken. An error is of what was sent before.

        After an error nothing of ``data`` was taken: it can be appended again, which sends what had failed again.

        Raises:
            StoreFullError, StoreUnavailableError: the store failed, or the write was swept.
        """
        self._require_open()
        view = memoryview(data).cast("B")
        if self._offset + len(view) > MAX_OBJECT_SIZE or self._next_number + self._shift > MAX_PARTS:
            raise StoreObjectTooLargeError("the image has more bytes than an object of the store can have")
        await self._make_room()
        while view:
            room = self._part_size - len(self._buffer)
            self._buffer += view[:room]
            self._offset += len(view[:room])
            view = view[room:]
            if len(self._buffer) >= self._part_size:
                self._send()

    async def commit(self, *, size: int, digests: Mapping[str, str]) -> None:
        """Make the bytes durable and visible.

        Raises:
            BlobDamagedError: the store has another size.
            StoreFullError, StoreUnavailableError: the store failed, or the write was swept.
        """
        self._require_open()
        try:
            if size != self._offset:
                raise BlobDamagedError(f"{size} bytes were to be committed, and {self._offset} are there")
            finished = await self._patiently(self._finish)
            found = await self._patiently(lambda: self._bucket.size(self._layout.data(self._key, finished.write)))
            if found != size:
                raise BlobDamagedError("the store has another number of bytes than were written")
            await _to_its_end(self._publish(finished, digests))
        except _OutcomeUnknownError:
            # The bytes may be committed: nothing is removed, and what is not committed is found by `list`.
            self._is_open = False
            await self._lease.abandon()
            raise
        except BaseException:
            with suppress(TintypeError):
                await self.abort()
            raise

    async def abort(self) -> None:
        """Remove what was written, unless another writer has taken it over. Safe to call twice, and after a failure."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            await self._drop_flying()
            if not await self._lease.is_taken():
                await self._remove()
        finally:
            await self._lease.release()

    async def close(self) -> None:
        """Stop writing, and make an unfinished data object of the bytes."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            if await self._lease.is_held():
                finished = await self._finish()
                if self._base is not None and self._base.write != finished.write:
                    await self._bucket.delete(self._layout.data(self._key, self._base.write))
            else:
                await self._drop_flying()
        finally:
            await self._drop_flying()
            await self._lease.release()

    async def _remove(self) -> None:
        name = self._layout.data(self._key, self._write)
        if self._upload_id is not None:
            await self._bucket.abort(name, self._upload_id)
        if self._may_have_strays:
            for upload in await self._bucket.uploads(name):
                await self._bucket.abort(upload.name, upload.upload_id)
        for write in {self._write, *([self._base.write] if self._base else [])}:
            await self._bucket.delete(self._layout.data(self._key, write))

    # --- parts --------------------------------------------------------------------------------------------------------

    @property
    def _part_size(self) -> int:
        return part_size(self._next_number, self._first_part)

    def _send(self) -> None:
        """Let the buffer be sent as the next part, and begin another."""
        number, data = self._next_number, self._buffer
        self._next_number, self._buffer = number + 1, bytearray()
        self._begin_to_send(number, data)

    def _begin_to_send(self, number: int, data: bytearray) -> None:
        task = asyncio.create_task(self._send_part(number, data), name=f"part {number} of {self._key}")
        self._flying[task] = (number, data)

    async def _send_part(self, number: int, data: bytearray) -> Part:
        upload_id, shift = await self._open_upload()
        return await self._bucket.upload_part(
            self._layout.data(self._key, self._write), upload_id, number + shift, data
        )

    async def _open_upload(self) -> tuple[str, int]:
        """The upload, begun with the bytes of the base; and by how much they shift the numbers of parts."""
        async with self._opening:
            name = self._layout.data(self._key, self._write)
            if self._upload_id is None:
                was_uncertain, self._may_have_strays = self._may_have_strays, True
                self._upload_id = await self._bucket.create_upload(name)
                self._may_have_strays = was_uncertain
            if self._copied is not None:
                source = self._layout.data(self._key, self._copied.write)
                copied = await self._bucket.copy_parts(name, self._upload_id, source, self._copied.size)
                # Behind them, own parts are counted from one again.
                self._parts = {part.number - len(copied): part for part in copied}
                self._shift = len(copied)
                self._copied = None
            return self._upload_id, self._shift

    async def _make_room(self) -> None:
        """Wait until a part more may be in memory.

        Raises:
            StoreUnavailableError, StoreFullError: a part could not be sent; it is sent again with the next call.
        """
        self._send_failed_again()
        while len(self._flying) >= _IN_FLIGHT_AT_ONCE or self._is_any_done():
            await self._collect()

    def _is_any_done(self) -> bool:
        return any(task.done() for task in self._flying)

    def _send_failed_again(self) -> None:
        failed, self._failed = self._failed, {}
        for number, data in failed.items():
            self._begin_to_send(number, data)

    async def _collect(self) -> None:
        """Wait for parts to be sent or to fail.

        Raises:
            StoreUnavailableError, StoreFullError: one failed.
        """
        done, _ = await asyncio.wait(self._flying, return_when=asyncio.FIRST_COMPLETED)
        failure: BaseException | None = None
        for task in done:
            number, data = self._flying.pop(task)
            error = task.exception()
            if error is None:
                self._parts[number] = task.result()
            else:
                self._failed[number] = data
                failure = failure or error
        if failure is not None:
            raise failure

    async def _drop_flying(self) -> None:
        """Let no call be under way any more: a part that came after its upload's end would stay."""
        if self._flying:
            await asyncio.wait(self._flying)
            for task in self._flying:
                task.exception()
            self._flying.clear()

    async def _finish(self) -> DataObject:
        """All bytes as one object. Called again after an error, it goes on."""
        if self._object is None:
            name = self._layout.data(self._key, self._write)
            if self._copied is not None and not self._buffer and self._upload_id is None and not self._flying:
                return DataObject(self._copied.write, self._copied.size)
            if self._next_number == 1 and self._copied is None:
                await self._bucket.put(name, self._buffer)
            else:
                await self._complete(name)
            self._object = DataObject(self._write, self._offset)
        return self._object

    async def _complete(self, name: str) -> None:
        if self._buffer:
            self._send()
        self._send_failed_again()
        while self._flying:
            await self._collect()
        upload_id, _ = await self._open_upload()
        try:
            await self._bucket.complete(name, upload_id, [self._parts[number] for number in sorted(self._parts)])
        except UploadGoneError:
            # Completed by a call whose answer was lost, or aborted by a sweep.
            if await self._bucket.size(name) != self._offset:
                raise
        self._upload_id = None

    # --- the commit ---------------------------------------------------------------------------------------------------

    async def _publish(self, finished: DataObject, digests: Mapping[str, str]) -> None:
        """Put the marker in its place.

        Raises:
            StoreUnavailableError: a sweep removed the write, or another was committed meanwhile.
        """
        await self._patiently(self._require_lease)
        marker = Marker(finished.write, finished.size, dict(digests), self._retired(finished.write))
        name = self._layout.marker(self._key)
        if not await self._put_marker(name, marker):
            raise StoreUnavailableError("other bytes were committed under that key meanwhile")
        try:
            await self._patiently(self._require_lease)
        except UploadGoneError:
            # Removed while the marker was written: it must not come back without its bytes.
            if await self._is_published(finished.write):
                await self._bucket.delete(name)
            raise
        self._is_open = False
        with suppress(TintypeError):  # it is committed: what stays is named in the marker, or lapses
            if self._base is not None and self._base.write != finished.write:
                await self._bucket.delete(self._layout.data(self._key, self._base.write))
            await self._lease.release()

    async def _put_marker(self, name: str, marker: Marker) -> bool:
        """Whether it is there now. A lost answer says nothing of what was done, so the marker is looked at then."""
        try:
            if await self._bucket.put(name, marker.encode(), is_new=self._replaced is None):
                return True
        except StoreUnavailableError as exc:
            try:
                is_there = await self._patiently(lambda: self._is_published(marker.write))
            except TintypeError:
                raise _OutcomeUnknownError("the store broke off while the bytes were committed") from exc
            if is_there:
                return True
            raise
        return await self._is_published(marker.write)

    async def _patiently(self, work: Callable[[], Awaitable[R]]) -> R:
        """A commit that fails is over, so it tries again itself, where that may help."""
        for attempt in range(1, self._attempts):
            try:
                return await work()
            except UploadGoneError:
                raise
            except StoreUnavailableError as exc:
                if isinstance(exc, StoreAccessDeniedError):
                    raise
                await asyncio.sleep(_BACKOFF_S * 2**attempt * random.uniform(0.5, 1.0))  # noqa: S311
        return await work()

    def _retired(self, write: str) -> tuple[str, ...]:
        base = (self._base.write,) if self._base is not None and self._base.write != write else ()
        old = (self._replaced.write, *self._replaced.retired) if self._replaced is not None else ()
        return (*base, *old)

    async def _is_published(self, write: str) -> bool:
        found = await self._bucket.get_small(self._layout.marker(self._key))
        return found is not None and Marker.decode(found.data).write == write

    async def _require_lease(self) -> None:
        if not await self._lease.is_held():
            raise UploadGoneError(_REMOVED)

    def _require_open(self) -> None:
        if not self._is_open:
            raise StoreUnavailableError("the write has ended")


async def _to_its_end(work: Coroutine[None, None, None]) -> None:
    """Do ``work`` to its end even if the caller is cancelled meanwhile: its outcome is none or all."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        task.exception()
        raise
