"""A staged write: segments of a settable size, two of them on their way while the next one fills, then a manifest.

An append takes all of its bytes or, where it fails, none. A segment is sent several times before the append behind it
fails, and again at the next one.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import md5
from pathlib import Path

from tintype.adapters.swift import layout
from tintype.adapters.swift.account import Account
from tintype.adapters.swift.lease import Lease
from tintype.adapters.swift.manifest import ManifestWriter, Segment, find_manifest
from tintype.adapters.swift.removal import remove_write
from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import (
    AlreadyExistsError,
    BlobDamagedError,
    StoreAccessDeniedError,
    StoreFullError,
    StoreMissingError,
    StoreUnavailableError,
    TintypeError,
)

IN_FLIGHT = 2
"""Segments that are sent at once."""

PIECE_SIZE = 1024 * 1024
_BACKOFF_S = 0.1
_REFUSED = (
    AlreadyExistsError,
    BlobDamagedError,
    StoreAccessDeniedError,
    StoreFullError,
    StoreMissingError,
)
"""After these a manifest was certainly not put."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a write goes, and how."""

    account: Account
    container: str
    segments_container: str
    threads: ThreadPoolExecutor
    segment_size: int
    attempts: int


@dataclass(slots=True)
class _Upload:
    number: int
    size: int
    pieces: Sequence[bytes | memoryview]
    task: asyncio.Task[Segment] = field(init=False)


