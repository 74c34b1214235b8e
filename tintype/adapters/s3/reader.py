"""A range of an object, read ahead by one piece while the one before is in use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from tintype.adapters.s3.bucket import Bucket
from tintype.adapters.s3.errors import FAILURES, is_missing
from tintype.domain.errors import BlobDamagedError, BlobNotFoundError, StoreUnavailableError

PIECE_SIZE = 1024 * 1024


async def read_object(bucket: Bucket, name: str, size: int, offset: int, length: int | None) -> AsyncIterator[bytes]:
    """Yield bytes of an object that should have ``size``.

    Raises:
        BlobNotFoundError: it is not there.
        BlobDamagedError: it has another size.
        StoreUnavailableError: the store failed, or broke off before the end.
    """
    end = size if length is None else min(size, offset + length)
    if offset >= end:
        return
    body = await bucket.run(lambda: _open(bucket, name, size, offset, end), undo=lambda opened: opened.close())
    left = end - offset
    ahead = asyncio.ensure_future(bucket.run(lambda: _piece(body, min(left, PIECE_SIZE))))
    try:
        while left:
            piece = await ahead
            left -= len(piece)
            if left:
                ahead = asyncio.ensure_future(bucket.run(_next(body, min(left, PIECE_SIZE))))
            yield piece
    finally:
        # A thread may still be reading, up to the deadline of its socket: the connection is closed behind it.
        if not ahead.done():
            ahead.add_done_callback(lambda done: _close_behind(done, body))
        else:
            _close_behind(ahead, body)


def _next(body: Any, size: int) -> Any:
    return lambda: _piece(body, size)


def _open(bucket: Bucket, name: str, size: int, offset: int, end: int) -> Any:
    try:
        answer = bucket.call("get_object", Key=name, Range=f"bytes={offset}-{end - 1}")
    except FAILURES as exc:
        if is_missing(exc):
            raise BlobNotFoundError("the object is not there") from exc
        raise
    body = answer["Body"]
    if answer["ResponseMetadata"]["HTTPStatusCode"] == 206:
        _, _, total = str(answer.get("ContentRange", "")).rpartition("/")
        is_sound = total == str(size) and int(answer["ContentLength"]) == end - offset
    else:  # a server that knows no ranges may send all
        is_sound = offset == 0 and end == size == int(answer["ContentLength"])
    if not is_sound:
        body.close()
        raise BlobDamagedError("the store has another number of bytes than were committed")
    return body


def _piece(body: Any, size: int) -> bytes:
    """Exactly so many bytes."""
    piece: bytes = body.read(size)
    if len(piece) != size:
        raise StoreUnavailableError("the store broke off before the end of the bytes")
    return piece


def _close_behind(done: asyncio.Future[bytes], body: Any) -> None:
    if not done.cancelled():
        done.exception()
    body.close()
