"""The log of events: the only thing that Tintype writes facts to.

Every adapter keeps these promises, which ``tests/contract/test_event_log.py`` asks of each:

- **Append is atomic and ordered.** An event is in the log whole, or not at all; positions rise.
- **Optimistic concurrency per image.** An append names the event that it follows. If the image has gone on since, it
  raises :class:`~tintype.domain.errors.ConcurrencyConflictError`, and nothing was appended.
- **A command appends once.** An append whose ``command_id`` stands in the image's history, at ``after`` or behind it,
  returns that event, however long ago it was, and also when the first acknowledgement was lost. What stands *before*
  ``after`` is the caller's to look at, who has read it to decide what to append: an adapter would have to read it again
  for each append.
- **At least once.** A work queue hands out every event of its kinds until it is acknowledged, to one consumer at a
  time, as long as that one says :meth:`Delivery.extend` before the lease lapses. An event that cannot be decoded is
  kept back, logged as an error again and again, and handed out once a release that knows it takes part.
- **Histories are whole.** A history that is read after an append through the same object has that event; and its
  versions and hashes form a chain without a gap.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from tintype.domain.events import Event, NewEvent, Progress, RecordedEvent
from tintype.domain.values import ImageId, ProjectId


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events to follow: of one project, one image, some types; ``None`` or empty is all."""

    project: ProjectId | None = None
    image_id: ImageId | None = None
    types: tuple[type[Event], ...] = ()


@dataclass(frozen=True, slots=True)
class WorkQueue:
    """A durable queue that any number of replicas share, by ``name``.

    ``lease_s`` is how long an event stays with a consumer that says nothing. ``max_in_flight`` bounds the events that
    all consumers together hold unacknowledged.

    From one release to the next the ``types`` of a name may become fewer, never more: replicas of the older release set
    them back whenever they connect, and what they do not know would pass by for good. It needs a queue of another name.
    """

    name: str
    types: tuple[type[Event], ...]
    lease_s: float = 10.0
    max_in_flight: int = 256


class Delivery(Protocol):
    """One event in the hands of one consumer."""

    @property
    def event(self) -> RecordedEvent:
        """The event."""
        ...

    @property
    def attempt(self) -> int:
        """How often it has been handed out, this time included."""
        ...

    async def acknowledge(self) -> None:
        """The work is done: never hand it out again."""
        ...

    async def retry(self, delay_s: float) -> None:
        """Hand it out again after ``delay_s`` seconds."""
        ...

    async def extend(self) -> None:
        """The work goes on: begin the lease anew."""
        ...


class EventLog(Protocol):
    """The log of all images.

    Methods that answer once raise ``EventLogUnavailableError`` when the log does not answer in time. :meth:`follow`,
    :meth:`work` and :meth:`follow_progress` wait for it instead, however long that takes.
    """

    async def append(self, event: NewEvent, *, after: RecordedEvent | None) -> RecordedEvent:
        """Append ``event`` behind ``after``, the image's newest event (``None`` for an image without any).

        Raises:
            ConcurrencyConflictError: the image has gone on since ``after``.
            InvalidArgumentError: a value cannot be written.
            EventTooLargeError: the event does not fit into one message.
            EventLogUnavailableError: it is not known whether the event is in the log; repeat with the same command id.
        """
        ...

    async def history(self, image_id: ImageId) -> Sequence[RecordedEvent]:
        """All events of one image, oldest first; empty where there is none.

        Raises:
            LogCorruptError: an event cannot be decoded, or the chain of hashes is broken.
        """
        ...

    async def head(self) -> int:
        """The position of the newest event of all; 0 for an empty log."""
        ...

    def follow(self, *, after: int, selection: Selection = Selection()) -> AsyncIterator[RecordedEvent]:
        """Yield every selected event behind position ``after``, in order, then go on as new ones come.

        It survives a reconnect without a gap or a repetition. Closing the iterator ends it.

        Raises:
            LogCorruptError: an event cannot be decoded; follow on behind the error's ``position`` to leave it out.
        """
        ...

    def work(self, queue: WorkQueue) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
        """Take part in a work queue; events that are in hand when the context ends go to others."""
        ...

    async def tell_progress(self, progress: Progress) -> None:
        """Tell whoever listens how far a step is; may be lost, and is kept nowhere."""
        ...

    def follow_progress(self, selection: Selection = Selection()) -> AsyncIterator[Progress]:
        """Yield progress as it is told."""
        ...
