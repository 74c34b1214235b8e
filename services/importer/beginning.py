"""Asking several stores at once: none waits for another, and nobody for one that hangs.

Whoever breaks off meanwhile leaves no write open.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from services.importer import fan_out
from tintype.domain.errors import AlreadyExistsError, StoreTimeoutError, TintypeError
from tintype.ports.image_store import BlobWriter, ImageStore


async def begin(store: ImageStore, key: str) -> BlobWriter:
    """A new write under a key that there may be other bytes of: damaged ones, or those of an attempt that was killed.

    What is committed stays as it is until something is committed in its place.

    Raises:
        UploadBusyError: another writer is at it.
        TintypeError: the store fails, or does not answer.
    """
    async with in_patience(store):
        try:
            return await store.open_write(key)
        except AlreadyExistsError:
            return await store.open_write(key, replace=True)


async def begin_all(
    stores: Sequence[ImageStore], begin_one: Callable[[ImageStore], Awaitable[BlobWriter]]
) -> Sequence[tuple[ImageStore, BlobWriter | TintypeError]]:
    """Each store with its write, or with why there is none."""

    async def tried(store: ImageStore) -> BlobWriter | TintypeError:
        try:
            return await begin_one(store)
        except TintypeError as exc:
            return exc

    tasks = [asyncio.create_task(tried(store)) for store in stores]
    try:
        ends = await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        for end in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(end, BaseException):
                with suppress(TintypeError):  # what is left is swept
                    await end.abort()
        raise
    return list(zip(stores, ends, strict=True))


@asynccontextmanager
async def in_patience(store: ImageStore) -> AsyncIterator[None]:
    """Fail what takes the store longer than it may stand still in a write.

    Raises:
        StoreTimeoutError: it did.
    """
    try:
        async with asyncio.timeout(fan_out.PATIENCE_S):
            yield
    except TimeoutError:
        raise StoreTimeoutError(f"store {store.name!r} did not answer in {fan_out.PATIENCE_S:g} s") from None
