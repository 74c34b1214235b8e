"""Backups of the log, from one nats-server and into another, as an operator takes and restores them."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import stat
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from services.signer.checkpointing import Checkpointing, CheckpointLimits
from services.signer.keys.key_directory import KeyDirectory
from tests.contract.event_logs import NatsHarness
from tintype.adapters.nats.checkpoints import NatsCheckpointLog
from tintype.adapters.nats.connection import NatsConnection
from tintype.adapters.nats.server import NatsServer
from tintype.adapters.nats.stream import ensure_stream
from tintype.client import (
    Backup,
    ClientConfig,
    ClientError,
    ConfigurationError,
    ContentError,
    IntegrityError,
    PreconditionError,
    Restored,
    ServiceUnavailableError,
    check_backup,
    log_writer,
)
from tintype.client.client import connect
from tintype.client.log_message import LogMessage
from tintype.client.log_reader import open_log
from tintype.codec.log_backup import StoredMessage, facts
from tintype.codec.streams import SUBJECTS
from tintype.codec.subjects import CHECKPOINT_STREAM, EVERY_EVENT, STREAM
from tintype.domain.events import ImageDeleted, ImageUpdated
from tintype.ports.event_log import WorkQueue
from tintype.runtime.clock import SystemClock
from tintype.testing.events import IMPORT_ROAD, EventBuilder, an_image_id

pytestmark = pytest.mark.nats

ROAD = len(IMPORT_ROAD)
FOR_EVER_S = 1e6


class Site:
    """A nats-server with an empty log, and a signer that is run by hand."""

    def __init__(self, url: str, stack: AsyncExitStack, connection: NatsConnection, keys: KeyDirectory) -> None:
        self.url = url
        self.harness = NatsHarness(url, stack)
        self.connection = connection
        self.keys = keys

    async def import_images(self, *names: str, actor: str = "user:ann") -> None:
        log = await self.harness.open()
        for name in names:
            builder, last = EventBuilder(an_image_id(name)), None
            for payload in IMPORT_ROAD:
                last = await log.append(builder.new(payload, actor=actor), after=last)

    async def publish(self, every: int = 5) -> None:
        """Run a signer over the whole log."""
        log = await self.harness.open()
        limits = CheckpointLimits(every, FOR_EVER_S)
        signer = Checkpointing(log, NatsCheckpointLog(self.connection), self.keys, SystemClock(), limits)
        await signer.follow_until(await log.head())
        await signer.cover()

    async def empty(self) -> None:
        """Lose both streams."""
        for stream in (STREAM, CHECKPOINT_STREAM):
            await self.connection.api(f"STREAM.DELETE.{stream}")

    async def messages(self, stream: str) -> list[LogMessage]:
        async with connect(self.config) as client, open_log(client._transport) as log:
            head = await log.last_position(stream, SUBJECTS[stream])
            return [message async for message in log.read(stream, SUBJECTS[stream], head)]

    async def exists(self, stream: str) -> bool:
        return "error" not in await self.connection.api(f"STREAM.INFO.{stream}")

    @property
    def config(self) -> ClientConfig:
        return ClientConfig(catalog="127.0.0.1:1", nats=self.url, retry_s=0.2)

    async def backup(self, path: Path, since: Path | None = None) -> Backup:
        async with connect(self.config) as client:
            return await client.admin.backup(path, since=since)

    async def restore(self, *paths: Path, **more: object) -> Restored:
        async with connect(self.config) as client:
            return await client.admin.restore(list(paths), **more)  # type: ignore[arg-type]


@pytest_asyncio.fixture
async def site(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        yield await opened(nats_server.url, tmp_path, stack)


async def opened(url: str, directory: Path, stack: AsyncExitStack) -> Site:
    keys = KeyDirectory(directory / "keys", SystemClock())
    await keys.prepare("key-1")
    (directory / "trust" / "service-keys").mkdir(parents=True, exist_ok=True)
    for key in await keys.keys():
        (directory / "trust" / "service-keys" / f"{key.id}.pem").write_bytes(key.certificate)
    harness = await NatsHarness.make(url, stack)
    connection = await harness.connect()
    await connection.api(f"STREAM.DELETE.{CHECKPOINT_STREAM}")
    await ensure_stream(connection, name=CHECKPOINT_STREAM)
    made = Site(url, stack, connection, keys)
    stack.push_async_callback(made.empty)
    return made


def facts_of(messages: list[LogMessage]) -> list[object]:
    return [(each.position, *facts(each.subject, each.headers, each.payload)) for each in messages]


async def test_a_restored_log_has_every_message_in_its_place(site: Site, tmp_path: Path) -> None:
    await site.import_images("one", "two", "three")
    await site.publish()
    before = {stream: facts_of(await site.messages(stream)) for stream in (STREAM, CHECKPOINT_STREAM)}
    made = await site.backup(tmp_path / "full")
    await site.empty()

    restored = await site.restore(tmp_path / "full", trust_store=tmp_path / "trust")

    assert {stream: facts_of(await site.messages(stream)) for stream in before} == before
    assert (made.after, made.position, made.checkpoints, made.is_full) == (0, 3 * ROAD, 5, True)
    assert (restored.position, restored.checkpoints) == (3 * ROAD, 5)
    assert (restored.present, restored.written) == (0, 3 * ROAD + 5)
    assert (restored.log.faults, restored.log.covered, restored.log.keys_from) == ((), 3 * ROAD, "trust store")
    for stream in before:
        await ensure_stream(site.connection, name=stream)  # the services find it as they want it


async def test_the_log_goes_on_behind_a_restore(site: Site, tmp_path: Path) -> None:
    """Expected sequences, hash chains and checkpoints all fit."""
    await site.import_images("one")
    await site.publish()
    await site.backup(tmp_path / "full")
    await site.empty()
    await site.restore(tmp_path / "full")

    log, builder = await site.harness.open(), EventBuilder(an_image_id("one"))
    (*_, last) = await log.history(an_image_id("one"))
    appended = await log.append(builder.new(ImageDeleted()), after=last)
    await site.import_images("two")
    await site.publish()

    assert (appended.position, appended.version) == (ROAD + 1, ROAD + 1)
    async with connect(site.config) as client:
        found = await client.events.check_log(trust_store=tmp_path / "trust")
    assert (found.faults, found.covered) == ((), 2 * ROAD + 1)


async def test_a_backup_is_the_owners_alone_and_leaves_nothing_half_done(site: Site, tmp_path: Path) -> None:
    await site.import_images("one")
    await site.backup(tmp_path / "full")

    assert stat.S_IMODE((tmp_path / "full").stat().st_mode) == 0o600
    assert not list(tmp_path.glob(".*.part"))
    with pytest.raises(ContentError):
        await site.backup(tmp_path / "next", since=tmp_path / "trust" / "service-keys" / "key-1.pem")
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"full"}


async def test_a_backup_goes_to_an_open_file(site: Site, tmp_path: Path) -> None:
    await site.import_images("one")
    pipe = io.BytesIO()
    async with connect(site.config) as client:
        made = await client.admin.backup(pipe)
    assert len(pipe.getvalue()) == made.size_bytes
    (tmp_path / "full").write_bytes(pipe.getvalue())
    assert (await check_backup(tmp_path / "full")).backups == (made,)


async def test_backups_continue_one_another(site: Site, tmp_path: Path) -> None:
    await site.import_images("one")
    await site.publish()
    first = await site.backup(tmp_path / "1")
    await site.import_images("two")
    second = await site.backup(tmp_path / "2", since=tmp_path / "1")
    unchanged = await site.backup(tmp_path / "3", since=tmp_path / "2")
    await site.publish()  # a checkpoint of what the second backup has is in the fourth
    await site.import_images("three")
    await site.backup(tmp_path / "4", since=tmp_path / "3")
    before = {stream: facts_of(await site.messages(stream)) for stream in (STREAM, CHECKPOINT_STREAM)}
    await site.empty()
    chain = [tmp_path / name for name in "1234"]

    found = await check_backup(chain, trust_store=tmp_path / "trust")
    restored = await site.restore(*chain)

    assert (second.follows, second.after, second.position) == (first.digest, ROAD, 2 * ROAD)
    assert (unchanged.after, unchanged.position, unchanged.checkpoints) == (2 * ROAD, 2 * ROAD, 0)
    assert (found.log.faults, found.log.covered, found.log.head) == ((), 2 * ROAD, 3 * ROAD)
    assert restored.position == 3 * ROAD
    assert {stream: facts_of(await site.messages(stream)) for stream in before} == before


async def test_a_backup_continues_only_one_of_the_same_log(site: Site, tmp_path: Path) -> None:
    await site.import_images("one", "two")
    await site.backup(tmp_path / "1")
    await site.empty()
    await ensure_stream(site.connection)
    await ensure_stream(site.connection, name=CHECKPOINT_STREAM)
    await site.import_images("one")

    with pytest.raises(ContentError, match="ends at message") as shorter:
        await site.backup(tmp_path / "2", since=tmp_path / "1")
    await site.import_images("three")
    with pytest.raises(ContentError, match="is another one") as other:
        await site.backup(tmp_path / "2", since=tmp_path / "1")
    assert shorter.value.reason == other.value.reason == "BACKUP_CHAIN"
    assert not (tmp_path / "2").exists()


async def test_a_log_with_a_gap_is_not_backed_up_as_if_it_were_whole(site: Site, tmp_path: Path) -> None:
    await site.connection.api(f"STREAM.DELETE.{STREAM}")
    await site.connection.api(f"STREAM.CREATE.{STREAM}", {"name": STREAM, "subjects": [EVERY_EVENT]})
    await site.import_images("one")
    await site.connection.api(f"STREAM.MSG.DELETE.{STREAM}", {"seq": 2})

    with pytest.raises(IntegrityError) as caught:
        await site.backup(tmp_path / "full")
    assert caught.value.reason == "LOG_CORRUPT"
    assert not (tmp_path / "full").exists()


@pytest.mark.parametrize("order", ["21", "2", "13", "11", "312"])
async def test_a_chain_that_is_not_whole_or_not_in_order_is_refused(site: Site, tmp_path: Path, order: str) -> None:
    previous: Path | None = None
    for name in "123":
        await site.import_images(name)
        await site.backup(tmp_path / name, since=previous)
        previous = tmp_path / name
    await site.empty()

    with pytest.raises(ContentError) as caught:
        await site.restore(*(tmp_path / name for name in order))
    assert caught.value.reason == "BACKUP_CHAIN"
    assert not await site.exists(STREAM)


async def test_a_dry_run_tells_what_would_be_written_and_writes_nothing(site: Site, tmp_path: Path) -> None:
    await site.import_images("one")
    await site.backup(tmp_path / "full")
    await site.empty()

    told = await site.restore(tmp_path / "full", dry_run=True)

    assert (told.written, told.present, told.is_dry_run) == (ROAD, 0, True)
    assert not await site.exists(STREAM)


async def test_a_restore_that_broke_off_goes_on(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await site.import_images("one", "two")
    await site.publish()
    await site.backup(tmp_path / "full")
    before = facts_of(await site.messages(STREAM))
    await site.empty()
    await site.restore(tmp_path / "full")
    await site.connection.api(f"STREAM.DELETE.{STREAM}")
    await ensure_stream(site.connection)
    await site.import_images("one")  # as far as the first one had come

    resumed = await site.restore(tmp_path / "full")

    assert (resumed.present, resumed.written) == (ROAD + resumed.checkpoints, ROAD)
    assert facts_of(await site.messages(STREAM)) == before
    again = await site.restore(tmp_path / "full")
    assert again.written == 0


async def test_another_log_is_left_as_it_is(site: Site, tmp_path: Path) -> None:
    await site.import_images("one", "two")
    await site.backup(tmp_path / "full")
    await site.empty()
    await ensure_stream(site.connection)
    await site.import_images("one", actor="user:mallory")
    there = facts_of(await site.messages(STREAM))

    with pytest.raises(PreconditionError, match=f"message 1 of {STREAM} is another one") as caught:
        await site.restore(tmp_path / "full")
    assert caught.value.reason == "LOG_DIFFERS"
    assert facts_of(await site.messages(STREAM)) == there
    assert not await site.exists(CHECKPOINT_STREAM)


async def test_a_log_that_has_gone_on_is_left_as_it_is(site: Site, tmp_path: Path) -> None:
    await site.import_images("one")
    await site.backup(tmp_path / "full")
    await site.import_images("two")

    with pytest.raises(PreconditionError, match=f"goes on there up to message {2 * ROAD}") as caught:
        await site.restore(tmp_path / "full")
    assert caught.value.reason == "LOG_DIFFERS"


async def test_a_service_at_work_on_the_log_is_noticed_before_anything_is_written(site: Site, tmp_path: Path) -> None:
    await site.import_images("one", "two")
    await site.backup(tmp_path / "full")
    await site.empty()
    await ensure_stream(site.connection)
    log = await site.harness.open()
    async with log.work(WorkQueue("importer", (ImageUpdated,))) as deliveries:
        waiting = asyncio.ensure_future(anext(deliveries))
        async with asyncio.timeout(20):
            while not (await site.connection.api(f"CONSUMER.LIST.{STREAM}"))["consumers"]:
                await asyncio.sleep(0)
            while not (await site.connection.api(f"CONSUMER.INFO.{STREAM}.importer"))["num_waiting"]:
                await asyncio.sleep(0)

        with pytest.raises(PreconditionError, match="importer waits for messages") as caught:
            await site.restore(tmp_path / "full")
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert caught.value.reason == "LOG_IN_USE"
    assert await log.head() == 0


async def test_who_appends_during_a_restore_ends_it(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.import_images("one", "two")
    await site.backup(tmp_path / "full")
    await site.empty()
    create = log_writer.LogWriter.create_stream

    async def create_and_append(writer: log_writer.LogWriter, name: str, settings: object) -> None:
        await create(writer, name, settings)  # type: ignore[arg-type]
        if name == STREAM:
            await site.import_images("three")

    monkeypatch.setattr(log_writer.LogWriter, "create_stream", create_and_append)
    with pytest.raises(PreconditionError, match="something else was written") as caught:
        await site.restore(tmp_path / "full")
    assert caught.value.reason == "LOG_IN_USE"
    with pytest.raises(PreconditionError) as again:  # what is there now is nobody's log, and does not pass for one
        await site.restore(tmp_path / "full")
    assert again.value.reason == "LOG_DIFFERS"


async def test_a_stream_without_a_flag_is_not_restored_into(site: Site, tmp_path: Path) -> None:
    await site.import_images("one")
    await site.backup(tmp_path / "full")
    await site.empty()
    await site.connection.api(f"STREAM.CREATE.{STREAM}", {"name": STREAM, "subjects": [EVERY_EVENT]})

    with pytest.raises(ConfigurationError, match="discard"):
        await site.restore(tmp_path / "full")


async def test_a_server_that_cannot_keep_so_many_replicas_says_so(site: Site, tmp_path: Path) -> None:
    await site.import_images("one")
    await site.backup(tmp_path / "full")
    await site.empty()

    with pytest.raises(ConfigurationError, match="replicas"):
        await site.restore(tmp_path / "full", replicas=3)


async def test_a_log_with_a_fault_is_restored_only_on_demand(site: Site, tmp_path: Path) -> None:
    """The chain of one image is broken: message by message the log is put back all the same, for the others' sake."""
    await site.import_images("one")
    second, third = (await site.messages(STREAM))[1:3]
    await site.empty()
    await ensure_stream(site.connection)
    for message in (second, third):
        headers = {name: value for name, value in message.headers.items() if name.startswith("ce-")}
        await site.connection.request(message.subject, message.payload, headers=headers)
    await site.import_images("two")
    await site.backup(tmp_path / "full")
    await site.empty()

    with pytest.raises(IntegrityError) as caught:
        await site.restore(tmp_path / "full")
    assert caught.value.reason == "LOG_CORRUPT"
    assert not await site.exists(STREAM)
    restored = await site.restore(tmp_path / "full", unsafe_accept_faults=True)
    assert (restored.written, len(restored.log.faults)) == (ROAD + 2, 1)


