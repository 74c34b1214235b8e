"""Volumes attached for reading: one attachment for all readers of this process, as long as there are any."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tintype.adapters.cinder.attachment import Attachment, Attachments
from tintype.adapters.cinder.leases import Held, Leases
from tintype.domain.errors import StoreUnavailableError, TintypeError

PIECE_SIZE = 1024 * 1024
_AHEAD_SIZE = 4 * PIECE_SIZE


@dataclass(slots=True)
class _Shared:
    held: Held
    count: int = 0
    attachment: Attachment | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Readers:
    """The readers of one store in this process; ``left`` hears of each volume that the last of them has left."""

    def __init__(self, leases: Leases, attachments: Attachments, left: Callable[[str], Awaitable[None]]) -> None:
        self._leases = leases
        self._attachments = attachments
        self._left = left
        self._shared: dict[str, _Shared] = {}

    def has(self, volume_id: str) -> bool:
        """Whether somebody in this process reads the volume."""
        return volume_id in self._shared

    async def pieces(self, volume_id: str, begin: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes from ``begin`` to ``end``, of which the next are read meanwhile.

        Raises:
            BlobDamagedError: some cannot be read.
            StoreUnavailableError: the volume cannot be attached, or its storage failed.
        """
        async with self._attached(volume_id) as attachment:
            ahead = asyncio.ensure_future(_block(attachment, begin, end))
            try:
                while begin < end:
                    block = await ahead
                    begin += len(block)
                    ahead = asyncio.ensure_future(_block(attachment, begin, end))
                    for at in range(0, len(block), PIECE_SIZE):
                        yield block[at : at + PIECE_SIZE]
            finally:
                # The device is not to be closed under a thread that reads from it.
                await asyncio.wait([ahead])
                if not ahead.cancelled():
                    ahead.exception()

    @asynccontextmanager
    async def _attached(self, volume_id: str) -> AsyncIterator[Attachment]:
        shared = self._shared.setdefault(volume_id, _Shared(self._leases.new(is_writer=False)))
        shared.count += 1
        try:
            async with shared.lock:
                if shared.attachment is None:
                    await self._leases.write(volume_id, shared.held)
                    shared.attachment = await self._attachments.attach(volume_id, shared.held)
            yield shared.attachment
        finally:
            await asyncio.shield(asyncio.ensure_future(self._release(volume_id, shared)))

    async def _release(self, volume_id: str, shared: _Shared) -> None:
        async with shared.lock:
            shared.count -= 1
            if shared.count:
                return
            # Whoever comes from now on attaches anew, and waits until Cinder has seen this one go.
            self._shared.pop(volume_id, None)
            try:
                if shared.attachment is not None:
                    await self._attachments.detach(shared.attachment)
            except TintypeError:
                pass  # what is left of it is found by its lapsed lease
            finally:
                await self._leases.release(volume_id, shared.held)
        await self._left(volume_id)


async def _block(attachment: Attachment, begin: int, end: int) -> bytes:
    if begin >= end:
        return b""
    length = min(_AHEAD_SIZE, end - begin)
    block = await attachment.use(lambda device: device.read(begin, length), is_read=True)
    if not block:
        raise StoreUnavailableError("the volume is shorter than what was written to it")
    return block
