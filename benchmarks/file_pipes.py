"""A file into a store and out of it, the file's own work beside the store's, as whoever is in a hurry does it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.disks import MIB
from tintype.ports.image_store import ImageStore

KEY = "6f1c1a44-8a3e-4cf4-9d0c-0d3c1f9f0a01/9b2d1a44-8a3e-4cf4-9d0c-0d3c1f9f0b01/bench"


async def pieces_of(source: Path) -> AsyncIterator[bytes]:
    """The file in pieces of 1 MiB; one is read while the caller works on the other."""
    with source.open("rb", buffering=0) as file:
        ahead = asyncio.create_task(asyncio.to_thread(file.read, MIB))
        while piece := await ahead:
            ahead = asyncio.create_task(asyncio.to_thread(file.read, MIB))
            yield piece


async def write(store: ImageStore, source: Path) -> None:
    """Put the file in the place of what an earlier run wrote."""
    writer = await store.open_write(KEY, replace=True)
    async for piece in pieces_of(source):
        await writer.append(piece)
    await writer.commit(size=writer.offset, digests={})


async def read_into(store: ImageStore, target: Path) -> None:
    """Read the bytes into a file; one piece is written while the next one is read."""
    writing: asyncio.Task[int] | None = None
    with target.open("wb", buffering=0) as file:
        async for piece in store.read(KEY):
            if writing is not None:
                await writing
            writing = asyncio.create_task(asyncio.to_thread(file.write, piece))
        if writing is not None:
            await writing
