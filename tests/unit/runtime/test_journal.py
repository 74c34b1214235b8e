"""A command is carried out once, whatever happens between asking and knowing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.domain.attributes import ImageAttributes
from tintype.domain.commands import Command, CreateImage, DeleteImage, UpdateImage
from tintype.domain.errors import ConcurrencyConflictError, EventLogUnavailableError, RequestIdReusedError
from tintype.domain.events import EventContext, NewEvent, RecordedEvent
from tintype.domain.values import CommandId, ImageId, ProjectId
from tintype.runtime.journal import Asked, Executed, Journal
from tintype.testing.clock import FakeClock
from tintype.testing.events import an_image_id

IMAGE = an_image_id()
CREATE = CreateImage(ImageAttributes(name="first"))


def rename(name: str) -> UpdateImage:
    return UpdateImage(ImageAttributes(name=name), ("name",))


async def execute(journal: Journal, command: Asked, command_id: str) -> Executed:
    context = EventContext("ann", "request", "request")
    return await journal.execute(
        IMAGE, command, project=ProjectId("acme"), command_id=CommandId(command_id), context=context
    )


class LostAcknowledgements(MemoryEventLog):
    """Appends, and loses the answer, so often."""

    def __init__(self, losses: int) -> None:
        super().__init__()
        self._losses = losses

    async def append(self, event: NewEvent, *, after: RecordedEvent | None) -> RecordedEvent:
        recorded = await super().append(event, after=after)
        if self._losses:
            self._losses -= 1
            raise EventLogUnavailableError("the acknowledgement was lost")
        return recorded


class FasterOthers(MemoryEventLog):
    """Somebody else changes the image between each reading and appending, so often."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self._times = times
        self._depth = 0

    async def history(self, image_id: ImageId) -> Sequence[RecordedEvent]:
        history = await super().history(image_id)
        if self._times and history and not self._depth:
            self._times -= 1
            self._depth += 1
            await execute(Journal(self, FakeClock()), rename(f"other {self._times}"), f"other-{self._times}")
            self._depth -= 1
        return history


async def test_the_same_command_id_twice_is_one_event() -> None:
    log = MemoryEventLog()
    journal = Journal(log, FakeClock())
    first = await execute(journal, CREATE, "create")
    again = await execute(journal, CREATE, "create")
    assert again == first
    assert len(await log.history(IMAGE)) == 1


async def test_a_repeat_answers_the_image_as_it_was_behind_its_own_event() -> None:
    journal = Journal(MemoryEventLog(), FakeClock())
    await execute(journal, CREATE, "create")
    renamed = await execute(journal, rename("second"), "second")
    await execute(journal, rename("third"), "third")
    assert await execute(journal, rename("second"), "second") == renamed


async def test_the_same_command_id_for_something_else_is_refused() -> None:
    journal = Journal(MemoryEventLog(), FakeClock())
    await execute(journal, CREATE, "create")
    await execute(journal, rename("second"), "second")
    with pytest.raises(RequestIdReusedError):
        await execute(journal, rename("another"), "second")
    with pytest.raises(RequestIdReusedError):
        await execute(journal, CREATE, "second")


async def test_after_a_lost_acknowledgement_the_repeat_finds_its_event() -> None:
    log = LostAcknowledgements(losses=1)
    journal = Journal(log, FakeClock())
    with pytest.raises(EventLogUnavailableError):
        await execute(journal, CREATE, "create")
    assert (await execute(journal, CREATE, "create")).event.version == 1
    assert len(await log.history(IMAGE)) == 1


async def test_a_command_decides_anew_when_somebody_was_faster() -> None:
    log = FasterOthers(times=3)
    journal = Journal(log, FakeClock())
    await execute(journal, CREATE, "create")
    executed = await execute(journal, rename("mine"), "mine")
    assert executed.event.version == 5
    assert executed.image.attributes.name == "mine"


async def test_a_command_gives_up_when_somebody_is_always_faster() -> None:
    journal = Journal(FasterOthers(times=10_000), FakeClock())
    await execute(journal, CREATE, "create")
    with pytest.raises(ConcurrencyConflictError):
        await execute(journal, rename("mine"), "mine")


class Twins(MemoryEventLog):
    """Behind the next reading another replica changes the image, and then carries out a command of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.twin: Command | None = None
        self.executed: Executed | None = None

    async def history(self, image_id: ImageId) -> Sequence[RecordedEvent]:
        history = await super().history(image_id)
        if self.twin:
            twin, self.twin = self.twin, None
            other = Journal(self, FakeClock())
            await execute(other, UpdateImage(ImageAttributes(tags=("other",)), ("tags",)), "other")
            self.executed = await execute(other, twin, "mine")
        return history


async def test_the_same_command_at_the_same_time_is_one_event_upon_all_that_was_before_it() -> None:
    log = Twins()
    journal = Journal(log, FakeClock())
    await execute(journal, CREATE, "create")
    log.twin = DeleteImage()
    executed = await execute(journal, DeleteImage(), "mine")
    assert executed == log.executed
    assert executed.image.attributes.tags == ("other",)


async def test_the_same_command_id_for_something_else_at_the_same_time_is_refused() -> None:
    log = Twins()
    journal = Journal(log, FakeClock())
    await execute(journal, CREATE, "create")
    log.twin = rename("another")
    with pytest.raises(RequestIdReusedError):
        await execute(journal, rename("mine"), "mine")


def delete_in_an_hour(at: datetime) -> DeleteImage:
    return DeleteImage(purge_after=at + timedelta(hours=1))


async def test_a_command_of_its_time_that_is_repeated_later_is_the_same_one() -> None:
    clock = FakeClock()
    journal = Journal(MemoryEventLog(), clock)
    await execute(journal, CREATE, "create")
    executed = await execute(journal, delete_in_an_hour, "delete")
    assert executed.image.purge_after == clock.now() + timedelta(hours=1)
    clock.advance(7200)
    assert await execute(journal, delete_in_an_hour, "delete") == executed
    with pytest.raises(RequestIdReusedError):
        await execute(journal, DeleteImage(), "delete")
