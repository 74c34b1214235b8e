"""Reading and changing images through the log: load, decide, append, and again if somebody was faster."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from tintype.domain.commands import Command
from tintype.domain.decide import decide
from tintype.domain.errors import ConcurrencyConflictError, RequestIdReusedError, TintypeError
from tintype.domain.events import EVENT_TOKENS, EventContext, NewEvent, RecordedEvent
from tintype.domain.evolve import evolve, fold
from tintype.domain.image import Image
from tintype.domain.values import CommandId, ImageId, ProjectId
from tintype.ports.clock import Clock
from tintype.ports.event_log import EventLog

Asked = Command | Callable[[datetime], Command]
"""A command, or what makes one of the time of its event, for those whose rules depend on it."""

log = structlog.get_logger(__name__)

_ATTEMPTS = 12
_FIRST_DELAY_S = 0.005
_LONGEST_DELAY_S = 0.25


@dataclass(frozen=True, slots=True)
class Executed:
    """What a command led to: its event, and the image as it was right behind that event."""

    event: RecordedEvent
    image: Image


class Journal:
    """The images as the log tells them. Holds no state of its own, so that any number of replicas agree."""

    def __init__(self, log: EventLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock

    @property
    def event_log(self) -> EventLog:
        """The log, for who reads more of it than one image."""
        return self._log

    async def history(self, image_id: ImageId) -> Sequence[RecordedEvent]:
        """All events of one image, oldest first."""
        return await self._log.history(image_id)

    async def load(self, image_id: ImageId) -> Image | None:
        """The image as it is now; ``None`` if there never was one."""
        return fold(await self._log.history(image_id))

    async def execute(
        self,
        image_id: ImageId,
        command: Asked,
        *,
        project: ProjectId,
        command_id: CommandId,
        context: EventContext,
    ) -> Executed:
        """Carry out a command once, however often it is asked for with the same ``command_id``.

        ``project`` is that of a new image; an existing one keeps its own. A command of its time that is asked for again
        is compared at the time of its event, so that an answer that was lost can be asked for later.

        Raises:
            TintypeError: the command is refused; the class says why.
            RequestIdReusedError: the id has named another command before.
            ConcurrencyConflictError: the image changed under every one of several attempts.
            EventLogUnavailableError: repeat with the same ``command_id``.
        """
        delay_s = _FIRST_DELAY_S
        for _ in range(_ATTEMPTS):
            history = await self._log.history(image_id)
            done = _already_done(history, command_id, command)
            if done:
                return done
            image, now = fold(history), self._clock.now()
            event = NewEvent(
                image_id=image_id,
                project=image.project if image else project,
                command_id=command_id,
                event_id=str(uuid.uuid4()),
                time=now,
                payload=decide(image, command_at(command, now)),
                context=context,
            )
            try:
                recorded = await self._log.append(event, after=history[-1] if history else None)
                if recorded.event.event_id == event.event_id:
                    return Executed(recorded, evolve(image, recorded))
                # Another replica carried out the same command: the history tells what that was decided upon.
            except ConcurrencyConflictError:
                log.debug("image was changed by somebody else meanwhile", image_id=image_id)
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.5))  # noqa: S311  # jitter, not a secret
            delay_s = min(delay_s * 2, _LONGEST_DELAY_S)
        raise ConcurrencyConflictError(f"image {image_id} was changed by somebody else, {_ATTEMPTS} times in a row")


def command_at(asked: Asked, time: datetime) -> Command:
    """The command that was asked for, as of that time."""
    return asked(time) if callable(asked) else asked


def _already_done(history: Sequence[RecordedEvent], command_id: CommandId, command: Asked) -> Executed | None:
    for index, recorded in enumerate(history):
        if recorded.event.command_id == command_id:
            before = fold(history[:index])
            image = evolve(before, recorded)
            _require_same(before, command_at(command, recorded.event.time), recorded)
            return Executed(recorded, image)
    return None


def _require_same(before: Image | None, command: Command, recorded: RecordedEvent) -> None:
    # The same command, decided upon the same state, is the same event; anything else is another request.
    try:
        same = decide(before, command) == recorded.payload
    except TintypeError:
        same = False
    if not same:
        raise RequestIdReusedError(
            f"command {recorded.event.command_id[:80]!r} was used before, for {EVENT_TOKENS[type(recorded.payload)]!r}"
        )
