"""A file that gets its name only when it is whole."""

from __future__ import annotations

import asyncio
import io
import os
import secrets
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO


@asynccontextmanager
async def named_when_done(
    destination: Path | str | BinaryIO, *, fsync: bool, is_private: bool = False
) -> AsyncIterator[BinaryIO]:
    """Give a file to write to: for a path, a new one beside it that takes the path's name when the context ends well.

    After an error nothing is left. A path that is no regular file (a pipe, a device) is written to directly; a file
    object is the caller's, and stays open. A file that ``is_private`` nobody but its owner may read.

    Raises:
        OSError: the file cannot be made, written or renamed.
    """
    if not isinstance(destination, (str, Path)):
        yield destination
        return
    target = await asyncio.to_thread(Path(destination).resolve)
    if await asyncio.to_thread(_is_special, target):
        with await asyncio.to_thread(target.open, "wb") as file:
            yield file
        return
    # A name that exists nowhere yet: neither a link that waits there, nor another download, is written to.
    part = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.part")
    file = await asyncio.to_thread(_made, part, 0o600 if is_private else 0o666)
    try:
        with file:
            yield file
            await asyncio.to_thread(_complete, file, fsync)
        await asyncio.to_thread(os.replace, part, target)
        if fsync:
            await asyncio.to_thread(_sync_directory, target.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _made(path: Path, mode: int) -> io.BufferedWriter:
    return open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode))


def _is_special(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(21, "Is a directory", str(path))
    return not stat.S_ISREG(mode)


def _complete(file: BinaryIO, fsync: bool) -> None:
    file.flush()
    if fsync:
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
