"""How fast the bytes of an upload have to come: a stream holds a place, and none may hold it for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from tintype.codec.framing import WriteFrame
from tintype.domain.errors import UploadStalledError

MIN_PROGRESS_SIZE = 64 * 1024
"""Bytes that have to come within one stall timeout, as from a web server: single ones would hold a place for ever."""


async def paced(frames: AsyncIterator[WriteFrame], stall_timeout_s: float) -> AsyncIterator[WriteFrame]:
    """The frames, as long as they come fast enough; the time that the reader takes for each does not count.

    Raises:
        UploadStalledError: they do not.
    """
    clock = asyncio.get_running_loop().time
    patience_s, size = stall_timeout_s, 0
    while True:
        asked_at = clock()
        try:
            async with asyncio.timeout(patience_s):
                frame = await anext(frames, None)
        except TimeoutError:
            raise UploadStalledError(f"fewer than {MIN_PROGRESS_SIZE} bytes came in {stall_timeout_s:g} s") from None
        if frame is None:
            return
        patience_s, size = patience_s - (clock() - asked_at), size + len(frame.data)
        if size >= MIN_PROGRESS_SIZE:
            patience_s, size = stall_timeout_s, 0
        yield frame
