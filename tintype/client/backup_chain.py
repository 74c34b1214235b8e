"""Backups of the log that follow one another, a full one first: read from files, and verified without any service."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import BinaryIO

from tintype.client.backup_file import BackupReader
from tintype.client.backup_models import Backup
from tintype.client.log_check import EventCheck, Keys, PublishedCheckpoints
from tintype.client.log_message import LogMessage
from tintype.client.models import LogCheck, OnProgress
from tintype.codec.log_backup import STREAMS, BackupHeader, StoredMessage
from tintype.codec.subjects import CHECKPOINT_STREAM, STREAM
from tintype.domain.errors import BackupChainError, BackupInvalidError


@dataclass(frozen=True, slots=True)
class WholeBackup:
    """A file that was read to its end, and is what was written; ``newest`` is its last message of each stream."""

    file: BinaryIO
    header: BackupHeader
    digest: str
    size_bytes: int
    newest: dict[str, StoredMessage]

    def described(self) -> Backup:
        """What a user is told of it."""
        return described(self.header, self.size_bytes, self.digest)


def described(header: BackupHeader, size_bytes: int, digest: str) -> Backup:
    """What a user is told of a backup."""
    events, checkpoints = header.part(STREAM), header.part(CHECKPOINT_STREAM)
    return Backup(
        header.time,
        header.source,
        events.first - 1,
        events.last,
        checkpoints.messages,
        size_bytes,
        digest,
        header.follows,
    )


async def whole_backup(file: BinaryIO) -> WholeBackup:
    """Read a backup to its end.

    Raises:
        BackupInvalidError: it is none, is cut off or was changed.
        DecompressionBombError: it grows to far more than it is.
        OSError: it cannot be read.
    """
    _rewind(file)
    reader = BackupReader(file)
    newest: dict[str, StoredMessage] = {}
    async with aclosing(reader.messages()) as batches:
        async for batch in batches:
            newest |= {message.stream: message for message in batch}
    return WholeBackup(file, reader.parser.finish(), reader.parser.digest, file.tell(), newest)


class BackupChain:
    """Whole backups that follow one another; made by :func:`whole_chain`."""

    def __init__(self, backups: Sequence[WholeBackup]) -> None:
        self.backups = tuple(backups)

    def last(self, stream: str) -> int:
        """The sequence of the last message of a stream; 0 where there is none."""
        return self.backups[-1].header.part(stream).last

    @property
    def messages_in_all(self) -> int:
        """How many messages of all streams there are."""
        return sum(self.last(stream) for stream in STREAMS)

    async def messages(self, stream: str) -> AsyncGenerator[list[StoredMessage], None]:
        """Yield every message of one stream, some at a time.

        Raises:
            BackupInvalidError: a file was changed meanwhile.
            OSError: a file cannot be read.
        """
        for backup in self.backups:
            _rewind(backup.file)
            reader = BackupReader(backup.file)
            async with aclosing(reader.messages()) as batches:
                async for batch in batches:
                    if some := [message for message in batch if message.stream == stream]:
                        yield some
                    if batch[-1].stream != stream and stream != STREAMS[-1]:
                        break  # what comes behind is of other streams
                else:
                    if reader.parser.digest != backup.digest:
                        raise BackupInvalidError("a backup was exchanged while it was being read")

    async def check(self, keys: Keys, on_progress: OnProgress | None) -> LogCheck:
        """Hold the log that is in them against its chains of hashes, and its signed checkpoints.

        Raises:
            BackupInvalidError: a file was changed meanwhile.
            OSError: a file cannot be read.
        """
        published = PublishedCheckpoints(keys)
        async with aclosing(self.messages(CHECKPOINT_STREAM)) as batches:
            async for batch in batches:
                for message in batch:
                    published.add(_as_read(message))
        head = self.last(STREAM)
        check = EventCheck(published, None, head)
        async with aclosing(self.messages(STREAM)) as batches:
            async for batch in batches:
                for message in batch:
                    await check.add(_as_read(message))
                if on_progress:
                    on_progress(batch[-1].sequence, head)
        return await check.end()


async def whole_chain(files: Sequence[BinaryIO]) -> BackupChain:
    """Read backups to their ends, and see that each continues the one before it.

    Raises:
        BackupInvalidError, DecompressionBombError: one is none, or not whole; the message says which.
        BackupChainError: one does not follow the one before it, or the first is no full one.
        OSError: one cannot be read.
    """
    found: list[WholeBackup] = []
    for number, file in enumerate(files, start=1):
        try:
            backup = await whole_backup(file)
        except BackupInvalidError as exc:
            raise BackupInvalidError(f"{getattr(file, 'name', f'backup {number}')}: {exc.message}") from exc
        _require_successor(found[-1] if found else None, backup)
        found.append(backup)
    return BackupChain(found)


def _require_successor(before: WholeBackup | None, backup: WholeBackup) -> None:
    name = getattr(backup.file, "name", "the backup")
    if backup.header.follows != (before.digest if before else ""):
        which = f"does not continue {getattr(before.file, 'name', 'the one before')}" if before else "is no full one"
        raise BackupChainError(f"{name} {which}: it continues the backup {backup.header.follows or 'of nothing'}")
    for stream in STREAMS:
        due = before.header.part(stream).last + 1 if before else 1
        if backup.header.part(stream).first != due:
            raise BackupChainError(
                f"{name} begins at message {backup.header.part(stream).first} of {stream}, not {due}"
            )


def _rewind(file: BinaryIO) -> None:
    try:
        file.seek(0)
    except io.UnsupportedOperation as exc:
        raise BackupInvalidError("a backup is read more than once: give a file, and no pipe") from exc


def _as_read(message: StoredMessage) -> LogMessage:
    return LogMessage(message.sequence, message.subject, message.headers, message.payload, message.time_ns)
