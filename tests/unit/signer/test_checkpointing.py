"""When the signer signs a checkpoint of the log, and when it never will again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from services.signer.checkpointing import Checkpointing, CheckpointLimits, find_checkpoint
from services.signer.keys.key_directory import KeyDirectory
from tintype.adapters.memory.checkpoints import MemoryCheckpointLog
from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.domain.errors import (
    CheckpointInvalidError,
    CheckpointMismatchError,
    CheckpointNotFoundError,
    KeyManagerUnavailableError,
    LogCorruptError,
    ServiceKeyUnknownError,
)
from tintype.domain.events import RecordedEvent
from tintype.domain.values import Digest
from tintype.ports.checkpoints import PublishedCheckpoint
from tintype.ports.service_keys import ServiceKey
from tintype.testing.clock import FakeClock
from tintype.testing.events import IMPORT_ROAD, EventBuilder, an_image_id
from tintype.trust.checkpoints import Checkpoint, digest_of, key_certificates, opened
from tintype.trust.heads import Heads

ROAD = len(IMPORT_ROAD)
FOR_EVER_S = 7 * 24 * 3600.0


class Site:
    """A log, the checkpoints of it, and the service's keys."""

    def __init__(self, keys: KeyDirectory) -> None:
        self.keys = keys
        self.clock = FakeClock()
        self.log = MemoryEventLog()
        self.checkpoints = MemoryCheckpointLog()

    def replica(
        self, every: int = 3, *, log: MemoryEventLog | None = None, interval_s: float = FOR_EVER_S
    ) -> Checkpointing:
        limits = CheckpointLimits(every, interval_s)
        return Checkpointing(log or self.log, self.checkpoints, self.keys, self.clock, limits)

    async def import_image(self, name: str, log: MemoryEventLog | None = None) -> list[RecordedEvent]:
        return await filled(log or self.log, name)

    async def published(self) -> list[Checkpoint]:
        """All checkpoints, each verified, and following the one before."""
        certificates = key_certificates((key.id, key.certificate) for key in await self.keys.keys())
        found = [opened(envelope) for envelope in self.checkpoints.envelopes]
        for each in found:
            each.verify(certificates)
        for before, after in pairwise(found):
            before.checkpoint.require_successor(before.payload, after.checkpoint)
        return [each.checkpoint for each in found]


async def filled(log: MemoryEventLog, *names: str, actor: str = "user:ann") -> list[RecordedEvent]:
    recorded: list[RecordedEvent] = []
    for name in names:
        builder, last = EventBuilder(an_image_id(name)), None
        for payload in IMPORT_ROAD:
            last = await log.append(builder.new(payload, actor=actor), after=last)
            recorded.append(last)
    return recorded


def positions(checkpoints: Sequence[Checkpoint]) -> list[int]:
    return [checkpoint.state.position for checkpoint in checkpoints]


@pytest.fixture
async def site(tmp_path: Path) -> Site:
    keys = KeyDirectory(tmp_path / "keys", FakeClock())
    await keys.prepare("key-1")
    return Site(keys)


async def test_a_checkpoint_comes_every_so_many_events(site: Site) -> None:
    events = [*await site.import_image("one"), *await site.import_image("two")]

    await site.replica(every=5).follow_until(2 * ROAD)

    found = await site.published()
    assert positions(found) == [5, 10]
    heads = Heads()
    for event in events[:10]:
        heads.add(event)
    assert found[1].state == heads.state()
    assert (found[0].previous, found[1].previous) == ("", digest_of(found[0].encoded()))


async def test_what_no_checkpoint_covers_is_covered_on_demand_and_once(site: Site) -> None:
    await site.import_image("one")
    replica = site.replica(every=1000)
    await replica.follow_until(ROAD)

    assert await replica.cover() is not None
    assert await replica.cover() is None
    assert positions(await site.published()) == [ROAD]


