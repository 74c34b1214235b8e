"""Whether the log is what was once written: the chains of all images, and all signed checkpoints, in one reading."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tintype.api.signer.v1 import signer_pb2
from tintype.client.custody import trust_part
from tintype.client.errors import ClientError, ConfigurationError, IntegrityError
from tintype.client.models import LogCheck, LogFault, OnProgress
from tintype.client.transport import Transport
from tintype.codec import cloudevents, subjects
from tintype.domain.errors import (
    CheckpointInvalidError,
    CheckpointMismatchError,
    EventTypeUnknownError,
    LogCorruptError,
    RefusedContentError,
    TintypeError,
    TrustStoreError,
)
from tintype.trust.heads import Heads, LogState, state_of

if TYPE_CHECKING:
    from cryptography import x509

    from tintype.client.log_message import LogMessage
    from tintype.client.log_reader import LogReader
    from tintype.trust.checkpoints import Checkpoint, SealedCheckpoint

MAX_FAULTS = 1000


@dataclass(frozen=True, slots=True)
class Keys:
    """The certificates of the service's keys by key id, and whose word for them was taken."""

    certificates: Mapping[str, x509.Certificate]
    source: str


NOBODY = Keys({}, "nobody")


async def check_log(
    log: LogReader,
    transport: Transport,
    since: bytes | None,
    trust_store: Path | None,
    on_progress: OnProgress | None,
) -> LogCheck:
    """Read the whole log, and hold it against its chains, the published checkpoints, and the saved one ``since``.

    Raises:
        ServiceUnavailableError: the log, or the signer, does not answer.
        IntegrityError: ``since`` is no checkpoint, or its signature is not that of a trusted key.
        ConfigurationError: ``since`` is given, and nobody who knows the keys.
    """
    keys = await _keys(transport, trust_store, is_needed=since is not None)
    with trust_part():
        saved = _saved(since, keys) if since is not None else None
    # First the checkpoints, then where the log ends: none of them may be about what comes later.
    published = PublishedCheckpoints(keys)
    async with aclosing(_checkpoints(log)) as messages:
        async for message in messages:
            published.add(message)
    head = (await log.state()).state.last_seq
    check = EventCheck(published, saved, head)
    last = await log.last_position(subjects.STREAM, subjects.EVERY_EVENT)
    async with aclosing(log.read(subjects.STREAM, subjects.EVERY_EVENT, last)) as events:
        async for event in events:
            await check.add(event)
            if on_progress:
                on_progress(event.position, head)
    return await check.end()


async def _checkpoints(log: LogReader) -> AsyncGenerator[LogMessage, None]:
    head = await log.last_position(subjects.CHECKPOINT_STREAM, subjects.CHECKPOINT_SUBJECT)
    async with aclosing(log.read(subjects.CHECKPOINT_STREAM, subjects.CHECKPOINT_SUBJECT, head)) as messages:
        async for message in messages:
            yield message


async def _keys(transport: Transport, trust_store: Path | None, *, is_needed: bool) -> Keys:
    if trust_store is not None:
        return await asyncio.to_thread(keys_in, trust_store)
    if not is_needed and (not transport.config.address("signer") or not _has_trust_part()):
        return NOBODY
    if not transport.config.address("signer"):
        raise ConfigurationError(
            "a saved checkpoint can only be verified with the service's keys",
            hint="Give a trust store with the certificates of the service's keys, or client.signer.",
        )
    try:
        answer = await transport.call(transport.signer.ListKeys, signer_pb2.ListKeysRequest())
    except ClientError:
        if is_needed:
            raise
        return NOBODY
    with trust_part():
        from tintype.trust.checkpoints import key_certificates

        return Keys(key_certificates((key.id, key.certificate) for key in answer.keys), "signer")


def keys_in(directory: Path) -> Keys:
    """The keys whose certificates are in a trust store.

    Raises:
        ConfigurationError: there are none, or it cannot be read.
    """
    with trust_part():
        from tintype.trust.trust_store import load_trust_store

        found = load_trust_store(directory).service_certificates
    if not found:
        raise ConfigurationError(
            f"{directory} holds no certificate of a service's key",
            reason=TrustStoreError.reason,
            hint="`tintype key export DIR` puts them there; see that they come over a way that you trust.",
        )
    return Keys(found, "trust store")


def _has_trust_part() -> bool:
    """Whether checkpoints can be read here; without, only the chains of images are verified."""
    return all(importlib.util.find_spec(name) for name in ("cryptography", "securesystemslib"))


def _saved(envelope: bytes, keys: Keys) -> SealedCheckpoint:
    from tintype.trust.checkpoints import opened

    try:
        sealed = opened(envelope)
        sealed.verify(keys.certificates)
    except RefusedContentError as exc:
        raise IntegrityError(exc.message, reason=exc.reason, hint=exc.hint) from exc
    return sealed


