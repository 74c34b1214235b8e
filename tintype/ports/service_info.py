"""What a replica of a service tells of itself, and how all of them are found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tintype.domain.events import Failure


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a service looks at all the time: ``failure`` says why it is not ``ok``, ``since`` from when on it
    has been as it is. While one that is ``required`` fails, the service answers no calls.
    """

    name: str
    ok: bool
    required: bool
    failure: Failure | None
    since: datetime


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that a service uses, by the file that it was read from."""

    file: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ServiceInfo:
    """One replica: ``instance`` is HOST/PID, ``ready`` whether it answers calls; failing ``checks`` come first."""

    service: str
    version: str
    instance: str
    started_at: datetime
    ready: bool
    checks: tuple[Check, ...] = ()
    certificates: tuple[Certificate, ...] = ()


class RollCall(Protocol):
    """Asks all replicas of all services who is there."""

    async def answer(self, info: Callable[[], ServiceInfo]) -> None:
        """Answer whoever asks, until cancelled; through reconnects.

        Raises:
            EventLogUnavailableError: the connection is closed for good.
        """
        ...

    async def ask(self, wait_s: float) -> Sequence[ServiceInfo]:
        """Who answers within ``wait_s`` seconds, by service and instance; one that cannot be understood is left out.

        Raises:
            EventLogUnavailableError: nobody can be asked.
        """
        ...
