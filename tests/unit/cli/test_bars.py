"""Progress on a terminal: what is drawn is what happened."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tintype.cli.bars import count_bar, step_bars
from tintype.client import Failure, Operation, OperationKind, OperationState, Progress, Step
from tintype.domain.values import ImageId, OperationId, ProjectId

AT = datetime(2026, 1, 2, tzinfo=UTC)
STAGING = Operation(
    id="operation",
    image_id="image",
    kind=OperationKind.IMPORT,
    state=OperationState.RUNNING,
    done=False,
    step=Step.STAGE,
    progress=None,
    failure=None,
    started_at=AT,
    ended_at=None,
    position=1,
)
HALF = Progress(ImageId("image"), ProjectId("default"), OperationId("operation"), Step.STAGE, 5 << 20, 10 << 20, AT)
FAILURE = Failure("CANCELLED", "the operation was cancelled", "", retryable=False)
SUCCEEDED = replace(STAGING, state=OperationState.SUCCEEDED, done=True, step=None)
CANCELLED = replace(SUCCEEDED, state=OperationState.CANCELLED, failure=FAILURE)


class Terminal(io.StringIO):
    """A terminal that remembers."""

    def isatty(self) -> bool:
        return True


def last_frame(monkeypatch: pytest.MonkeyPatch, *states: Operation) -> str:
    """What is left on the terminal when the bars are done."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with step_bars() as show:
        for state in states:
            show(state)
    return terminal.getvalue().rpartition("stage")[2]


def test_the_bar_of_a_step_that_succeeded_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "10.0/10.0 MiB" in last_frame(monkeypatch, replace(STAGING, progress=HALF), SUCCEEDED)


def test_the_bar_of_a_step_that_was_cancelled_stays_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "5.0/10.0 MiB" in last_frame(monkeypatch, replace(STAGING, progress=HALF), CANCELLED)


def test_a_step_that_never_told_its_size_has_a_bar_without_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = last_frame(monkeypatch, STAGING, SUCCEEDED)
    assert "bytes" not in frame
    assert "?" not in frame.replace("\x1b[?25", "")


def test_what_is_counted_is_not_told_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with count_bar("events") as report:
        assert report is not None
        report(37, 183)
    assert "37/183" in terminal.getvalue()
    assert "byte" not in terminal.getvalue()
