"""Whether backups of the log are what was written, and the log in them what it was: found out without any service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from tintype.client.backup_chain import BackupChain, whole_chain
from tintype.client.backup_models import BackupCheck
from tintype.client.custody import trust_part
from tintype.client.errors import InvalidRequestError
from tintype.client.log_check import NOBODY, Keys, keys_in
from tintype.client.models import OnProgress

Files = Path | str | Sequence[Path | str]


async def check_backup(
    files: Files, *, trust_store: Path | str | None = None, on_progress: OnProgress | None = None
) -> BackupCheck:
    """Read a full backup, and those that continue it, oldest first; no service is asked.

    Each has to be whole and to continue the one before. The log in them is held against the chains of hashes of all
    images and against its signed checkpoints, whose signatures are verified with the certificates in the directory
    ``trust_store``, if it is given: see ``log`` of the answer, and its ``require_sound()``.

    Raises:
        ContentError: one is no backup, not whole, or does not continue the one before it.
        ConfigurationError: the trust store cannot be read.
        OSError: a file cannot be read.
    """
    keys = await trusted_keys(trust_store)
    async with opened_chain(files) as chain:
        with trust_part():
            found = await chain.check(keys, on_progress)
        return BackupCheck(tuple(backup.described() for backup in chain.backups), found)


@asynccontextmanager
async def opened_chain(files: Files) -> AsyncIterator[BackupChain]:
    """Open backups, and read each to its end; they stay open, so that it is these very files that are read again.

    Raises:
        ContentError: one is no backup, not whole, or does not continue the one before it.
        OSError: a file cannot be read.
    """
    paths = [files] if isinstance(files, (str, Path)) else list(files)
    if not paths:
        raise InvalidRequestError("no backup is named")
    with ExitStack() as stack:
        opened = [stack.enter_context(await asyncio.to_thread(Path(path).open, "rb")) for path in paths]
        with trust_part():
            chain = await whole_chain(opened)
        yield chain


async def trusted_keys(trust_store: Path | str | None) -> Keys:
    """The keys in a trust store; nobody's without one.

    Raises:
        ConfigurationError: it cannot be read, or has none.
    """
    return await asyncio.to_thread(keys_in, Path(trust_store)) if trust_store else NOBODY
