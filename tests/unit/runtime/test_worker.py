"""The three ways in which a step ends, and the ones in which it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.domain.attributes import ImageAttributes
from tintype.domain.commands import (
    CancelOperation,
    Command,
    CreateImage,
    DeleteImage,
    RecordPurged,
    RecordStaged,
    RequestImport,
)
from tintype.domain.errors import (
    DigestMismatchError,
    KeyManagerUnavailableError,
    SourceUnreachableError,
    StoreUnavailableError,
)
from tintype.domain.events import (
    Event,
    EventContext,
    ImageDeleted,
    ImagePurged,
    ImageStaged,
    ImageStepFailed,
    ImportMethod,
    ImportRequested,
    ImportSource,
    Progress,
    RecordedEvent,
    StagePurpose,
    Step,
)
from tintype.domain.image import Image
from tintype.domain.lifecycle import Status
from tintype.domain.values import CommandId, ContainerFormat, DiskFormat, ImageId, ProjectId
from tintype.ports.event_log import Selection
from tintype.runtime import worker as worker_module
from tintype.runtime.journal import Journal
from tintype.runtime.worker import StepRun, Worker, WorkerSettings, retry_delay_s
from tintype.testing.clock import FakeClock
from tintype.testing.events import OPERATION, STAGED_BLOB, an_image_id

IMAGE = an_image_id()
DEADLINE_S = 10


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries and progress need not take their time here."""
    monkeypatch.setattr(worker_module, "_FIRST_RETRY_DELAY_S", 0.01)
    monkeypatch.setattr(worker_module, "PROGRESS_INTERVAL_S", 0.02)


class Bench:
    """A log with one image whose import waits to be staged, and a worker that stages."""

    def __init__(self) -> None:
        self.log = MemoryEventLog()
        self.journal = Journal(self.log, FakeClock())
        self.discarded: list[str] = []
        self.observed: list[RecordedEvent] = []

    async def command(self, command: Command, command_id: str, image_id: ImageId = IMAGE) -> None:
        context = EventContext("ann", "request", "request")
        await self.journal.execute(
            image_id, command, project=ProjectId("acme"), command_id=CommandId(command_id), context=context
        )

    async def prepare(self, image_id: ImageId = IMAGE) -> None:
        attributes = ImageAttributes(disk_format=DiskFormat.RAW, container_format=ContainerFormat.BARE)
        await self.command(CreateImage(attributes), "create", image_id)
        source = ImportSource(ImportMethod.WEB_DOWNLOAD, "https://example.com/disk")
        await self.command(RequestImport(OPERATION, source), "import", image_id)

    @asynccontextmanager
    async def working(
        self,
        handler: Callable[[Image, StepRun], Awaitable[Command]],
        max_attempts: int = 3,
        lease_s: float = 5,
        step: Step = Step.STAGE,
        types: tuple[type[Event], ...] = (ImportRequested,),
    ) -> AsyncIterator[None]:
        async def note(event: RecordedEvent, _: Image) -> None:
            self.observed.append(event)

        worker = Worker(
            name="tester",
            event_log=self.log,
            clock=FakeClock(),
            steps={step: handler},
            types=types,
            settings=WorkerSettings(concurrency=2, lease_s=lease_s, max_attempts=max_attempts),
            observer=note,
        )
        task = asyncio.create_task(worker.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, *kinds: type, image_id: ImageId = IMAGE) -> RecordedEvent:
        """Wait for an image's event of one of ``kinds``."""
        async with asyncio.timeout(DEADLINE_S):
            async for event in self.log.follow(after=0, selection=Selection(image_id=image_id)):
                if isinstance(event.payload, kinds):
                    return event
        raise AssertionError("the log never ends")

    async def image(self) -> Image:
        image = await self.journal.load(IMAGE)
        assert image is not None
        return image

    async def undo(self) -> None:
        self.discarded.append("bytes")


@pytest.fixture
async def bench() -> Bench:
    bench = Bench()
    await bench.prepare()
    return bench


async def stage(image: Image, run: StepRun) -> Command:
    return RecordStaged(OPERATION, StagePurpose.IMPORT, STAGED_BLOB)


