"""Putting a log back from its backups: verified first, then message by message to the very place that each had."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from tintype.client.backup_chain import BackupChain
from tintype.client.backup_models import Restored
from tintype.client.errors import PreconditionError
from tintype.client.log_reader import LogReader
from tintype.client.log_writer import LogWriter
from tintype.client.models import LogCheck, OnProgress
from tintype.codec.log_backup import STREAMS, StoredMessage, facts
from tintype.codec.streams import SUBJECTS, StreamSettings
from tintype.codec.subjects import CHECKPOINT_STREAM, STREAM
from tintype.domain.errors import LogDiffersError

_LOOK_EVERY_S = 5.0
"""How often it is looked whether services have come: they must not see half a log, and sweep what it does not name."""


class Restore:
    """Puts the log of ``chain``, which was verified, into NATS.

    Streams that it makes have ``replicas``; with 0, as many as the backup says.
    """

    def __init__(self, log: LogReader, chain: BackupChain, replicas: int, on_progress: OnProgress | None) -> None:
        self._log = log
        self._writer = LogWriter(log)
        self._chain = chain
        self._replicas = replicas
        self._on_progress = on_progress

    async def run(self, check: LogCheck, *, dry_run: bool) -> Restored:
        """Find out what is there, and write what is missing; nothing in a ``dry_run``.

        Raises:
            PreconditionError: NATS has another log (``LOG_DIFFERS``), or services are at work on it (``LOG_IN_USE``).
            ServiceUnavailableError: NATS does not answer; run it again.
            ConfigurationError: a stream is not as it has to be, or cannot be made.
            BackupInvalidError: a file was changed meanwhile.
        """
        is_there = {stream: await self._writer.require_stream(stream) for stream in STREAMS}
        for stream in STREAMS:
            if is_there[stream]:
                await self._writer.require_idle(stream)
        present = {stream: await self._present(stream) if is_there[stream] else None for stream in STREAMS}
        there = sum(each or 0 for each in present.values())
        if not dry_run:
            await self._write(present)
        return Restored(
            self._chain.last(STREAM),
            self._chain.last(CHECKPOINT_STREAM),
            there,
            self._chain.messages_in_all - there,
            dry_run,
            check,
        )

    async def _present(self, stream: str) -> int:
        """How many messages the stream has, each of which is the backup's."""
        state = (await self._log.state(stream)).state
        last = self._chain.last(stream)
        if state.messages != state.last_seq:
            raise _differs(f"{state.last_seq - state.messages} messages of {stream} are missing there")
        if state.last_seq > last:
            raise _differs(f"{stream} goes on there up to message {state.last_seq}, and ends at {last} in the backup")
        async with (
            aclosing(_behind(self._chain.messages(stream), 0)) as batches,
            aclosing(self._log.read(stream, SUBJECTS[stream], state.last_seq)) as stored,
        ):
            expected = (message async for batch in batches for message in batch)
            async for found in stored:
                known = await anext(expected)
                if facts(known.subject, known.headers, known.payload) != facts(
                    found.subject, found.headers, found.payload
                ):
                    raise _differs(f"message {found.position} of {stream} is another one there than in the backup")
        return state.last_seq

    async def _write(self, present: dict[str, int | None]) -> None:
        for stream, there in present.items():
            if there is None:
                settings = self._chain.backups[-1].header.part(stream).settings
                replicas = self._replicas or settings.replicas
                await self._writer.create_stream(stream, StreamSettings(replicas, settings.duplicate_window_s))
        done = sum(there or 0 for there in present.values())
        for stream, there in present.items():
            await self._append(stream, there or 0, done)
            done += self._chain.last(stream) - (there or 0)
        for stream in STREAMS:
            await self._require_end(stream)

    async def _append(self, stream: str, there: int, done: int) -> None:
        loop = asyncio.get_running_loop()
        looked_at = loop.time()
        async with (
            aclosing(_behind(self._chain.messages(stream), there)) as missing,
            aclosing(self._writer.append(stream, missing)) as positions,
        ):
            async for position in positions:
                if self._on_progress and position > there:
                    self._on_progress(done + position - there, self._chain.messages_in_all)
                if loop.time() - looked_at > _LOOK_EVERY_S:
                    await self._writer.require_idle(stream)
                    looked_at = loop.time()

    async def _require_end(self, stream: str) -> None:
        await self._writer.require_idle(stream)
        found = (await self._log.state(stream)).state.last_seq
        if found != self._chain.last(stream):
            raise _differs(f"{stream} ends at message {found} now, and not at {self._chain.last(stream)}")


async def _behind(
    batches: AsyncGenerator[list[StoredMessage], None], sequence: int
) -> AsyncGenerator[list[StoredMessage], None]:
    async with aclosing(batches):
        async for batch in batches:
            if some := [message for message in batch if message.sequence > sequence]:
                yield some


def _differs(message: str) -> PreconditionError:
    return PreconditionError(
        f"the log in NATS is not a beginning of the backup: {message}",
        reason=LogDiffersError.reason,
        hint=LogDiffersError.hint,
    )