class SwiftWriter:
    """Appends to the write ``write`` of ``key``, whose lease it has."""

    def __init__(
        self,
        target: Target,
        key: BlobKey,
        write: str,
        lease: Lease,
        segments: Sequence[Segment] = (),
        *,
        replace: bool = False,
    ) -> None:
        self._target = target
        self._key = key
        self._write = write
        self._lease = lease
        self._replace = replace
        self._segments = list(segments)
        self._uploads: deque[_Upload] = deque()
        self._buffer: deque[bytes | memoryview] = deque()
        self._buffered = 0
        self._offset = sum(segment.size for segment in segments)
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
        """Write behind what is there.

        Raises:
            StoreFullError, StoreUnavailableError: Swift refused or failed, and none of ``data`` was taken.
        """
        self._require_open()
        while self._buffered >= self._target.segment_size:
            await self._reap(IN_FLIGHT - 1)
            self._send(self._target.segment_size)
        if size := len(memoryview(data).cast("B")):
            view = memoryview(bytes(data))  # bytes are not copied; another's buffer is
            self._buffer.extend(view[begin : begin + PIECE_SIZE] for begin in range(0, size, PIECE_SIZE))
            self._buffered += size
            self._offset += size
        while self._buffered >= self._target.segment_size and len(self._uploads) < IN_FLIGHT:
            self._send(self._target.segment_size)

    async def commit(self, *, size: int, digests: Mapping[str, str]) -> None:
        """Make the bytes visible. Swift compares each segment's MD5 and size with what was sent.

        Raises:
            BlobDamagedError: there are more or fewer than ``size``, or they are not what was sent.
            StoreFullError, StoreUnavailableError: Swift refused or failed, or the write was swept.
        """
        self._require_open()
        try:
            if self._offset != size:
                raise BlobDamagedError(f"{size} bytes were to be committed, and {self._offset} are there")
            await self._flush()
            if not await self._lease.hold():
                raise self._swept()
        except BaseException:
            await self._abort_quietly()
            raise
        await self._publish()
        self._is_open = False
        with suppress(TintypeError):  # it lapses by itself
            await self._lease.release()

    async def abort(self) -> None:
        """Remove what was written, unless another writer has taken it over. Safe to call twice, and after a failure."""
        if self._is_open:
            self._is_open = False
            await self._stop_sending()
            count = len(self._segments) + len(self._uploads)
            self._uploads.clear()
            try:
                if await self._lease.is_left(self._write):
                    container = self._target.segments_container
                    await remove_write(self._target.account, container, self._key, self._write, count)
            finally:
                await self._lease.release()

    async def close(self) -> None:
        """Stop writing, and keep the bytes, those as well that fill no segment yet."""
        if self._is_open:
            self._is_open = False
            try:
                if await self._lease.hold():
                    await self._flush()
            finally:
                await self._stop_sending()
                await self._lease.release()

    # --- segments -----------------------------------------------------------------------------------------------------

    def _send(self, size: int) -> None:
        """Begin to send the first ``size`` bytes of what is buffered."""
        pieces: list[bytes | memoryview] = []
        wanted = size
        while wanted:
            piece = self._buffer.popleft()
            if len(piece) > wanted:
                view = memoryview(piece)
                self._buffer.appendleft(view[wanted:])
                piece = view[:wanted]
            pieces.append(piece)
            wanted -= len(piece)
        self._buffered -= size
        upload = _Upload(len(self._segments) + len(self._uploads), size, pieces)
        upload.task = self._begin(upload)
        self._uploads.append(upload)

    def _begin(self, upload: _Upload) -> asyncio.Task[Segment]:
        return asyncio.create_task(self._upload(upload), name=f"segment {upload.number} of {self._key}")

    async def _reap(self, left: int) -> None:
        """Wait until at most ``left`` segments are on their way; one that failed is begun again."""
        while len(self._uploads) > left:
            upload = self._uploads[0]
            is_old = upload.task.done()
            await asyncio.wait([upload.task])
            if upload.task.cancelled() or upload.task.exception() is not None:
                failed, upload.task = upload.task, self._begin(upload)
                if is_old:
                    continue  # it failed while nobody waited: Swift may be back since
                failed.result()
            self._segments.append(upload.task.result())
            self._uploads.popleft()

    async def _flush(self) -> None:
        while self._buffered:
            await self._reap(IN_FLIGHT - 1)
            self._send(min(self._buffered, self._target.segment_size))
        await self._reap(0)

    async def _stop_sending(self) -> None:
        tasks = [upload.task for upload in self._uploads]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()  # nobody else looks at it
        self._buffer.clear()
        self._buffered = 0

    async def _upload(self, upload: _Upload) -> Segment:
        loop = asyncio.get_running_loop()
        hashing = loop.run_in_executor(self._target.threads, _md5_of, upload.pieces)
        path = f"/{self._target.segments_container}/{layout.segment_name(self._key, self._write, upload.number)}"
        headers = {"Content-Type": "application/octet-stream"}
        for attempt in range(1, self._target.attempts + 1):
            try:
                reply = await self._target.account.call("PUT", path, headers=headers, body=upload.pieces)
                etag = await hashing
                if reply.etag == etag:
                    return Segment(upload.size, etag)
                raise StoreUnavailableError(f"store {self._target.account.store!r}: bytes were changed on their way")
            except StoreUnavailableError as exc:
                if isinstance(exc, _REFUSED) or attempt == self._target.attempts:
                    raise
            await asyncio.sleep(_BACKOFF_S * 2**attempt * random.uniform(0.5, 1.0))  # noqa: S311
        raise AssertionError("attempts is at least 1")

    # --- the commit ---------------------------------------------------------------------------------------------------

    async def _publish(self) -> None:
        try:
            retired = await self._to_retire()
            writer = ManifestWriter(
                self._target.account, self._target.container, self._target.segments_container, self._key, self._write
            )
            is_put = await writer.put(self._segments, retired=retired)
        except _REFUSED as exc:
            # A repeated request may be refused because the first one, whose answer was lost, has done it.
            if isinstance(exc, AlreadyExistsError) and await self._is_committed():
                return
            await self._abort_quietly()
            raise
        except BaseException:
            # It may have been put, or still be: its segments stay, and what comes of it is found by a list.
            if not await self._is_committed():
                self._is_open = False
                with suppress(TintypeError):
                    await self._lease.release()
                raise
            is_put = True
        if not is_put or not await self._is_still_there():
            await self._abort_quietly()
            raise self._swept()

    async def _to_retire(self) -> Sequence[str] | None:
        if not self._replace:
            return None
        found = await find_manifest(self._target.account, self._target.container, self._key)
        return () if found is None else (found.write, *found.retired)

    async def _is_committed(self) -> bool:
        try:
            found = await find_manifest(self._target.account, self._target.container, self._key)
        except TintypeError:
            return False
        return found is not None and found.write == self._write

    async def _is_still_there(self) -> bool:
        """Whether a sweep did not come between the last look at the lease and the manifest, which it then left."""
        account, path = self._target.account, f"/{self._target.container}/{layout.manifest_name(self._key)}"
        try:
            if not self._segments or await self._lease.is_held():
                return True
            first = f"/{self._target.segments_container}/{layout.segment_name(self._key, self._write, 0)}"
            if (await account.call("HEAD", first, expect=(404,))).status != 404:
                return True
            if await self._is_committed():
                await account.call("DELETE", path, expect=(404, 409))
        except TintypeError:
            return True  # it is committed, as far as is known
        return False

    async def _abort_quietly(self) -> None:
        # What cannot be removed now is found by a list; the error that led here is what counts.
        with suppress(TintypeError):
            await self.abort()

    def _swept(self) -> StoreUnavailableError:
        return StoreUnavailableError("the bytes were removed from the store, or taken over, while they were written")

    def _require_open(self) -> None:
        if not self._is_open:
            raise StoreUnavailableError("the write has ended")


def _md5_of(pieces: Sequence[bytes | memoryview]) -> str:
    digest = md5(usedforsecurity=False)  # what Swift has as ETag
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
