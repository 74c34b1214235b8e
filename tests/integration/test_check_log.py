"""`check_log` on a real nats-server: a log that was tampered with is not what its signed checkpoints say.

The tampering is done as whoever owns the server's files could: the stream is made anew, with other messages whose
hashes are all valid, or with fewer of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import grpc.aio
import pytest
import pytest_asyncio

from services.signer.checkpointing import Checkpointing, CheckpointLimits
from services.signer.keys.key_directory import KeyDirectory
from tests.backends.shared_servers import RunningNats
from tests.contract.event_logs import NatsHarness
from tintype.adapters.nats.checkpoints import NatsCheckpointLog
from tintype.adapters.nats.connection import NatsConnection
from tintype.adapters.nats.stream import ensure_stream
from tintype.api.signer.v1 import signer_pb2, signer_pb2_grpc
from tintype.client import ClientConfig, ConfigurationError, IntegrityError, LogCheck
from tintype.client.client import connect
from tintype.client.log_reader import open_log
from tintype.codec.subjects import CHECKPOINT_STREAM, CHECKPOINT_SUBJECT, EVERY_EVENT, STREAM
from tintype.domain.errors import ServiceKeyUnknownError
from tintype.runtime.clock import SystemClock
from tintype.testing.events import IMPORT_ROAD, EventBuilder, an_image_id

pytestmark = pytest.mark.nats

ROAD = len(IMPORT_ROAD)
FOR_EVER_S = 1e6

Message = tuple[str, dict[str, str], bytes]


class Site:
    """A log on a nats-server, the service's keys, and a signer that is run by hand."""

    def __init__(
        self, url: str, harness: NatsHarness, connection: NatsConnection, keys: KeyDirectory, trust: Path
    ) -> None:
        self.url = url
        self.harness = harness
        self.connection = connection
        self.keys = keys
        self.trust = trust

    async def import_images(self, *names: str, actor: str = "user:ann") -> None:
        log = await self.harness.open()
        for name in names:
            builder, last = EventBuilder(an_image_id(name)), None
            for payload in IMPORT_ROAD:
                last = await log.append(builder.new(payload, actor=actor), after=last)

    async def publish(self, *, every: int = 5) -> bytes:
        """Run a signer over the whole log; the newest checkpoint's envelope."""
        log = await self.harness.open()
        checkpoints = NatsCheckpointLog(self.connection)
        limits = CheckpointLimits(every, FOR_EVER_S)
        signer = Checkpointing(log, checkpoints, self.keys, SystemClock(), limits)
        await signer.follow_until(await log.head())
        await signer.cover()
        newest = await checkpoints.newest()
        assert newest is not None
        return newest.envelope

    async def tamper(self, change: Callable[[list[Message]], Sequence[Message]], stream: str = STREAM) -> None:
        """Replace a stream by what ``change`` makes of its messages."""
        subject = CHECKPOINT_SUBJECT if stream == CHECKPOINT_STREAM else "tintype.v1.*.image.>"
        kept: list[Message] = []
        config = ClientConfig(catalog="127.0.0.1:1", nats=self.url)
        async with connect(config) as client, open_log(client._transport) as reader:
            async for message in reader.read(stream, subject, await reader.last_position(stream, subject)):
                headers = {name: value for name, value in message.headers.items() if name.startswith("ce-")}
                kept.append((message.subject, headers, message.payload))
        await self.connection.api(f"STREAM.DELETE.{stream}")
        await ensure_stream(self.connection, name=stream)
        for subject, headers, payload in change(kept):
            await self.connection.request(subject, payload, headers=headers or None)

    async def lose_newest(self) -> None:
        """Delete the newest event, as nobody can who leaves the stream as it is."""
        kept: list[Message] = []

        def keep(messages: list[Message]) -> list[Message]:
            kept.extend(messages)
            return []

        await self.tamper(keep)
        await self.connection.api(f"STREAM.DELETE.{STREAM}")
        await self.connection.api(f"STREAM.CREATE.{STREAM}", {"name": STREAM, "subjects": [EVERY_EVENT]})
        for subject, headers, payload in kept:
            await self.connection.request(subject, payload, headers=headers)
        await self.connection.api(f"STREAM.MSG.DELETE.{STREAM}", {"seq": len(kept)})

    async def check(self, since: bytes | None = None, *, signer: str = "", trusts: bool = True) -> LogCheck:
        config = ClientConfig(catalog="127.0.0.1:1", nats=self.url, signer=signer, retry_s=0.2)
        async with connect(config) as client:
            return await client.events.check_log(since=since, trust_store=self.trust if trusts else None)


