"""Temporary files for stores that have none of their own; each is gone when its context ends."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from tintype.domain.errors import StoreFullError, StoreUnavailableError
from tintype.ports.image_store import BlobWriter

PIECE_BYTES = 1024 * 1024


@asynccontextmanager
async def new_file(directory: Path) -> AsyncIterator[Path]:
    """An empty file, readable by nobody else.

    Raises:
        StoreFullError, StoreUnavailableError: it cannot be made.
    """
    with _translated():
        # Not in a thread: if this were cancelled meanwhile the file would stay.
        descriptor, name = tempfile.mkstemp(prefix="tintype-", dir=directory)
        os.close(descriptor)
    path = Path(name)
    try:
        yield path
    finally:
        with _translated():
            await asyncio.to_thread(path.unlink, missing_ok=True)


@asynccontextmanager
async def copy_of(content: AsyncIterator[bytes], directory: Path) -> AsyncIterator[Path]:
    """A file with these bytes.

    Raises:
        StoreFullError, StoreUnavailableError: it cannot be written.
    """
    async with new_file(directory) as path:
        with _translated(), path.open("wb") as file:
            async for piece in content:
                await asyncio.to_thread(file.write, piece)
        yield path


async def append_file(writer: BlobWriter, path: Path) -> None:
    """Append a file's bytes to a staged write.

    Raises:
        StoreFullError, StoreUnavailableError: the store refused them, or the file cannot be read.
    """
    with _translated(), path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            await writer.append(piece)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFullError("the converter's scratch directory has no room") from exc
        raise StoreUnavailableError(f"the converter's scratch directory failed: {exc.strerror}") from exc
