"""The loop of every worker: take an event, see whether the image's next step is ours, do it, say how it ended.

At least once: the outcome is appended first and the event acknowledged afterwards, so a worker may die between any two
instructions. A step has three ways to end: its outcome is appended; a part of Tintype that does not answer hands the
event out again, a bounded number of times; any other error is appended as the step's failure. A result that comes too
late, because another worker took over or the user cancelled, is dropped.

A key manager that does not answer ends no step: the image waits in this worker's hands, however long, and takes none of
its slots meanwhile. Other parts are Tintype's own, and come back soon or are broken; a key manager is somebody else's.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import structlog

from tintype.domain.commands import Command, RecordStepFailed
from tintype.domain.errors import (
    ConflictError,
    ImageNotFoundError,
    InternalError,
    KeyManagerUnavailableError,
    LogCorruptError,
    RetriesExhaustedError,
    StaleStepError,
    TintypeError,
    UnavailableError,
)
from tintype.domain.events import Event, EventContext, Failure, Progress, RecordedEvent, Step
from tintype.domain.image import Image, failure_of
from tintype.domain.lifecycle import next_step
from tintype.domain.values import CommandId, ImageId
from tintype.ports.clock import Clock
from tintype.ports.event_log import Delivery, EventLog, WorkQueue
from tintype.runtime.journal import Journal
from tintype.runtime.step_metrics import Outcome, StepAttempt, expect_steps, step_counted
from tintype.runtime.tracing import ATTEMPT, IMAGE_ID, OPERATION_ID, current_traceparent, step_traced

log = structlog.get_logger(__name__)

PROGRESS_INTERVAL_S = 0.5
_FIRST_RETRY_DELAY_S = 0.5
_LONGEST_RETRY_DELAY_S = 30.0

StepHandler = Callable[[Image, "StepRun"], Awaitable[Command]]
"""Does one step of one image, and returns the command that records it.

What it wrote belongs to nobody until that command is appended; it registers with :meth:`StepRun.on_discard` how to take
it back.
"""

EventObserver = Callable[[RecordedEvent, Image], Awaitable[None]]
"""Does what follows from an event without being a step, such as removing bytes; repeated until it succeeds."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a worker takes work.

    ``concurrency`` steps run at once in this process. An event whose worker is silent for ``lease_s`` seconds goes to
    another. A step that was begun ``max_attempts`` times is failed, except PURGE: nobody else would ask for it again.
    """

    concurrency: int = 4
    lease_s: float = 10.0
    max_attempts: int = 5


@dataclass(slots=True)
class StepRun:
    """One attempt at a step: tells progress, and knows how to take back what it wrote."""

    image: Image
    step: Step
    attempt: int
    nonce: str
    _tell: Callable[[int, int | None, Failure | None], None]
    _discards: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    def tell_progress(self, done: int, total: int | None) -> None:
        """Note how far the step is; it is published at most twice a second. Cheap; call it as often as you like."""
        self._tell(done, total, None)

    def tell_waiting(self, waiting_for: Failure) -> None:
        """Note what keeps the step from going on; published as progress is."""
        self._tell(0, None, waiting_for)

    def on_discard(self, undo: Callable[[], Awaitable[None]]) -> None:
        """Call ``undo`` if the step's result does not get into the log."""
        self._discards.append(undo)

    async def discard(self) -> None:
        """Take back what was written, newest first."""
        while self._discards:
            undo = self._discards.pop()
            try:
                await undo()
            except TintypeError as exc:
                log.warning("discard failed", image_id=self.image.id, step=self.step, reason=exc.reason, error=str(exc))


