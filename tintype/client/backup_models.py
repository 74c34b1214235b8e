"""What backups of the log are, and what a restore did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tintype.client.models import LogCheck


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup: of the events behind ``after`` and up to ``position``, and of ``checkpoints``.

    ``digest`` is its name for the backup that continues it, and ``follows`` the digest of the one that it continues
    (empty: none, it is a full one). ``source`` is the address of the NATS that it was read from.
    """

    time: datetime
    source: str
    after: int
    position: int
    checkpoints: int
    size_bytes: int
    digest: str
    follows: str

    @property
    def is_full(self) -> bool:
        """Whether it begins with the first event."""
        return not self.follows


@dataclass(frozen=True, slots=True)
class BackupCheck:
    """What was found in backups that follow one another: each is whole, and ``log`` is the log that they hold."""

    backups: tuple[Backup, ...]
    log: LogCheck


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did: the log is at ``position``, of whose messages and checkpoints so many were ``written``.

    ``present`` were there already, from a restore that was interrupted. After a dry run, ``written`` is what would have
    been. ``log`` is what a check of the backups found before anything was written.
    """

    position: int
    checkpoints: int
    present: int
    written: int
    is_dry_run: bool
    log: LogCheck
