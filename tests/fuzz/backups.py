"""Backups of the log: a file from anywhere, which an operator is about to restore.

The invariant: the log in it with its faults, or a refusal.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator, Mapping
from contextlib import suppress

from tests.fuzz.target import Target
from tintype.client.backup_chain import whole_chain
from tintype.client.log_check import NOBODY, EventCheck, PublishedCheckpoints
from tintype.client.log_message import LogMessage
from tintype.codec.log_backup import BackupParser
from tintype.codec.subjects import CHECKPOINT_STREAM
from tintype.domain.errors import RefusedContentError
from tintype.testing.backups import checkpoint_messages, compressed, header_of, records_of, stored_events


def targets() -> Mapping[str, Target]:
    """The file, and what is in it."""
    return {"log-backup": Target(run_file, files), "log-backup-records": Target(run_records, record_texts)}


def run_file(content: bytes) -> None:
    """Verify a backup as `tintype admin check-backup` does."""

    async def check() -> None:
        with suppress(RefusedContentError):
            chain = await whole_chain([io.BytesIO(content)])
            await chain.check(NOBODY, None)

    asyncio.run(check())


def run_records(content: bytes) -> None:
    """Look at every message that comes before the first wrong record, whatever the digest at the end would say."""

    async def check() -> None:
        parser, published = BackupParser(), PublishedCheckpoints(NOBODY)
        events: EventCheck | None = None
        with suppress(RefusedContentError):
            for message in parser.feed(content):
                read = LogMessage(message.sequence, message.subject, message.headers, message.payload, message.time_ns)
                if message.stream == CHECKPOINT_STREAM:
                    published.add(read)
                    continue
                events = events or EventCheck(published, None, message.sequence)
                await events.add(read)
            parser.finish()
        if events:
            await events.end()

    asyncio.run(check())


def record_texts() -> Iterator[bytes]:
    """Of logs with and without images and checkpoints."""
    checkpoint = b'{"payload": "e30=", "payloadType": "application/vnd.tintype.checkpoint+json", "signatures": []}'
    for messages in ([], stored_events("one"), [*checkpoint_messages(checkpoint), *stored_events("one", "two")]):
        yield b"".join(records_of(messages))
    yield b"".join(records_of([], header_of([], follows="ab" * 32, after=7)))


def files() -> Iterator[bytes]:
    """The same, compressed."""
    yield from map(compressed, record_texts())