@pytest_asyncio.fixture
async def site(nats_server: RunningNats, tmp_path: Path) -> AsyncIterator[Site]:
    keys = KeyDirectory(tmp_path / "keys", SystemClock())
    await keys.prepare("key-1")
    (tmp_path / "trust" / "service-keys").mkdir(parents=True)
    for key in await keys.keys():
        (tmp_path / "trust" / "service-keys" / f"{key.id}.pem").write_bytes(key.certificate)
    async with AsyncExitStack() as stack:
        harness = await NatsHarness.make(nats_server.url, stack)
        connection = await harness.connect()
        await connection.api(f"STREAM.DELETE.{CHECKPOINT_STREAM}")
        await ensure_stream(connection, name=CHECKPOINT_STREAM)
        yield Site(nats_server.url, harness, connection, keys, tmp_path / "trust")
        await connection.api(f"STREAM.DELETE.{CHECKPOINT_STREAM}")


def reasons(found: LogCheck) -> list[str]:
    return [fault.reason for fault in found.faults]


async def test_a_log_agrees_with_its_checkpoints(site: Site) -> None:
    await site.import_images("one", "two", "three")
    await site.publish()

    found = await site.check()

    assert (found.faults, found.checkpoints, found.covered) == ((), 5, 3 * ROAD)
    assert (found.events, found.images, found.keys_from) == (3 * ROAD, 3, "trust store")


async def test_a_saved_checkpoint_holds_after_more_events(site: Site) -> None:
    await site.import_images("one")
    saved = await site.publish(every=1000)
    await site.import_images("two", "three")

    found = await site.check(saved)

    assert (found.faults, found.covered) == ((), ROAD)
    assert found.checkpoints == 1  # the saved one is among the published ones


async def test_three_signers_make_one_chain_that_agrees_with_the_log(site: Site) -> None:
    await site.import_images(*"abcdef")

    await asyncio.gather(*(site.publish(every=4) for _ in range(3)))

    found = await site.check()
    assert (found.faults, found.covered) == ((), 6 * ROAD)


async def test_a_truncated_log_is_refused_with_its_position(site: Site) -> None:
    await site.import_images("one", "two")
    saved = await site.publish()
    await site.tamper(lambda messages: messages[: ROAD + 2])

    for found in (await site.check(), await site.check(saved)):
        assert set(reasons(found)) == {"CHECKPOINT_MISMATCH"}
        assert found.faults[-1].position == 2 * ROAD
        assert f"ends at position {ROAD + 2}" in found.faults[-1].message
        with pytest.raises(IntegrityError) as caught:
            found.require_sound()
        assert caught.value.reason == "CHECKPOINT_MISMATCH"


async def test_a_log_whose_newest_event_is_gone_is_refused(site: Site) -> None:
    """The server counts its place all the same, and no message will ever come from there."""
    await site.import_images("one")
    saved = await site.publish(every=1000)
    await site.lose_newest()

    async with asyncio.timeout(30):
        found = await site.check(saved)

    assert reasons(found) == ["CHECKPOINT_MISMATCH"]
    assert f"and had {ROAD} events" in found.faults[0].message


async def test_a_log_that_was_truncated_and_went_on_is_refused(site: Site) -> None:
    await site.import_images("one", "two")
    saved = await site.publish()
    await site.tamper(lambda messages: messages[:ROAD])
    await site.import_images("three", "four")

    found = await site.check(saved)

    assert set(reasons(found)) == {"CHECKPOINT_MISMATCH"}
    assert found.covered == 5  # the published checkpoint before the cut still holds


async def test_a_missing_image_is_refused(site: Site) -> None:
    await site.import_images("one", "two", "three")
    saved = await site.publish()
    await site.tamper(lambda messages: messages[:ROAD] + messages[2 * ROAD :])
    await site.import_images("four")

    found = await site.check(saved)

    assert set(reasons(found)) == {"CHECKPOINT_MISMATCH"}
    assert all(f"up to position {fault.position}" in fault.message for fault in found.faults)


async def test_a_history_that_was_written_anew_with_valid_hashes_is_refused(site: Site) -> None:
    await site.import_images("one", "two")
    saved = await site.publish()
    await site.tamper(lambda messages: ())
    await site.import_images("one", actor="user:mallory")
    await site.import_images("two")

    found = await site.check(saved)

    assert (found.events, found.images) == (2 * ROAD, 2)
    assert set(reasons(found)) == {"CHECKPOINT_MISMATCH"}
    assert "some of them are others" in found.faults[0].message


async def test_new_checkpoints_of_a_forger_do_not_hide_a_new_history(site: Site, tmp_path: Path) -> None:
    await site.import_images("one")
    saved = await site.publish()
    await site.tamper(lambda messages: ())
    await site.tamper(lambda messages: (), CHECKPOINT_STREAM)
    await site.import_images("one", actor="user:mallory")
    strange = KeyDirectory(tmp_path / "strange", SystemClock())
    await strange.prepare("key-1")  # the same id
    site.keys = strange
    await site.publish()

    assert reasons(await site.check()) == ["CHECKPOINT_INVALID"]
    assert reasons(await site.check(saved)) == ["CHECKPOINT_INVALID", "CHECKPOINT_MISMATCH"]