async def test_an_empty_log_has_no_checkpoint(site: Site) -> None:
    assert await site.replica().cover() is None
    with pytest.raises(CheckpointNotFoundError):
        await find_checkpoint(site.checkpoints)


async def test_a_quiet_log_is_covered_too(site: Site) -> None:
    await site.import_image("one")
    running = asyncio.create_task(site.replica(every=1000, interval_s=0.01).run())
    try:
        async with asyncio.timeout(20):
            while not site.checkpoints.envelopes or positions(await site.published())[-1] < ROAD:
                await asyncio.sleep(0)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_restarted_signer_goes_on_with_the_chain(site: Site) -> None:
    await site.import_image("one")
    await site.replica(every=ROAD).follow_until(ROAD)
    await site.import_image("two")

    restarted = site.replica(every=ROAD)
    await restarted.follow_until(2 * ROAD)

    assert positions(await site.published()) == [ROAD, 2 * ROAD]
    assert restarted.complaint is None


async def test_replicas_make_one_chain_without_a_fork(site: Site) -> None:
    await filled(site.log, *"abcdef")

    await asyncio.gather(*(site.replica(every=4).follow_until(6 * ROAD) for _ in range(3)))

    found = positions(await site.published())
    assert found == sorted(set(found))
    assert 6 * ROAD - found[-1] < 4


async def test_checkpoints_of_another_key_of_the_service_are_gone_on_with(site: Site) -> None:
    await site.import_image("one")
    replica = site.replica(every=ROAD)
    await replica.follow_until(ROAD)
    site.clock.advance(60)
    keys = KeyDirectory(site.keys._directory, site.clock)
    await keys.rotate("key-2")
    site.keys = keys
    await site.import_image("two")

    await site.replica(every=ROAD).follow_until(2 * ROAD)

    assert [opened(envelope).key_id for envelope in site.checkpoints.envelopes] == ["key-1", "key-2"]
    assert positions(await site.published()) == [ROAD, 2 * ROAD]


async def test_a_rewritten_log_with_valid_hashes_is_never_signed(site: Site) -> None:
    await filled(site.log, "one", "two")
    await site.replica(every=2 * ROAD).follow_until(2 * ROAD)
    rewritten = MemoryEventLog()
    await filled(rewritten, "one", actor="user:mallory")
    await filled(rewritten, "two", "three")

    with pytest.raises(CheckpointMismatchError, match=f"position {2 * ROAD}"):
        await site.replica(every=1, log=rewritten).follow_until(3 * ROAD)

    assert positions(await site.published()) == [2 * ROAD]


async def test_a_log_with_a_missing_image_is_never_signed(site: Site) -> None:
    await filled(site.log, "one", "two")
    await site.replica(every=2 * ROAD).follow_until(2 * ROAD)
    poorer = MemoryEventLog()
    await filled(poorer, "two", "three")

    with pytest.raises(CheckpointMismatchError):
        await site.replica(every=1, log=poorer).follow_until(2 * ROAD)


async def test_a_truncated_log_is_never_signed(site: Site) -> None:
    await filled(site.log, "one", "two")
    await site.replica(every=2 * ROAD).follow_until(2 * ROAD)
    truncated = MemoryEventLog()
    await filled(truncated, "one")

    with pytest.raises(CheckpointMismatchError, match=f"ends at position {ROAD}"):
        await site.replica(every=1, log=truncated).follow_until(ROAD)
    assert positions(await site.published()) == [2 * ROAD]


class Lying(MemoryEventLog):
    """A log that hands out what was tampered with."""

    async def follow(self, *, after, selection=None):  # type: ignore[no-untyped-def]
        async for event in super().follow(after=after):
            yield replace(event, previous_hash="ab" * 32) if event.position == 3 else event