class PublishedCheckpoints:
    """The published checkpoints, each verified by itself and against the one before it.

    Without the packages that it takes to read one, none is looked at.
    """

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self._is_readable = _has_trust_part()
        self._last: SealedCheckpoint | None = None
        self._number = 0
        self.checkpoints: list[Checkpoint] = []
        self._digests: set[str] = set()
        self.fault: LogFault | None = None

    def add(self, message: LogMessage) -> None:
        """Take in the next one; whatever comes behind the first fault is not looked at."""
        if self.fault or not self._is_readable:
            return
        from tintype.trust.checkpoints import opened

        try:
            if message.position != self._number + 1:
                raise CheckpointInvalidError(f"checkpoint {self._number + 1} is missing")
            self._add(opened(message.payload))
        except TintypeError as exc:
            position = self._last.checkpoint.state.position if self._last else 0
            self.fault = LogFault("", position, f"checkpoint {message.position}: {exc.message}", exc.reason)
        self._number = message.position

    def has(self, sealed: SealedCheckpoint) -> bool:
        """Whether it is one of those that were published."""
        from tintype.trust.checkpoints import digest_of

        return digest_of(sealed.payload) in self._digests

    def _add(self, sealed: SealedCheckpoint) -> None:
        from tintype.trust.checkpoints import digest_of

        if self.keys is not NOBODY:
            sealed.verify(self.keys.certificates)
        if self._last:
            self._last.checkpoint.require_successor(self._last.payload, sealed.checkpoint)
        elif sealed.checkpoint.previous:
            raise CheckpointInvalidError("it names one before it, and is the first")
        self._last = sealed
        self.checkpoints.append(sealed.checkpoint)
        self._digests.add(digest_of(sealed.payload))


class EventCheck:
    """The log up to ``head`` as it is read, and where it is not what it was; all checkpoints are known before."""

    def __init__(self, published: PublishedCheckpoints, saved: SealedCheckpoint | None, head: int) -> None:
        self._keys_source = published.keys.source
        self.heads = Heads()
        self.faults: list[LogFault] = []
        self.agreed = 0
        self.covered = 0
        self._head = head
        self._waiting = _in_order(published.checkpoints, saved)
        self._certain = {id(self._waiting[0])} if self._waiting else set()  # the last ones: their roots always count
        self._certain |= {id(saved.checkpoint)} if saved else set()
        self._root_at = 0
        self._is_mismatched = False
        if published.fault:
            self.faults.append(published.fault)
        if saved and not published.fault and not published.has(saved):
            position = saved.checkpoint.state.position
            message = f"the checkpoint of position {position} is not among the published ones any more"
            self.faults.append(LogFault("", position, message, CheckpointMismatchError.reason))

    async def add(self, message: LogMessage) -> None:
        """Hold an event against the one before it, and a checkpoint that lies between them against all before it."""
        await self._compare_up_to(message.position)
        image = message.subject.split(".")[4]  # as every subject of the stream has it
        try:
            event = cloudevents.decode(message.subject, message.headers, message.payload, position=message.position)
        except EventTypeUnknownError as exc:
            self._fault(image, message.position, f"written by a newer release, and not checked: {exc}")
            return
        except TintypeError as exc:
            self._fault(image, message.position, str(exc))
            return
        try:
            self.heads.add(event)
        except LogCorruptError as exc:
            self._fault(image, message.position, str(exc))
            self.heads.replace(event)

    async def end(self) -> LogCheck:
        """What was found, now that the log has no more."""
        await self._compare_up_to(None)
        return LogCheck(
            self.heads.events,
            self.heads.images,
            self._head,
            tuple(self.faults[:MAX_FAULTS]),
            self.agreed,
            self.covered,
            self._keys_source,
        )

    async def _compare_up_to(self, position: int | None) -> None:
        while self._waiting and (position is None or self._waiting[-1].state.position < position):
            checkpoint = self._waiting.pop()
            try:
                await self._compare(checkpoint)
            except CheckpointMismatchError as exc:
                self._mismatch(checkpoint, exc)
            else:
                self.agreed += 1

    async def _compare(self, checkpoint: Checkpoint) -> None:
        told = checkpoint.state
        if told.position > self._head:
            raise CheckpointMismatchError(
                f"the log is not what it was up to position {told.position}: it ends at position {self._head}"
            )
        # A root takes time with the number of images: as often as not to outweigh the reading. Those that are left out
        # lie before one that is not, and every chain between them is verified.
        if id(checkpoint) in self._certain or self.heads.events - self._root_at >= self.heads.images / 4:
            state = await asyncio.to_thread(state_of, *self.heads.snapshot())
            self._root_at = self.heads.events
            checkpoint.require(state)
            if not self._is_mismatched:
                self.covered = told.position
        else:
            found = LogState(self.heads.position, self.heads.events, self.heads.images, told.root)
            checkpoint.require(found)

    def _mismatch(self, checkpoint: Checkpoint, error: CheckpointMismatchError) -> None:
        # Every later one disagrees too: the first, and the one that was saved, say all.
        if self._is_mismatched and id(checkpoint) not in self._certain:
            return
        self._is_mismatched = True
        sound = f"; up to position {self.covered} it is" if self.covered else ""
        fault = LogFault("", checkpoint.state.position, f"{error.message}{sound}", error.reason)
        if fault not in self.faults:
            self.faults.append(fault)

    def _fault(self, image: str, position: int, message: str) -> None:
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(LogFault(image, position, message))


def _in_order(published: Sequence[Checkpoint], saved: SealedCheckpoint | None) -> list[Checkpoint]:
    """All checkpoints to compare with, the last one first, so that the next is popped from the end."""
    if saved is not None:  # which is a published one as a rule, and counts once
        published = [each for each in published if each != saved.checkpoint] + [saved.checkpoint]
    return sorted(published, key=lambda checkpoint: checkpoint.state.position, reverse=True)