class Worker:
    """Follows the log with one work queue, and does the steps that are its own."""

    def __init__(
        self,
        *,
        name: str,
        event_log: EventLog,
        clock: Clock,
        steps: Mapping[Step, StepHandler],
        types: tuple[type[Event], ...],
        settings: WorkerSettings,
        observer: EventObserver | None = None,
    ) -> None:
        """``types`` are the events that may make one of ``steps`` the next one, or that ``observer`` wants."""
        self._name = name
        self._log = event_log
        self._clock = clock
        self._journal = Journal(event_log, clock)
        self._steps = steps
        self._observer = observer
        self._settings = settings
        self._queue = WorkQueue(name, types, lease_s=settings.lease_s)
        self._in_hand: dict[ImageId, _Turn] = {}
        expect_steps(name, steps)

    async def run(self) -> None:
        """Work until cancelled; work in hand is then ended and goes to others."""
        slots = asyncio.Semaphore(self._settings.concurrency)
        async with self._log.work(self._queue) as deliveries, asyncio.TaskGroup() as tasks:
            slot = _Slot(slots)
            await slot.take()
            async for delivery in deliveries:
                task = tasks.create_task(self._handle(delivery, slot))
                task.add_done_callback(slot.give_back)
                slot = _Slot(slots)
                await slot.take()

    async def _handle(self, delivery: Delivery, slot: _Slot) -> None:
        event = delivery.event
        try:
            async with self._kept_alive(delivery), self._turn(event.image_id):
                await self._work_off(delivery, slot)
            await delivery.acknowledge()
        except TintypeError as exc:
            delay_s = retry_delay_s(delivery.attempt)
            log.warning(
                "event will be retried",
                worker=self._name,
                image_id=event.image_id,
                attempt=delivery.attempt,
                delay_s=delay_s,
                reason=exc.reason,
                error=str(exc),
            )
            with suppress(TintypeError):
                await delivery.retry(delay_s)

    @asynccontextmanager
    async def _turn(self, image_id: ImageId) -> AsyncIterator[None]:
        """One handler per image: a redelivery waits for the first handing, and then finds nothing left to do."""
        turn = self._in_hand.setdefault(image_id, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if turn.users == 0:
                del self._in_hand[image_id]

    async def _work_off(self, delivery: Delivery, slot: _Slot) -> None:
        image = await self._journal.load(delivery.event.image_id)
        if image is None:
            raise LogCorruptError(f"image {delivery.event.image_id} has an event and no history")
        if self._observer:
            await self._observer(delivery.event, image)
        while (step := next_step(image)) in self._steps:
            # The next step may be ours again: publish follows a conversion, and both may live in one process.
            after = await self._attempt(image, step, delivery, slot)  # type: ignore[arg-type]  # None is in no mapping
            if after is None:
                return
            image = after

    async def _attempt(self, image: Image, step: Step, delivery: Delivery, slot: _Slot) -> Image | None:
        operation = image.operation.id if image.operation else ""
        ids: dict[str, str | int] = {IMAGE_ID: image.id, OPERATION_ID: operation, ATTEMPT: delivery.attempt}
        trace = delivery.event.event.context.traceparent
        with step_counted(self._name, step) as attempt, step_traced(attempt, trace, ids):
            after = await self._try(image, step, delivery, slot, attempt)
            if after is None:
                attempt.outcome, attempt.reason = Outcome.OVERTAKEN, ""
            elif not attempt.reason:
                attempt.outcome = Outcome.DONE
            return after

    async def _try(
        self, image: Image, step: Step, delivery: Delivery, slot: _Slot, attempt: StepAttempt
    ) -> Image | None:
        nonce = uuid.uuid4().hex[:12]
        latest: list[Progress] = []
        run = StepRun(image, step, delivery.attempt, nonce, partial(self._note, latest, image, step))
        try:
            if delivery.attempt > self._settings.max_attempts and step is not Step.PURGE:
                raise RetriesExhaustedError(
                    f"step {step} was begun {self._settings.max_attempts} times and never ended"
                )
            async with self._watched(image, latest):
                command = await self._patiently(run, slot, attempt)
        except asyncio.CancelledError:
            await asyncio.shield(run.discard())
            raise
        except _OvertakenError:
            await run.discard()
            log.info("step was overtaken", worker=self._name, image_id=image.id, step=step)
            return None
        except TintypeError as exc:
            await run.discard()
            # What Tintype itself lacks may come back; a source or a full store has been tried already, and only the
            # user can know whether another try is worth the download.
            is_ours = isinstance(exc, UnavailableError | ConflictError)
            if is_ours and exc.retryable and delivery.attempt < self._settings.max_attempts:
                raise
            command = self._failed(image, step, exc, attempt)
        except Exception as exc:  # a defect must not leave the image in `importing`
            await run.discard()
            log.exception("step crashed", worker=self._name, image_id=image.id, step=step)
            error = InternalError(f"step {step} failed unexpectedly: {type(exc).__name__}")
            command = self._failed(image, step, error, attempt)
        return await self._record(image, step, command, run, delivery)

    async def _patiently(self, run: StepRun, slot: _Slot, attempt: StepAttempt) -> Command:
        """Do the step, and wait while a key manager does not answer."""
        tries = 0
        while True:
            try:
                return await self._steps[run.step](run.image, run)
            except KeyManagerUnavailableError as exc:
                await run.discard()
                run.tell_waiting(failure_of(exc))
                tries += 1
                delay_s = retry_delay_s(tries)
                log.warning(
                    "image waits for a key manager",
                    worker=self._name,
                    image_id=run.image.id,
                    step=run.step,
                    delay_s=delay_s,
                    reason=exc.reason,
                    error=str(exc),
                )
            with attempt.waiting():
                await slot.rest(delay_s)
            # What has been done to it meanwhile counts.
            run.image = await self._journal.load(run.image.id) or run.image

    def _failed(self, image: Image, step: Step, error: TintypeError, attempt: StepAttempt) -> Command:
        attempt.failed(error)
        if image.operation is None or step is Step.PURGE:  # which belongs to no operation: only trying again helps
            raise error
        return RecordStepFailed(image.operation.id, step, failure_of(error))

    async def _record(
        self, image: Image, step: Step, command: Command, run: StepRun, delivery: Delivery
    ) -> Image | None:
        cause = delivery.event
        context = EventContext(
            actor=f"service:{self._name}",
            correlation_id=cause.event.context.correlation_id,
            causation_id=cause.event.event_id,
            traceparent=current_traceparent(),
        )
        operation = image.operation.id if image.operation else image.id
        try:
            executed = await self._journal.execute(
                image.id,
                command,
                project=image.project,
                command_id=CommandId(f"{operation}:{step}:{run.nonce}"),
                context=context,
            )
        except (StaleStepError, ImageNotFoundError):
            await run.discard()
            log.info("result was dropped", worker=self._name, image_id=image.id, step=step)
            return None
        except ConflictError:
            await run.discard()
            raise
        outcome = type(executed.event.payload).__name__
        log.info("step ended", worker=self._name, image_id=image.id, step=step, outcome=outcome)
        return executed.image

    def _note(
        self,
        latest: list[Progress],
        image: Image,
        step: Step,
        done: int,
        total: int | None,
        waiting_for: Failure | None,
    ) -> None:
        if image.operation:
            now, operation = self._clock.now(), image.operation.id
            latest[:] = [Progress(image.id, image.project, operation, step, done, total, now, waiting_for)]

    @asynccontextmanager
    async def _kept_alive(self, delivery: Delivery) -> AsyncIterator[None]:
        async def extend() -> None:
            while True:
                await asyncio.sleep(self._settings.lease_s / 3)
                with suppress(TintypeError):  # a log that does not answer is met when the outcome is appended
                    await delivery.extend()

        task = asyncio.create_task(extend())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @asynccontextmanager
    async def _watched(self, image: Image, latest: list[Progress]) -> AsyncIterator[None]:
        """Publish progress, and end the step when the image no longer waits for it."""
        body = asyncio.current_task()
        overtaken = False

        async def watch() -> None:
            nonlocal overtaken
            while True:
                await asyncio.sleep(PROGRESS_INTERVAL_S)
                with suppress(TintypeError):
                    if latest:
                        await self._log.tell_progress(latest.pop())
                    current = await self._journal.load(image.id)
                    if current is None or not _same_step(image, current):
                        overtaken = True
                        if body:
                            body.cancel()
                        return

        task = asyncio.create_task(watch())
        try:
            yield
        except asyncio.CancelledError:
            if overtaken and body and body.uncancel() == 0:
                raise _OvertakenError from None
            raise
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def retry_delay_s(attempt: int) -> float:
    """How long an event rests that was handed out ``attempt`` times; the delay doubles up to a bound."""
    doublings = min(attempt - 1, 16)  # an event may be retried for days: its power of two is no float any more
    return min(_FIRST_RETRY_DELAY_S * float(2**doublings), _LONGEST_RETRY_DELAY_S)


class _Slot:
    """One of the places for work in hand; it can be lent to others while its holder only waits."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._is_held = False

    async def take(self) -> None:
        """Wait for a free place."""
        await self._slots.acquire()
        self._is_held = True

    def give_back(self, *_: object) -> None:
        """Let others have it."""
        if self._is_held:
            self._is_held = False
            self._slots.release()

    async def rest(self, delay_s: float) -> None:
        """Sleep without a place, and wait for one again."""
        self.give_back()
        await asyncio.sleep(delay_s)
        await self.take()


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class _OvertakenError(Exception):
    """The image no longer waits for the step that is being done."""


def _same_step(before: Image, now: Image) -> bool:
    if next_step(before) is not next_step(now):
        return False
    return before.operation is None or (now.operation is not None and before.operation.id == now.operation.id)
