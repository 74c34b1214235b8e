"""The log of checkpoints in memory."""

from __future__ import annotations

from tintype.domain.errors import CheckpointNotFoundError, ConcurrencyConflictError
from tintype.ports.checkpoints import PublishedCheckpoint


class MemoryCheckpointLog:
    """A :class:`~tintype.ports.checkpoints.CheckpointLog` for all who share the object."""

    def __init__(self) -> None:
        self.envelopes: list[bytes] = []

    async def append(self, envelope: bytes, *, after: int) -> PublishedCheckpoint:
        """Append the one that follows number ``after``.

        Raises:
            ConcurrencyConflictError: another one does already.
        """
        if after != len(self.envelopes):
            raise ConcurrencyConflictError(f"checkpoint {after} is not the newest one any more")
        self.envelopes.append(envelope)
        return PublishedCheckpoint(after + 1, envelope)

    async def newest(self) -> PublishedCheckpoint | None:
        """The one with the highest number."""
        return PublishedCheckpoint(len(self.envelopes), self.envelopes[-1]) if self.envelopes else None

    async def get(self, number: int) -> PublishedCheckpoint:
        """The one of that number.

        Raises:
            CheckpointNotFoundError: there is none.
        """
        if not 1 <= number <= len(self.envelopes):
            raise CheckpointNotFoundError(f"there is no checkpoint {number}")
        return PublishedCheckpoint(number, self.envelopes[number - 1])
