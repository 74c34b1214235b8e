"""Reading an object from some offset on, to an end that was announced."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing

from tintype.adapters.swift.account import Account
from tintype.adapters.swift.writer import PIECE_SIZE
from tintype.domain.errors import BlobDamagedError, BlobNotFoundError, StoreUnavailableError

_TOO_FAR = 416


async def read_object(account: Account, path: str, *, offset: int, length: int | None) -> AsyncIterator[bytes]:
    """Yield the bytes from ``offset``, ``length`` at most.

    Raises:
        BlobNotFoundError: there is no such object.
        BlobDamagedError: a segment of it is missing, or is not what its manifest says.
        StoreUnavailableError: Swift failed, or ended before the last byte.
    """
    headers: dict[str, str] = {}
    if offset or length is not None:
        # Of nothing there is no range: the one byte that is asked for instead is not looked at.
        last = "" if length is None else str(offset + max(length, 1) - 1)
        headers["Range"] = f"bytes={offset}-{last}"
    async with account.stream(path, headers, expect=(404, 409, _TOO_FAR)) as answer:
        if answer.status == 404:
            raise BlobNotFoundError(f"store {account.store!r} has no such bytes")
        if answer.status == 409:
            raise BlobDamagedError(f"store {account.store!r} misses some of the bytes, or has others")
        if answer.status == _TOO_FAR or length == 0:
            return
        announced = _announced(account, answer.headers, offset, is_range=bool(headers))
        received = 0
        async with aclosing(account.pieces(answer, PIECE_SIZE)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                received += len(piece)
                if received > announced or (length is not None and received > length):
                    raise account.not_understood()
                yield piece
        if received != announced:
            raise StoreUnavailableError(f"store {account.store!r}: Swift ended before the last byte")


def _announced(account: Account, headers: Mapping[str, str], offset: int, *, is_range: bool) -> int:
    told = headers.get("Content-Length", "")
    is_from_there = headers.get("Content-Range", "").startswith(f"bytes {offset}-")
    if not (told.isascii() and told.isdigit() and len(told) <= 19) or (is_range and not is_from_there):
        raise account.not_understood()
    return int(told)
