"""Backups of the log: taken, checked and restored, in events per second, beside what nats-server takes one by one."""

from __future__ import annotations

import io
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.measure import Sample, table
from tintype.adapters.nats.connection import NatsConnection, NatsSettings
from tintype.adapters.nats.server import NatsServer
from tintype.adapters.nats.stream import ensure_stream
from tintype.client import ClientConfig, check_backup, connect
from tintype.client.backup_file import BackupWriter
from tintype.codec.log_backup import STREAMS
from tintype.codec.subjects import CHECKPOINT_STREAM, STREAM
from tintype.runtime.child_process import start_child
from tintype.testing.backups import header_of, stored_events
from tintype.testing.events import IMPORT_ROAD

IMAGES = 1000
ONE_BY_ONE = 700


async def report(directory: Path, runs: int) -> str:
    """One table."""
    full = directory / "full"
    events = await write_backup(full)
    server = NatsServer(directory / "nats", start_child)
    await server.start()
    try:
        taken = await measured(server, directory, full, runs)
    finally:
        await server.stop()
    rates = {name: Sample(tuple(count / each for each in seconds)) for name, (count, seconds) in taken.items()}
    first = next(iter(rates.values()))
    rows = [
        [
            name,
            f"{taken[name][0]:,}",
            f"{rate.median:,.0f} ({min(rate.values):,.0f}–{max(rate.values):,.0f})",
            rate.ratio(first),
        ]
        for name, rate in rates.items()
    ]
    size = full.stat().st_size
    return (
        table(("the log", "events", "events per second", "÷ one by one"), rows)
        + f"\n\nA backup of {events:,} events has {size:,} bytes."
    )


async def write_backup(path: Path) -> int:
    """A backup of a log that never was: filling one takes longer than all of the rest."""
    messages = stored_events(*(str(uuid.UUID(int=number)) for number in range(IMAGES)))
    memory = io.BytesIO()
    writer = BackupWriter(memory)
    await writer.begin(header_of(messages))
    for message in messages:
        await writer.add(message)
    await writer.end()
    path.write_bytes(memory.getvalue())
    return len(messages)


async def measured(server: NatsServer, directory: Path, full: Path, runs: int) -> dict[str, tuple[int, list[float]]]:
    """For each piece of work how many events it is about, and the seconds of each run."""
    async with AsyncExitStack() as stack:
        connection = await NatsConnection.open(NatsSettings((server.url,)))
        stack.push_async_callback(connection.close)
        client = await stack.enter_async_context(connect(ClientConfig(catalog="127.0.0.1:1", nats=server.url)))

        async def forget() -> None:
            for stream in STREAMS:
                await connection.api(f"STREAM.DELETE.{stream}")

        async def one_by_one() -> None:
            await ensure_stream(connection)
            for message in stored_events(*(str(number) for number in range(ONE_BY_ONE // len(IMPORT_ROAD)))):
                await connection.request(message.subject, message.payload, headers=dict(message.headers))

        async def restore() -> None:
            await client.admin.restore(full)

        async def backup() -> None:
            await ensure_stream(connection, name=CHECKPOINT_STREAM)
            await client.admin.backup(directory / "made")

        async def check() -> None:
            (await check_backup(full)).log.require_sound()

        events = len(IMPORT_ROAD) * IMAGES
        work: dict[str, tuple[int, Callable[[], Awaitable[None]], bool]] = {
            f"appended to {STREAM} one by one": (ONE_BY_ONE, one_by_one, True),
            "restored, verified before": (events, restore, True),
            "backed up": (events, backup, False),
            "checked": (events, check, False),
        }
        taken: dict[str, tuple[int, list[float]]] = {name: (count, []) for name, (count, _, _) in work.items()}
        for _ in range(runs):
            for name, (_, run, is_empty_before) in work.items():
                if is_empty_before:
                    await forget()
                begin = time.perf_counter()
                await run()
                taken[name][1].append(time.perf_counter() - begin)
        return taken