async def test_a_backup_that_its_checkpoints_disagree_with_is_refused(site: Site, tmp_path: Path) -> None:
    """Whoever writes a backup anew, digest and all, cannot sign what it says."""
    await site.import_images("one")
    await site.publish()
    checkpoints = await site.messages(CHECKPOINT_STREAM)
    await site.connection.api(f"STREAM.DELETE.{STREAM}")
    await ensure_stream(site.connection)
    await site.import_images("one", actor="user:mallory")
    assert checkpoints
    await site.backup(tmp_path / "full")
    await site.empty()

    with pytest.raises(IntegrityError) as caught:
        await site.restore(tmp_path / "full", trust_store=tmp_path / "trust")
    assert caught.value.reason == "CHECKPOINT_MISMATCH"
    assert not await site.exists(STREAM)


async def test_an_empty_log_has_a_backup_too(site: Site, tmp_path: Path) -> None:
    made = await site.backup(tmp_path / "full")
    await site.empty()
    restored = await site.restore(tmp_path / "full")
    assert (made.position, restored.position, restored.written) == (0, 0, 0)
    assert await site.exists(STREAM)


async def test_a_backup_is_a_plain_gzip_file(site: Site, tmp_path: Path) -> None:
    await site.import_images("one")
    await site.backup(tmp_path / "full")
    assert b"tintype.v1.demo.image." in gzip.decompress((tmp_path / "full").read_bytes())