async def test_an_outcome_is_appended_and_keeps_what_it_came_from(bench: Bench) -> None:
    async with bench.working(stage):
        staged = await bench.until(ImageStaged)
    requested = (await bench.log.history(IMAGE))[-2]
    assert staged.event.context.correlation_id == "request"
    assert staged.event.context.causation_id == requested.event.event_id
    assert staged.event.context.actor == "service:tester"
    assert bench.observed == [requested]


async def test_an_error_that_is_not_retryable_is_the_failure_of_the_step(bench: Bench) -> None:
    async def refuse(image: Image, run: StepRun) -> Command:
        run.on_discard(bench.undo)
        raise DigestMismatchError("other bytes")

    async with bench.working(refuse):
        await bench.until(ImageStepFailed)
    image = await bench.image()
    assert image.status is Status.QUEUED
    assert image.failure is not None
    assert image.failure.reason == "DIGEST_MISMATCH"
    assert bench.discarded == ["bytes"]


async def test_a_part_that_does_not_answer_is_tried_again_a_bounded_number_of_times(bench: Bench) -> None:
    attempts: list[int] = []

    async def fail(image: Image, run: StepRun) -> Command:
        attempts.append(run.attempt)
        raise StoreUnavailableError("nobody answers")

    async with bench.working(fail, max_attempts=3):
        await bench.until(ImageStepFailed)
    assert attempts == [1, 2, 3]
    failure = (await bench.image()).failure
    assert failure is not None
    assert (failure.reason, failure.retryable) == ("STORE_UNAVAILABLE", True)


async def test_a_purge_is_tried_until_it_succeeds(bench: Bench) -> None:
    """The image has an operation, which was cancelled: that is not what the purge belongs to."""
    attempts: list[int] = []

    async def purge(image: Image, run: StepRun) -> Command:
        attempts.append(run.attempt)
        if len(attempts) < 5:
            raise StoreUnavailableError("nobody answers")
        return RecordPurged()

    await bench.command(DeleteImage(), "delete")
    async with bench.working(purge, max_attempts=2, step=Step.PURGE, types=(ImageDeleted,)):
        await bench.until(ImagePurged)
    assert attempts == [1, 2, 3, 4, 5]


async def test_an_image_waits_for_its_key_manager_however_long_and_takes_no_slot(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "_LONGEST_RETRY_DELAY_S", 0.02)
    attempts: list[int] = []
    others = [an_image_id(f"other {number}") for number in range(5)]  # more than there are slots
    is_back = False

    async def ask_the_key_manager(image: Image, run: StepRun) -> Command:
        if image.id in others and not is_back:
            raise KeyManagerUnavailableError("nobody answers")
        if image.id == IMAGE and not is_back:
            attempts.append(run.attempt)
            if len(attempts) < 50:
                run.on_discard(bench.undo)
                raise KeyManagerUnavailableError("nobody answers")
        return await stage(image, run)

    for other in others:
        await bench.prepare(other)
    async with bench.working(ask_the_key_manager, max_attempts=2):
        await bench.until(ImageStaged, ImageStepFailed)
        assert attempts == [1] * 50
        assert bench.discarded == ["bytes"] * 49
        for other in others:
            assert not any(isinstance(event.payload, ImageStepFailed) for event in await bench.log.history(other))
        is_back = True
        for other in others:
            await bench.until(ImageStaged, image_id=other)


async def test_a_user_can_cancel_what_waits_for_a_key_manager(bench: Bench) -> None:
    is_waiting = asyncio.Event()

    async def wait_for_ever(image: Image, run: StepRun) -> Command:
        is_waiting.set()
        raise KeyManagerUnavailableError("nobody answers")

    async with bench.working(wait_for_ever):
        async with asyncio.timeout(DEADLINE_S):
            await is_waiting.wait()
        await bench.command(CancelOperation(OPERATION), "cancel")
        await bench.until(ImageStepFailed)
    failure = (await bench.image()).failure
    assert failure is not None
    assert failure.reason == "CANCELLED"


async def test_a_source_that_does_not_answer_is_left_to_the_user(bench: Bench) -> None:
    attempts: list[int] = []

    async def fail(image: Image, run: StepRun) -> Command:
        attempts.append(run.attempt)
        raise SourceUnreachableError("nobody answers")

    async with bench.working(fail):
        await bench.until(ImageStepFailed)
    assert attempts == [1]
    failure = (await bench.image()).failure
    assert failure is not None
    assert (failure.reason, failure.retryable) == ("SOURCE_UNREACHABLE", True)


