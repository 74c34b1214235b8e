"""Progress for a person: bars on standard error if it is a terminal, and else nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import ProgressColumn, TaskID

    from tintype.client import Operation

Report = Callable[[int, int | None], None]
ReportBytes = Report


@contextmanager
def byte_bar(label: str) -> Iterator[ReportBytes | None]:
    """One bar; the function that moves it takes the bytes that are done, and all bytes."""
    if not sys.stderr.isatty():
        yield None
        return
    with _bars() as bars:
        task = bars.add_task(label, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextmanager
def count_bar(label: str) -> Iterator[Report | None]:
    """One bar of things that are counted, and are no bytes."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import MofNCompleteColumn

    with _bars(MofNCompleteColumn()) as bars:
        task = bars.add_task(label, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextmanager
def step_bars() -> Iterator[Callable[[Operation], None]]:
    """A bar for each step of an operation; the function takes the operation whenever it has changed."""
    if not sys.stderr.isatty():
        yield lambda operation: None
        return
    with _bars() as bars:
        yield _Steps(bars).show


class _Steps:
    """The bars of one operation's steps."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._step = ""
        self._task: TaskID | None = None

    def show(self, operation: Operation) -> None:
        """Move the bars to where the operation is."""
        step = str(operation.step or "")
        if step != self._step and self._task is not None:
            if operation.failure is None:  # else the bar stays where the step was
                self._fill(self._task)
            self._task = None
        self._step = step
        if not step:
            return
        if self._task is None:
            self._task = self._bars.add_task(step, total=None)
        progress = operation.progress
        if progress and progress.step == step:
            waiting = f" waits: {progress.waiting_for.reason}" if progress.waiting_for else ""
            self._bars.update(self._task, description=f"{step}{waiting}", completed=progress.done, total=progress.total)

    def _fill(self, task: TaskID) -> None:
        bar = next(known for known in self._bars.tasks if known.id == task)
        # A step that ended before it told its size did all of it, however much that was.
        total = bar.total or 1
        self._bars.update(task, completed=total, total=total, is_sized=bar.total is not None)


def _bars(*numbers: ProgressColumn) -> Bars:
    """Bars with these columns of numbers behind them; without any, with bytes and their speed."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *(numbers or _byte_columns()),
        console=Console(stderr=True),
    )


def _byte_columns() -> tuple[ProgressColumn, ...]:
    from rich.progress import DownloadColumn, Task, TransferSpeedColumn
    from rich.text import Text

    def has_numbers(bar: Task) -> bool:
        return bool(bar.completed) and bar.fields.get("is_sized", True)

    class Size(DownloadColumn):
        def render(self, task: Task) -> Text:
            return super().render(task) if has_numbers(task) else Text()

    class Speed(TransferSpeedColumn):
        def render(self, task: Task) -> Text:
            return super().render(task) if has_numbers(task) else Text()

    return Size(binary_units=True), Speed()
