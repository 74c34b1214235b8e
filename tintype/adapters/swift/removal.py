"""Removing many objects: some at once, and what is not there is no error."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from tintype.adapters.swift import layout
from tintype.adapters.swift.account import Account
from tintype.domain.blob_keys import BlobKey

_AT_ONCE = 8


async def remove_write(account: Account, container: str, key: BlobKey, write: str, count: int = 0) -> None:
    """Remove the segments of one write: those that are listed, and the first ``count``, as a list may lag behind.

    Raises:
        StoreUnavailableError: some could not be removed.
    """
    names = {layout.segment_name(key, write, number) for number in range(count)}
    names.update([item["name"] async for item in account.list(container, f"{key}/{write}/")])
    await remove_objects(account, container, names)


async def remove_objects(account: Account, container: str, names: Iterable[str]) -> None:
    """Remove objects by name.

    Raises:
        StoreUnavailableError: some could not be removed.
    """
    waiting = sorted(names)
    for begin in range(0, len(waiting), _AT_ONCE):
        removals = [
            account.call("DELETE", f"/{container}/{name}", expect=(404, 409))
            for name in waiting[begin : begin + _AT_ONCE]
        ]
        for outcome in await asyncio.gather(*removals, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
