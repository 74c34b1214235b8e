"""Repeating a measurement, and saying what came out."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """Several measurements of the same thing, in seconds unless the table says otherwise."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({min(self.values):.2f}–{max(self.values):.2f})"

    def ratio(self, other: Sample) -> str:
        """This one over another, median by median, and the range that the extremes allow."""
        low, high = min(self.values) / max(other.values), max(self.values) / min(other.values)
        return f"**{self.median / other.median:.2f}** ({low:.2f}–{high:.2f})"


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which ``percent`` of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


async def side_by_side(
    runs: int,
    contestants: dict[str, Callable[[], Awaitable[object]]],
    settle: Callable[[], Awaitable[None]],
) -> dict[str, Sample]:
    """Measure each in turn, ``runs`` times over, so that a slow moment of the machine meets all of them.

    ``settle`` removes what each has left, and is not measured.
    """
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(runs):
        for name, contestant in contestants.items():
            await settle()
            begin = time.perf_counter()
            await contestant()
            taken[name].append(time.perf_counter() - begin)
    await settle()
    return {name: Sample(tuple(values)) for name, values in taken.items()}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)
