"""A store that the deployment keeps as it is: it is read, and bytes are removed from it; none are added."""

from __future__ import annotations

from datetime import datetime

from tintype.adapters.decorators.delegation import DelegatingStore
from tintype.domain.errors import StoreReadOnlyError
from tintype.ports.image_store import BlobWriter, ImageStore, StoreMode, StoreState

REASON = "CONFIGURED"


class ReadOnly(DelegatingStore):
    """A store with ``read_only = true``, since ``now``."""

    def __init__(self, inner: ImageStore, now: datetime) -> None:
        super().__init__(inner)
        self._state = StoreState(StoreMode.READ_ONLY, now, REASON, f"stores.{inner.name}.read_only is set")

    @property
    def state(self) -> StoreState:
        """Read-only, or away where the store itself is."""
        inner = self._inner.state
        return inner if inner.mode is StoreMode.AWAY else self._state

    async def open_write(self, key: str, *, resume: bool = False, replace: bool = False) -> BlobWriter:
        """Refuse.

        Raises:
            StoreReadOnlyError: always.
        """
        raise StoreReadOnlyError(f"store {self.name!r} takes no bytes: {self._state.message}")