async def test_a_retry_may_succeed(bench: Bench) -> None:
    async def second_time_lucky(image: Image, run: StepRun) -> Command:
        if run.attempt == 1:
            raise StoreUnavailableError("nobody answers")
        return await stage(image, run)

    async with bench.working(second_time_lucky):
        await bench.until(ImageStaged)


async def test_a_defect_fails_the_step_and_says_nothing_of_its_inside(bench: Bench) -> None:
    async def crash(image: Image, run: StepRun) -> Command:
        raise RuntimeError("a secret")

    async with bench.working(crash):
        await bench.until(ImageStepFailed)
    failure = (await bench.image()).failure
    assert failure is not None
    assert failure.reason == "INTERNAL"
    assert "secret" not in failure.message


async def test_a_step_that_brings_its_worker_down_each_time_is_failed_at_last(bench: Bench) -> None:
    begun = asyncio.Semaphore(0)

    async def never_end(image: Image, run: StepRun) -> Command:
        begun.release()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    for _ in range(2):
        async with bench.working(never_end, max_attempts=2, lease_s=0.1), asyncio.timeout(DEADLINE_S):
            await begun.acquire()
    async with bench.working(never_end, max_attempts=2, lease_s=0.1):
        await bench.until(ImageStepFailed)
    failure = (await bench.image()).failure
    assert failure is not None
    assert failure.reason == "RETRIES_EXHAUSTED"


async def test_a_cancelled_operation_ends_its_step_and_takes_back_its_bytes(bench: Bench) -> None:
    begun = asyncio.Event()
    ended = asyncio.Event()

    async def take_long(image: Image, run: StepRun) -> Command:
        run.on_discard(bench.undo)
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError("unreachable")

    async with bench.working(take_long), asyncio.timeout(DEADLINE_S):
        await begun.wait()
        await bench.command(CancelOperation(OPERATION), "cancel")
        await ended.wait()
        while not bench.discarded:
            await asyncio.sleep(0)
    failure = (await bench.image()).failure
    assert failure is not None
    assert failure.reason == "CANCELLED"


async def test_a_result_that_comes_too_late_is_dropped(bench: Bench) -> None:
    async def too_late(image: Image, run: StepRun) -> Command:
        run.on_discard(bench.undo)
        await bench.command(CancelOperation(OPERATION), "cancel")
        return await stage(image, run)

    async with bench.working(too_late), asyncio.timeout(DEADLINE_S):
        while not bench.discarded:
            await asyncio.sleep(0)
    assert (await bench.image()).status is Status.QUEUED


async def test_progress_is_told_while_a_step_lasts(bench: Bench) -> None:
    go_on = asyncio.Event()

    async def count(image: Image, run: StepRun) -> Command:
        run.tell_progress(7, 9)
        await go_on.wait()
        return await stage(image, run)

    async with bench.working(count), hearing(bench, go_on) as heard:
        await bench.until(ImageStaged)
    assert (heard[0].step, heard[0].done, heard[0].total) == (Step.STAGE, 7, 9)


async def test_what_a_step_waits_for_is_told_as_its_progress(bench: Bench) -> None:
    is_told = asyncio.Event()

    async def ask_the_key_manager(image: Image, run: StepRun) -> Command:
        if not is_told.is_set():
            raise KeyManagerUnavailableError("nobody answers")
        return await stage(image, run)

    async with bench.working(ask_the_key_manager), hearing(bench, is_told) as heard:
        await bench.until(ImageStaged)
    assert heard[0].waiting_for is not None
    assert (heard[0].waiting_for.reason, heard[0].waiting_for.retryable) == ("KEY_MANAGER_UNAVAILABLE", True)


@asynccontextmanager
async def hearing(bench: Bench, heard_one: asyncio.Event) -> AsyncIterator[list[Progress]]:
    """What is told of progress meanwhile."""
    heard: list[Progress] = []

    async def listen() -> None:
        async for progress in bench.log.follow_progress():
            heard.append(progress)
            heard_one.set()

    listener = asyncio.create_task(listen())
    try:
        yield heard
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)


def test_a_retry_never_takes_longer_than_the_bound_however_often_it_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "_FIRST_RETRY_DELAY_S", 0.5)
    assert [retry_delay_s(attempt) for attempt in (1, 2, 3)] == [0.5, 1, 2]
    assert retry_delay_s(100_000) == 30
