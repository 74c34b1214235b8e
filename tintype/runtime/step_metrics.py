"""How long workers' steps take, how they end, and why they fail."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from tintype.domain.errors import InternalError, TintypeError
from tintype.runtime.metrics import STEP_FAILURES, STEP_SECONDS, STEPS_IN_PROGRESS, STEPS_WAITING


class Outcome(StrEnum):
    """How an attempt at a step ends."""

    DONE = "done"
    """The step's result is in the log."""

    FAILED = "failed"
    """Its failure is, and nobody tries again."""

    RETRIED = "retried"
    """Nothing is: somebody will try again."""

    OVERTAKEN = "overtaken"
    """The image took another way meanwhile, and the result was dropped."""


@dataclass(slots=True)
class StepAttempt:
    """One attempt; whoever makes it says how it ends."""

    worker: str
    step: str
    outcome: Outcome = Outcome.RETRIED
    reason: str = ""
    """Of the failure, if it failed."""

    def failed(self, error: TintypeError) -> None:
        """Note why the step cannot be done."""
        self.outcome, self.reason = Outcome.FAILED, error.reason

    def left_with(self, error: BaseException) -> None:
        """Note that the step was left undone; why is told, unless the service only ends."""
        self.outcome, self.reason = Outcome.RETRIED, ""
        if isinstance(error, Exception):
            self.reason = error.reason if isinstance(error, TintypeError) else InternalError.reason

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within the context the step waits for a key manager."""
        with STEPS_WAITING.labels(self.worker, self.step).track_inprogress():
            yield


def expect_steps(worker: str, steps: Iterable[str]) -> None:
    """Let the series of a worker begin at 0: Prometheus sees no increase where a series begins at 1."""
    for step in steps:
        STEPS_IN_PROGRESS.labels(worker, step)
        STEPS_WAITING.labels(worker, step)
        for outcome in Outcome:
            STEP_SECONDS.labels(worker, step, outcome)


@contextmanager
def step_counted(worker: str, step: str) -> Iterator[StepAttempt]:
    """Count an attempt; one that is left with an error is to be made again."""
    attempt = StepAttempt(worker, step)
    begin = time.perf_counter()
    try:
        with STEPS_IN_PROGRESS.labels(worker, step).track_inprogress():
            yield attempt
    except BaseException as exc:
        attempt.left_with(exc)
        raise
    finally:
        STEP_SECONDS.labels(worker, step, attempt.outcome).observe(time.perf_counter() - begin)
        if attempt.reason:
            STEP_FAILURES.labels(step, attempt.reason).inc()
