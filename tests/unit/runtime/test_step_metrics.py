"""Attempts at steps are counted by how they end, and why they fail."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY

from tests.unit.runtime.samples import grown, sample
from tintype.domain.errors import DigestMismatchError, StoreUnavailableError
from tintype.runtime.step_metrics import Outcome, StepAttempt, expect_steps, step_counted

WORKER, STEP = "counted", "stage"
COUNT, FAILURES = "tintype_step_seconds_count", "tintype_step_failures_total"


def done(attempt: StepAttempt) -> None:
    attempt.outcome = Outcome.DONE


def failed(attempt: StepAttempt) -> None:
    attempt.failed(DigestMismatchError("other bytes"))


def overtaken(attempt: StepAttempt) -> None:
    attempt.outcome = Outcome.OVERTAKEN


def unavailable(attempt: StepAttempt) -> None:
    raise StoreUnavailableError("nobody answers")


def retried_though_it_failed(attempt: StepAttempt) -> None:
    attempt.failed(DigestMismatchError("other bytes"))
    raise StoreUnavailableError("the failure could not be recorded")


def cancelled(attempt: StepAttempt) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("end", "outcome", "reason"),
    [
        (done, "done", ""),
        (failed, "failed", "DIGEST_MISMATCH"),
        (overtaken, "overtaken", ""),
        (unavailable, "retried", "STORE_UNAVAILABLE"),
        (retried_though_it_failed, "retried", "STORE_UNAVAILABLE"),
        (cancelled, "retried", ""),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_an_attempt_is_counted_by_how_it_ends(end: object, outcome: str, reason: str) -> None:
    labels = {"worker": WORKER, "step": STEP, "outcome": outcome}
    before = sample(COUNT, **labels)
    failures = sample(FAILURES, step=STEP, reason=reason)
    try:
        with step_counted(WORKER, STEP) as attempt:
            assert sample("tintype_steps_in_progress", worker=WORKER, step=STEP) == 1
            end(attempt)  # type: ignore[operator]
    except (StoreUnavailableError, asyncio.CancelledError):
        pass
    assert grown(COUNT, before, **labels) == 1
    assert grown(FAILURES, failures, step=STEP, reason=reason) == (1 if reason else 0)
    assert sample("tintype_steps_in_progress", worker=WORKER, step=STEP) == 0


def test_a_step_waits_as_long_as_its_key_manager_is_away() -> None:
    with step_counted(WORKER, STEP) as attempt:
        with attempt.waiting():
            assert sample("tintype_steps_waiting", worker=WORKER, step=STEP) == 1
        assert sample("tintype_steps_waiting", worker=WORKER, step=STEP) == 0
        attempt.outcome = Outcome.DONE


@pytest.mark.parametrize("outcome", Outcome)
def test_what_a_worker_may_count_is_there_before_it_happens(outcome: Outcome) -> None:
    labels = {"worker": "expected", "step": "stage"}
    expect_steps("expected", ["stage"])
    assert REGISTRY.get_sample_value(COUNT, {**labels, "outcome": outcome}) == 0
    assert REGISTRY.get_sample_value("tintype_steps_waiting", labels) == 0
