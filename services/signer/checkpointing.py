"""Follows the whole log, and publishes signed checkpoints of it.

It trusts nothing that is not signed: after a start it reads the log from its beginning, and what it finds has to be
what the newest checkpoint says, before it signs another one. A log that is not what it was is never signed again: the
complaint is logged, health tells it, and the rest of the signer goes on.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from tintype.domain.errors import (
    CheckpointMismatchError,
    CheckpointNotFoundError,
    ConcurrencyConflictError,
    InternalError,
    LogCorruptError,
    TintypeError,
    UnavailableError,
)
from tintype.domain.events import RecordedEvent
from tintype.ports.checkpoints import CheckpointLog, PublishedCheckpoint
from tintype.ports.clock import Clock
from tintype.ports.event_log import EventLog
from tintype.ports.service_keys import ServiceKeys
from tintype.trust.checkpoints import CHECKPOINT, Checkpoint, SealedCheckpoint, digest_of, key_certificates, opened
from tintype.trust.dsse import sealed, sealing_key
from tintype.trust.heads import Heads, LogState, state_of

log = structlog.get_logger(__name__)

RETRY_S = 5.0
COMPLAIN_AGAIN_S = 600.0
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class CheckpointLimits:
    """A checkpoint comes after ``every`` events (0: never), and ``interval_s`` seconds after the first event that the
    newest one does not cover.
    """

    every: int
    interval_s: float


@dataclass(frozen=True, slots=True)
class _Known:
    """The newest checkpoint that was seen; its signature is verified."""

    number: int
    sealed: SealedCheckpoint

    @property
    def checkpoint(self) -> Checkpoint:
        return self.sealed.checkpoint


class Checkpointing:
    """One replica's part in the chain of checkpoints; any number of replicas publish into the same."""

    def __init__(
        self,
        event_log: EventLog,
        checkpoints: CheckpointLog,
        keys: ServiceKeys,
        clock: Clock,
        limits: CheckpointLimits,
    ) -> None:
        self._log = event_log
        self._checkpoints = checkpoints
        self._keys = keys
        self._clock = clock
        self._limits = limits
        self._heads = Heads()
        self._known: _Known | None = None
        self._awaited: Checkpoint | None = None
        self._publishing = asyncio.Lock()
        self._uncovered_since: float | None = None
        self._retry_at = 0.0
        self.complaint: TintypeError | None = None
        """Why no further checkpoint is published; ``None`` while all is well."""

    async def check(self) -> None:
        """Find out whether checkpoints are published.

        Raises:
            TintypeError: no more, and why.
        """
        if self.complaint:
            raise self.complaint

    async def run(self) -> None:
        """Follow and publish until cancelled; a log that is damaged ends only the publishing."""
        self.complaint = await self._run_until_broken()
        while True:
            log.error(
                "no further checkpoint is published",
                reason=self.complaint.reason,
                error=str(self.complaint),
                position=self._heads.position,
            )
            await asyncio.sleep(COMPLAIN_AGAIN_S)

    async def _run_until_broken(self) -> TintypeError:
        try:
            await self._begin()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow())
                tasks.create_task(self._cover_in_time())
            return InternalError("checkpointing ended by itself")
        except TintypeError as exc:
            return exc
        except Exception as exc:
            first = exc.exceptions[0] if isinstance(exc, ExceptionGroup) else exc
            if isinstance(first, TintypeError):
                return first
            log.exception("checkpointing crashed")
            return InternalError(f"checkpointing failed unexpectedly: {type(first).__name__}")

    async def find(self, max_position: int = 0) -> PublishedCheckpoint:
        """The newest checkpoint of all, or of ``max_position`` and before; as :func:`find_checkpoint` does."""
        return await find_checkpoint(self._checkpoints, max_position)

    async def follow_until(self, position: int) -> None:
        """Take in the log up to ``position``, and publish whatever is due on the way.

        Raises:
            LogCorruptError: the chain of an image is broken.
            RefusedContentError: the log is not what the newest checkpoint says, or that one is not the service's.
        """
        await self._begin()
        async with aclosing(self._log.follow(after=self._heads.position)) as events:  # type: ignore[type-var]
            while self._heads.position < position:
                await self._take(await anext(events))

    async def cover(self) -> PublishedCheckpoint | None:
        """Publish a checkpoint of all that was read; ``None`` where the newest one covers it, or will be compared.

        Raises:
            RefusedContentError: the newest checkpoint is not the service's, or says something else of the same log.
            UnavailableError: the log or the key manager does not answer.
        """
        async with self._publishing:
            for _ in range(_ATTEMPTS):
                await self._see_newest()
                position, events, heads = self._heads.snapshot()
                before = self._known
                if (before and before.checkpoint.state.position >= position) or not events:
                    return None
                state = await asyncio.to_thread(state_of, position, events, heads)
                previous = digest_of(before.sealed.payload) if before else ""
                checkpoint = Checkpoint(state, self._clock.now(), previous)
                try:
                    published = await self._publish(checkpoint, after=before.number if before else 0)
                except ConcurrencyConflictError:
                    continue  # another replica was faster: see what it says
                log.info("checkpoint published", number=published.number, position=position, images=state.images)
                return published
            raise ConcurrencyConflictError(f"{_ATTEMPTS} checkpoints of other replicas came first")

    async def _publish(self, checkpoint: Checkpoint, *, after: int) -> PublishedCheckpoint:
        key = sealing_key(await self._keys.keys())
        envelope = await sealed(checkpoint.encoded(), CHECKPOINT, key.id, self._keys.sign)
        published = await self._checkpoints.append(envelope, after=after)
        self._know(published.number, opened(envelope))
        return published

    async def _begin(self) -> None:
        """Know what the newest checkpoint says, before anything is read."""
        while self._known is None:
            try:
                await self._see_newest()
                return
            except UnavailableError as exc:
                log.warning("the newest checkpoint was not had", reason=exc.reason, error=str(exc))
                await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        async with aclosing(self._log.follow(after=self._heads.position)) as events:  # type: ignore[type-var]
            async for event in events:
                await self._take(event)
        raise InternalError("following the log ended by itself")

    async def _take(self, event: RecordedEvent) -> None:
        awaited = self._awaited
        if awaited and event.position > awaited.state.position:  # the very position is gone
            awaited.require(self._heads.state())
        self._heads.add(event)
        if awaited and event.position == awaited.state.position:
            awaited.require(await self._state())
            self._awaited = None
            log.info("the log is what the newest checkpoint says", position=event.position, events=self._heads.events)
        if self._uncovered and self._uncovered_since is None:
            self._uncovered_since = _monotonic()
        if self._uncovered >= self._limits.every and self._awaited is None and _monotonic() >= self._retry_at:
            await self._try_to_cover()

    async def _cover_in_time(self) -> None:
        """Cover quiet logs too."""
        while True:
            await asyncio.sleep(min(self._limits.interval_s / 4, 60.0))
            since = self._uncovered_since
            if since is not None and self._awaited is None and _monotonic() - since >= self._limits.interval_s:
                await self._try_to_cover()

    async def _try_to_cover(self) -> None:
        try:
            await self.cover()
        except (UnavailableError, ConcurrencyConflictError) as exc:
            self._retry_at = _monotonic() + RETRY_S
            log.warning("checkpoint was not published", reason=exc.reason, error=str(exc), delay_s=RETRY_S)

    @property
    def _uncovered(self) -> int:
        """How many events were read that no checkpoint covers."""
        covered = self._known.checkpoint.state.events if self._known else 0
        return max(0, self._heads.events - covered)

    async def _see_newest(self) -> None:
        """Verify the checkpoints that others have published since, and remember the newest."""
        newest = await self._checkpoints.newest()
        number = self._known.number if self._known else 0
        if newest is None or newest.number < number:
            if number:
                raise LogCorruptError(f"checkpoint {number} has vanished from the log of checkpoints")
            return
        if newest.number == number:
            return
        certificates = key_certificates((key.id, key.certificate) for key in await self._keys.keys())
        first = number + 1 if self._known else newest.number
        for each in range(first, newest.number + 1):
            published = newest if each == newest.number else await self._checkpoints.get(each)
            found = opened(published.envelope)
            found.verify(certificates)
            if self._known:
                self._known.checkpoint.require_successor(self._known.sealed.payload, found.checkpoint)
            self._know(each, found)
        assert self._known
        await self._compare(self._known.checkpoint)

    async def _compare(self, checkpoint: Checkpoint) -> None:
        """Hold a checkpoint against what was read; one that is ahead waits until that has come so far.

        What another replica said of a position that was passed meanwhile is taken on its signature alone: the heads are
        those of now. That replica has held the log against all that came before, as this one has.
        """
        if checkpoint.state.position > self._heads.position:
            head = await self._log.head()
            if head < checkpoint.state.position:
                raise CheckpointMismatchError(
                    f"the log is not what it was up to position {checkpoint.state.position}: it ends at position {head}"
                )
            self._awaited = checkpoint
        elif checkpoint.state.position == self._heads.position:
            checkpoint.require(await self._state())

    async def _state(self) -> LogState:
        return await asyncio.to_thread(state_of, *self._heads.snapshot())

    def _know(self, number: int, found: SealedCheckpoint) -> None:
        self._known = _Known(number, found)
        self._uncovered_since = _monotonic() if self._uncovered else None


async def find_checkpoint(checkpoints: CheckpointLog, max_position: int = 0) -> PublishedCheckpoint:
    """The newest checkpoint, or the newest one of ``max_position`` or before; found in a few steps, as positions rise.

    Raises:
        CheckpointNotFoundError: there is none.
    """
    newest = await checkpoints.newest()
    if newest is None:
        raise CheckpointNotFoundError("no checkpoint of the log has been published yet")
    if not max_position or _position(newest) <= max_position:
        return newest
    low, high = 0, newest.number  # low is not too new (0 is none at all), high is
    found = None
    while high - low > 1:
        middle = await checkpoints.get((low + high) // 2)
        if _position(middle) <= max_position:
            low, found = middle.number, middle
        else:
            high = middle.number
    if found is None:
        raise CheckpointNotFoundError(f"no checkpoint covers position {max_position} or an earlier one")
    return found


def _position(published: PublishedCheckpoint) -> int:
    return opened(published.envelope).checkpoint.state.position


def _monotonic() -> float:
    return asyncio.get_running_loop().time()
