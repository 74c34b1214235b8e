"""A clock that stands still until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


class FakeClock:
    """Begins at :data:`START`."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now

    def now(self) -> datetime:
        """The time that the test has set."""
        return self._now

    def advance(self, seconds: float) -> datetime:
        """Let time pass, and answer the new time."""
        self._now += timedelta(seconds=seconds)
        return self._now
