"""A staged write into a volume, which grows as bytes come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from tintype.adapters.cinder.attaching import Device
from tintype.adapters.cinder.attachment import Attachment, Attachments
from tintype.adapters.cinder.client import StateConflictError
from tintype.adapters.cinder.leases import Held, Leases
from tintype.adapters.cinder.records import GIB, PREFIX, BlobState, Volume
from tintype.adapters.cinder.volumes import Volumes, gib_for, pauses
from tintype.domain.errors import (
    BlobDamagedError,
    BlobNotFoundError,
    StoreTimeoutError,
    StoreUnavailableError,
    TintypeError,
)

CHECKPOINT_BYTES = 64 * 1024 * 1024
"""After so many bytes they are made durable, and their number is written down: so many a killed writer may lose."""

_ZEROS = bytes(64 * 1024)


class CinderWriter:
    """Appends to the attached volume. ``removed`` takes a volume away, ``committed`` hears of the commit."""

    def __init__(
        self,
        volume: Volume,
        held: Held,
        attachment: Attachment,
        parts: tuple[Volumes, Leases, Attachments],
        *,
        is_fresh: bool,
        remove: Callable[[CinderWriter], Awaitable[None]],
        committed: Callable[[CinderWriter], Awaitable[None]],
        ended: Callable[[CinderWriter], None],
    ) -> None:
        self._volume = volume
        self._held = held
        self._attachment: Attachment | None = attachment
        self._volumes, self._leases, self._attachments = parts
        self._room = volume.size_gib * GIB
        self._offset = self._noted = volume.size
        self._skips_zeros = is_fresh and attachment.is_zeroed
        self._remove, self._committed, self._ended = remove, committed, ended
        self._is_open = True
        self._lock = asyncio.Lock()

    @property
    def key(self) -> str:
        """What the bytes will be called."""
        return self._volume.key

    @property
    def volume(self) -> Volume:
        """The volume as it was when the write began."""
        return self._volume

    @property
    def offset(self) -> int:
        """How many bytes have been appended."""
        return self._offset

    @property
    def local_path(self) -> Path | None:
        """There is no file."""
        return None

    async def append(self, data: bytes | memoryview) -> None:
        """Write behind what is there, and extend the volume where it ends.

        Raises:
            StoreFullError: no room, or no quota for a larger volume.
            StoreUnavailableError: Cinder or the storage failed, or the write was swept.
        """
        async with self._lock:
            view = memoryview(data).cast("B")
            end = self._offset + len(view)
            if end > self._room:
                await self._grow(end)
            await self._write(view)
            self._offset = end
            if end - self._noted >= CHECKPOINT_BYTES:
                await self._note()

    async def commit(self, *, size: int, digests: Mapping[str, str]) -> None:
        """Make the bytes durable, detach, and write down that they are committed: the instant of visibility.

        Raises:
            BlobDamagedError: there are more or fewer than ``size``.
            StoreFullError, StoreUnavailableError: the storage failed, or the write was swept.
        """
        try:
            async with self._lock:
                if self._offset != size:
                    raise BlobDamagedError(f"{size} bytes were to be committed, and {self._offset} are there")
                await self._note()
                await self._detach()
                await self._leases.check(self._volume.id, self._held)
                await self._publish(size)
        except BaseException:
            await self.abort()
            raise
        await self._end()
        await self._committed(self)

    async def abort(self) -> None:
        """Remove what was written. Safe to call twice, and after a failed commit."""
        if self._is_open:
            try:
                await self._detach_quietly()
                if not self._held.lost:
                    await self._remove(self)
            finally:
                await self._end()

    async def close(self) -> None:
        """Stop writing, and keep the bytes."""
        if self._is_open:
            try:
                async with self._lock:
                    if not self._held.lost:
                        await self._note()
            finally:
                await self._detach_quietly()
                await self._end()

    async def sweep(self) -> None:
        """The volume is to be removed by this process: let go of it."""
        self._held.lost = "the bytes were removed from the store while they were written"
        async with self._lock:
            await self._detach_quietly()
            self._leases.forget(self._held)

    async def _publish(self, size: int) -> None:
        """One transaction of Cinder's. One that fails without an answer is asked for: it may have happened."""
        items = {f"{PREFIX}state": BlobState.COMMITTED.value, f"{PREFIX}size": str(size)}
        try:
            await self._volumes.set_metadata(self._volume.id, items)
        except BlobNotFoundError as exc:
            raise StoreUnavailableError("the bytes were removed from the store while they were written") from exc
        except StoreUnavailableError:
            if (await self._volumes.get(self._volume.id)).state is not BlobState.COMMITTED:
                raise

    async def _write(self, view: memoryview) -> None:
        attachment = self._require_attached()
        offset = self._offset
        if self._skips_zeros and _is_zero(view):
            return
        await attachment.use(lambda device: device.write(offset, view))

    async def _note(self) -> None:
        """What is durable is written down, and never more than that."""
        await self._require_attached().use(lambda device: device.flush())
        if self._offset != self._noted:
            await self._volumes.set_metadata(self._volume.id, {f"{PREFIX}size": str(self._offset)})
            self._noted = self._offset

    async def _grow(self, size: int) -> None:
        """By an eighth, so that a large image needs few extensions; where the driver must, while it is detached."""
        attachment = self._require_attached()
        wanted = max(gib_for(size), self._room // GIB * 9 // 8, self._room // GIB + 1)
        now = await self._volumes.get(self._volume.id)
        try:
            if not attachment.sees_extension:
                raise StateConflictError("a block device has its new size when it is attached again")
            await self._volumes.extend(now, wanted)
        except StateConflictError:
            await self._require_attached().use(lambda device: device.flush())
            await self._detach()
            await self._volumes.await_status(self._volume.id, "available", during=("in-use", "detaching"))
            await self._volumes.extend(now, wanted)
            self._attachment = await self._attachments.attach(self._volume.id, self._held)
        await self._await_room(wanted * GIB)
        self._room = wanted * GIB

    async def _await_room(self, size: int) -> None:
        """Until this host sees the new size."""

        def room(device: Device) -> int:
            return device.size()

        async for _ in pauses(self._volumes.wait_s):
            if await self._require_attached().use(room) >= size:
                return
        raise StoreTimeoutError(f"store {self._volumes.name!r}: a volume was extended, and this host does not see it")

    def _require_attached(self) -> Attachment:
        self._held.require()
        if not self._is_open or self._attachment is None:
            raise StoreUnavailableError("the write has ended")
        return self._attachment

    async def _detach(self) -> None:
        attachment, self._attachment = self._attachment, None
        if attachment is not None:
            await self._attachments.detach(attachment)
            self._held.attachment = ""

    async def _detach_quietly(self) -> None:
        try:
            await self._detach()
        except TintypeError:
            return  # the lease lapses, and what it leaves is an orphan then

    async def _end(self) -> None:
        if self._is_open:
            self._is_open = False
            self._ended(self)
            await self._leases.release(self._volume.id, self._held)


def _is_zero(view: memoryview) -> bool:
    step = len(_ZEROS)
    pieces = (bytes(view[begin : begin + step]) for begin in range(0, len(view), step))
    return all(piece == _ZEROS[: len(piece)] for piece in pieces)