async def test_a_broken_chain_ends_the_checkpoints_and_not_the_signer(site: Site) -> None:
    damaged = Lying()
    await filled(damaged, "one")
    replica = site.replica(every=2, log=damaged)
    running = asyncio.create_task(replica.run())
    try:
        async with asyncio.timeout(20):
            while replica.complaint is None:
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not running.done()
        with pytest.raises(LogCorruptError, match="position 3"):
            await replica.check()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert positions(await site.published()) == [2]


async def test_a_checkpoint_of_a_strange_key_is_not_gone_on_with(site: Site, tmp_path: Path) -> None:
    strange = KeyDirectory(tmp_path / "strange", FakeClock())
    await strange.prepare("key-9")
    await site.import_image("one")
    forger = Checkpointing(site.log, site.checkpoints, strange, site.clock, CheckpointLimits(ROAD, FOR_EVER_S))
    await forger.follow_until(ROAD)

    with pytest.raises(ServiceKeyUnknownError, match="key-9"):
        await site.replica(every=1).follow_until(ROAD)
    assert len(site.checkpoints.envelopes) == 1


async def test_nonsense_among_the_checkpoints_is_not_gone_on_with(site: Site) -> None:
    await site.import_image("one")
    await site.checkpoints.append(b"nonsense", after=0)

    with pytest.raises(CheckpointInvalidError):
        await site.replica(every=1).follow_until(ROAD)


async def test_a_checkpoint_that_vanished_is_not_replaced(site: Site) -> None:
    await site.import_image("one")
    replica = site.replica(every=ROAD)
    await replica.follow_until(ROAD)
    site.checkpoints.envelopes.clear()
    await site.import_image("two")

    with pytest.raises(LogCorruptError, match="vanished"):
        await replica.follow_until(2 * ROAD)


class Down:
    """A key manager that does not answer until it is mended."""

    def __init__(self, keys: KeyDirectory) -> None:
        self.inner = keys
        self.is_down = True

    async def keys(self) -> Sequence[ServiceKey]:
        return await self.inner.keys()

    async def sign(self, key_id: str, digest: Digest) -> bytes:
        if self.is_down:
            raise KeyManagerUnavailableError("no answer")
        return await self.inner.sign(key_id, digest)

    async def rotate(self, key_id: str) -> ServiceKey:
        return await self.inner.rotate(key_id)


async def test_a_key_manager_that_is_down_delays_a_checkpoint(site: Site) -> None:
    await site.import_image("one")
    keys = Down(site.keys)
    replica = Checkpointing(site.log, site.checkpoints, keys, site.clock, CheckpointLimits(3, FOR_EVER_S))

    await replica.follow_until(ROAD)
    assert (site.checkpoints.envelopes, replica.complaint) == ([], None)
    keys.is_down = False
    await replica.cover()

    assert positions(await site.published()) == [ROAD]


class LostAnswer(MemoryCheckpointLog):
    """The first append succeeds, and its answer gets lost."""

    has_lost = False

    async def append(self, envelope: bytes, *, after: int) -> PublishedCheckpoint:
        published = await super().append(envelope, after=after)
        if not self.has_lost:
            self.has_lost = True
            raise KeyManagerUnavailableError("lost")
        return published


async def test_a_lost_answer_makes_no_second_checkpoint(site: Site) -> None:
    site.checkpoints = LostAnswer()
    await site.import_image("one")
    replica = site.replica(every=ROAD)

    await replica.follow_until(ROAD)

    assert await replica.cover() is None
    assert positions(await site.published()) == [ROAD]


async def test_the_newest_checkpoint_up_to_a_position_is_found(site: Site) -> None:
    await filled(site.log, *"abcdefgh")
    await site.replica(every=5).follow_until(8 * ROAD)
    covered = positions(await site.published())

    assert (await find_checkpoint(site.checkpoints)).number == len(covered)
    for position in range(5, 8 * ROAD + 3):
        found = await find_checkpoint(site.checkpoints, position)
        assert covered[found.number - 1] == max(each for each in covered if each <= position)
    with pytest.raises(CheckpointNotFoundError):
        await find_checkpoint(site.checkpoints, 4)
