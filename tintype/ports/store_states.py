"""Where changes of stores' states are told: beside the log of images, for operators and programs.

A store's state is how one process sees it, and no fact about an image. Every adapter keeps these promises, which
``tests/contract/test_store_state_log.py`` asks of each:

- **Kept.** Whoever comes later finds the newest changes of each store, in the order in which they were told.
- **Bounded.** Of each store at least the newest 256 are kept, and older ones make room.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tintype.ports.image_store import StoreState


@dataclass(frozen=True, slots=True)
class StoreStateChanged:
    """A ``store`` is in another ``state`` now, as ``service`` on ``host`` sees it."""

    store: str
    state: StoreState
    service: str
    host: str


class StoreStateLog(Protocol):
    """All changes of all stores' states."""

    async def append(self, change: StoreStateChanged) -> None:
        """Tell a change.

        Raises:
            EventLogUnavailableError: it is not known whether it was told: tell it again.
            InvalidIdentifierError: the store's name is none.
        """
        ...
