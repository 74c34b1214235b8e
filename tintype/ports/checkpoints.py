"""Where the signed checkpoints of the event log are kept: beside it, in order, and for ever.

Every adapter keeps these promises, which ``tests/contract/test_checkpoint_log.py`` asks of each:

- **No fork.** An append names the checkpoint that it follows; of several that follow the same one, the first wins.
- **Nothing is lost.** What was appended is found under its number, and the numbers have no gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class PublishedCheckpoint:
    """A checkpoint's envelope, and its ``number`` among all, from 1."""

    number: int
    envelope: bytes


class CheckpointLog(Protocol):
    """All checkpoints. Every method raises ``EventLogUnavailableError`` when there is no answer in time."""

    async def append(self, envelope: bytes, *, after: int) -> PublishedCheckpoint:
        """Append the checkpoint that follows the one of number ``after``; 0 makes it the first.

        Raises:
            ConcurrencyConflictError: another one has been appended behind ``after``; nothing was appended.
            EventLogUnavailableError: it is not known whether it was appended: ask for the newest.
        """
        ...

    async def newest(self) -> PublishedCheckpoint | None:
        """The one with the highest number; ``None`` where there is none."""
        ...

    async def get(self, number: int) -> PublishedCheckpoint:
        """The one of that number.

        Raises:
            CheckpointNotFoundError: there is none.
        """
        ...