async def test_a_saved_checkpoint_that_is_published_no_more_is_refused(site: Site) -> None:
    await site.import_images("one")
    saved = await site.publish()
    await site.tamper(lambda messages: (), CHECKPOINT_STREAM)

    found = await site.check(saved)

    assert reasons(found) == ["CHECKPOINT_MISMATCH"]
    assert "not among the published ones" in found.faults[0].message
    assert found.covered == ROAD


async def test_a_checkpoint_that_is_missing_from_the_middle_is_refused(site: Site) -> None:
    await site.import_images("one", "two", "three")
    await site.publish()
    await site.tamper(lambda messages: [*messages[:1], *messages[2:]], CHECKPOINT_STREAM)

    found = await site.check()

    assert reasons(found) == ["CHECKPOINT_INVALID"]
    assert (found.faults[0].position, found.covered) == (5, 5)


async def test_nonsense_among_the_checkpoints_is_a_fault(site: Site) -> None:
    await site.import_images("one")
    await site.publish()
    await site.connection.request(CHECKPOINT_SUBJECT, b"nonsense")

    assert reasons(await site.check()) == ["CHECKPOINT_INVALID"]


async def test_a_broken_chain_and_a_checkpoint_are_both_told(site: Site) -> None:
    await site.import_images("one", "two")
    await site.publish()
    await site.tamper(lambda messages: [*messages[:2], *messages[3:]])

    found = await site.check()

    assert set(reasons(found)) == {"LOG_CORRUPT", "CHECKPOINT_MISMATCH"}
    with pytest.raises(IntegrityError) as caught:
        found.require_sound()
    assert caught.value.reason == "CHECKPOINT_MISMATCH"


async def test_a_key_that_nobody_trusts_proves_nothing_and_is_no_damage(site: Site) -> None:
    await site.import_images("one")
    await site.publish()
    (site.trust / "service-keys" / "key-1.pem").rename(site.trust / "service-keys" / "key-2.pem")

    with pytest.raises(IntegrityError, match="cannot be held against its checkpoints") as caught:
        (await site.check()).require_sound()
    assert caught.value.reason == "SERVICE_KEY_UNKNOWN"
    assert caught.value.hint == ServiceKeyUnknownError.hint


async def test_a_saved_checkpoint_of_a_strange_key_is_refused_before_anything_is_read(site: Site) -> None:
    await site.import_images("one")
    saved = await site.publish()
    (site.trust / "service-keys" / "key-1.pem").rename(site.trust / "service-keys" / "key-2.pem")

    with pytest.raises(IntegrityError) as caught:
        await site.check(saved)
    assert caught.value.reason == "SERVICE_KEY_UNKNOWN"


async def test_a_saved_file_that_is_no_checkpoint_is_refused(site: Site) -> None:
    with pytest.raises(IntegrityError) as caught:
        await site.check(b"{}")
    assert caught.value.reason == "CHECKPOINT_INVALID"


async def test_a_saved_checkpoint_needs_somebody_who_knows_the_keys(site: Site) -> None:
    await site.import_images("one")
    saved = await site.publish()

    with pytest.raises(ConfigurationError):
        await site.check(saved, trusts=False)
    found = await site.check(trusts=False)
    assert (found.keys_from, found.faults, found.covered) == ("nobody", (), ROAD)


async def test_an_empty_trust_store_is_refused(site: Site) -> None:
    (site.trust / "service-keys" / "key-1.pem").unlink()

    with pytest.raises(ConfigurationError) as caught:
        await site.check()
    assert caught.value.reason == "TRUST_STORE"


class Signer(signer_pb2_grpc.SignerServiceServicer):
    """Lists the keys of a directory."""

    def __init__(self, keys: KeyDirectory) -> None:
        self._keys = keys

    async def ListKeys(self, request: signer_pb2.ListKeysRequest, context: object) -> signer_pb2.ListKeysResponse:
        keys = [signer_pb2.ServiceKey(id=key.id, certificate=key.certificate) for key in await self._keys.keys()]
        return signer_pb2.ListKeysResponse(keys=keys)


async def test_the_signers_word_for_its_keys_is_told(site: Site) -> None:
    await site.import_images("one")
    saved = await site.publish()
    server = grpc.aio.server()
    signer_pb2_grpc.add_SignerServiceServicer_to_server(Signer(site.keys), server)  # type: ignore[abstract]  # one call is asked
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        found = await site.check(saved, trusts=False, signer=f"127.0.0.1:{port}")
    finally:
        await server.stop(None)

    assert (found.keys_from, found.faults, found.covered) == ("signer", (), ROAD)


async def test_a_log_without_any_checkpoint_is_checked_by_its_chains_alone(site: Site) -> None:
    await site.import_images("one")
    await site.connection.api(f"STREAM.DELETE.{CHECKPOINT_STREAM}")

    found = await site.check()

    assert (found.faults, found.checkpoints, found.covered, found.events) == ((), 0, 0, ROAD)
