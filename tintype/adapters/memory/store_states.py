"""The changes of stores' states, in memory."""

from __future__ import annotations

from tintype.codec.store_states import encode
from tintype.ports.store_states import StoreStateChanged

_KEPT_OF_EACH = 256


class MemoryStoreStateLog:
    """A :class:`~tintype.ports.store_states.StoreStateLog` for all who share the object."""

    def __init__(self) -> None:
        self.changes: list[StoreStateChanged] = []

    async def append(self, change: StoreStateChanged) -> None:
        """Tell a change.

        Raises:
            InvalidIdentifierError: the store's name is none.
        """
        encode(change)  # what NATS could not carry is refused here too
        self.changes.append(change)
        own = [each for each in self.changes if each.store == change.store]
        if len(own) > _KEPT_OF_EACH:
            self.changes.remove(own[0])