async def test_a_restore_goes_on_after_the_server_was_lost(
    own_nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        site = await opened(own_nats_server.url, tmp_path, stack)
        await site.import_images(*(str(number) for number in range(20)))
        before = facts_of(await site.messages(STREAM))
        await site.backup(tmp_path / "full")
        await site.empty()
        send, sent = log_writer.LogWriter._send, 0

        async def send_to_a_server_that_is_killed(
            writer: log_writer.LogWriter, message: StoredMessage, reply: str
        ) -> None:
            nonlocal sent
            await send(writer, message, reply)
            sent += 1
            if sent == 4 * ROAD:
                await own_nats_server.kill()

        with monkeypatch.context() as patch:
            patch.setattr(log_writer, "_ACK_TIMEOUT_S", 1.0)
            patch.setattr(log_writer.LogWriter, "_send", send_to_a_server_that_is_killed)
            interrupted = await outcome(site.restore(tmp_path / "full"))
        await own_nats_server.start()

        await site.restore(tmp_path / "full")

        assert isinstance(interrupted, ServiceUnavailableError), interrupted
        assert facts_of(await site.messages(STREAM)) == before


async def outcome(work: Awaitable[object]) -> object:
    try:
        return await work
    except ClientError as exc:
        return exc


async def test_the_script_makes_a_full_backup_a_day_and_continues_it(site: Site, tmp_path: Path) -> None:
    """deploy/kubernetes/components/backup/backup.sh, which serves cron as well."""
    script = Path(__file__).parents[2] / "deploy/kubernetes/components/backup/backup.sh"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tintype").write_text(f'#!/bin/sh\nexec {sys.executable} -m tintype.cli "$@"\n')
    (tmp_path / "bin" / "tintype").chmod(0o755)
    # Each run has another second, of the same day.
    (tmp_path / "bin" / "date").write_text(f"#!/bin/sh\necho 2026-11-28.12000$(ls {tmp_path}/backups | wc -l)\n")
    (tmp_path / "bin" / "date").chmod(0o755)
    (tmp_path / "client.toml").write_text(f'[client]\ncatalog = "127.0.0.1:1"\nnats = "{site.url}"\n')
    (tmp_path / "backups").mkdir()
    environment = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": os.getcwd(),
        "HOME": str(tmp_path),
        "TINTYPE_CONFIG": str(tmp_path / "client.toml"),
    }
    told = ""
    for name in ("one", "two", "three"):
        await site.import_images(name)
        process = await asyncio.create_subprocess_exec(
            "sh", str(script), str(tmp_path / "backups"), str(tmp_path / "trust"), env=environment, cwd="/",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        told = (await process.communicate())[0].decode()
        assert process.returncode == 0, told
    made = sorted((tmp_path / "backups").iterdir())
    await site.empty()
    restored = await site.restore(*made)

    assert len(made) == 3 and "trust store" in told
    assert restored.position == 3 * ROAD
    assert not (await check_backup(made)).backups[1].is_full
