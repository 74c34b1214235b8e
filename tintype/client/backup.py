"""Taking a backup of the log: everything that stands in it at one moment, as it stands there."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from tintype.client.backup_chain import WholeBackup, described, whole_backup
from tintype.client.backup_file import BackupWriter
from tintype.client.backup_models import Backup
from tintype.client.errors import IntegrityError
from tintype.client.log_message import LogMessage
from tintype.client.log_reader import LogReader, open_log
from tintype.client.models import OnProgress
from tintype.client.partial_file import named_when_done
from tintype.client.transport import Transport
from tintype.codec.log_backup import STREAMS, BackupHeader, StoredMessage, StreamPart, facts, is_sendable
from tintype.codec.streams import SUBJECTS, StreamSettings
from tintype.codec.subjects import CHECKPOINT_STREAM, CHECKPOINT_SUBJECT, STREAM
from tintype.domain.errors import BackupChainError, LogCorruptError


async def write_backup(
    transport: Transport, destination: Path | str | BinaryIO, since: Path | None, on_progress: OnProgress | None
) -> Backup:
    """Back the log up; see :meth:`tintype.client.admin.Admin.backup`."""
    with ExitStack() as stack:
        former = stack.enter_context(await asyncio.to_thread(since.open, "rb")) if since else None
        async with (
            open_log(transport) as log,
            named_when_done(destination, fsync=True, is_private=True) as file,
        ):
            return await take_backup(log, transport.config.nats, file, former, on_progress)


async def take_backup(
    log: LogReader, url: str, file: BinaryIO, former: BinaryIO | None, on_progress: OnProgress | None
) -> Backup:
    """Write the log to ``file``; of what the backup ``former`` has, nothing.

    Raises:
        ServiceUnavailableError: NATS does not answer.
        IntegrityError: a message is missing in the log.
        BackupInvalidError: ``former`` is no backup, or not whole.
        BackupChainError: ``former`` is not of this log.
        OSError: a file cannot be read or written.
    """
    before = await whole_backup(former) if former else None
    parts = await _parts(log, before)
    header = BackupHeader(datetime.now(UTC), _address(url), before.digest if before else "", parts)
    writer = BackupWriter(file)
    await writer.begin(header)
    done = 0
    for part in parts:
        known = before.newest.get(part.name) if before else None
        after = part.first - (2 if known else 1)
        # The former's last message is read again: it proves that this is the same log.
        async with aclosing(log.read(part.name, SUBJECTS[part.name], part.last, after=after)) as messages:
            async for each in messages:
                message = _stored(part.name, each)
                after += 1
                if message.sequence != after:
                    raise _damaged(f"message {after} of {part.name} is missing")
                if known and message.sequence == known.sequence:
                    _require_same(known, message)
                    continue
                await writer.add(message)
                done += 1
                if on_progress:
                    on_progress(done, header.messages)
    digest = await writer.end()
    return described(header, writer.size_bytes, digest)


async def _parts(log: LogReader, before: WholeBackup | None) -> tuple[StreamPart, ...]:
    """What there is to back up. Checkpoints come first: none of them may be about what comes later."""
    checkpoints = await log.last_position(CHECKPOINT_STREAM, CHECKPOINT_SUBJECT)
    info = await log.state(STREAM)
    if missing := info.state.last_seq - info.state.messages:
        raise _damaged(f"{missing} of the {info.state.last_seq} messages of {STREAM} are missing")
    heads = {CHECKPOINT_STREAM: checkpoints, STREAM: info.state.last_seq}
    settings = StreamSettings(info.config.num_replicas or 1, info.config.duplicate_window or 120.0)
    return tuple(_part(name, heads[name], settings, before) for name in STREAMS)


def _part(name: str, head: int, settings: StreamSettings, before: WholeBackup | None) -> StreamPart:
    last = before.header.part(name).last if before else 0
    if head < last:
        raise BackupChainError(f"{name} ends at message {head}, before the backup that should be continued: at {last}")
    return StreamPart(name, last + 1, head, settings)


def _stored(stream: str, read: LogMessage) -> StoredMessage:
    # A header that cannot be sent belongs to no event: whoever wrote it must not keep the log from being restored.
    headers = {name: value for name, value in read.headers.items() if is_sendable(name, value)}
    return StoredMessage(stream, read.position, read.time_ns, read.subject, headers, read.payload)


def _require_same(known: StoredMessage, found: StoredMessage) -> None:
    if facts(known.subject, known.headers, known.payload) != facts(found.subject, found.headers, found.payload):
        raise BackupChainError(
            f"message {known.sequence} of {known.stream} is another one in the backup that should be continued: "
            f"the log is not the one that it is of"
        )


def _damaged(message: str) -> IntegrityError:
    return IntegrityError(
        f"the log is damaged: {message}",
        reason=LogCorruptError.reason,
        hint="Stop nats-server and keep its files; a log with a gap cannot be put back message by message.",
    )


def _address(url: str) -> str:
    """Where NATS is, without credentials; several servers are told with commas."""
    return ",".join(urlsplit(each).netloc.rpartition("@")[2] for each in url.split(","))
