"""A store whose last check failed is known not to work, until one succeeds: services check their stores all the time.

Most systems cannot say of themselves that they are away. What a check finds is told in the state, so that reads go to
other stores first and imports to stores that take bytes, before anybody waits for a deadline. No call is refused for
it: what is known of a store may be a moment old.
"""

from __future__ import annotations

import asyncio

from tintype.adapters.decorators.delegation import DelegatingStore
from tintype.domain.errors import StoreAccessDeniedError, StoreReadOnlyError, StoreTimeoutError, StoreUnavailableError
from tintype.ports.clock import Clock
from tintype.ports.image_store import ImageStore, StoreMode, StoreState

CHECK_S = 10.0
"""A check that takes longer has failed; what a service allows for one is more."""

_WRITES_ALONE = (StoreAccessDeniedError, StoreReadOnlyError)
"""What keeps a check from writing, and may let everybody read."""


class CheckedState(DelegatingStore):
    """A store with the state that its checks find, where it knows no worse one itself."""

    def __init__(self, inner: ImageStore, clock: Clock, *, check_s: float = CHECK_S) -> None:
        super().__init__(inner)
        self._clock = clock
        self._check_s = check_s
        self._found: StoreState | None = None

    @property
    def state(self) -> StoreState:
        """What the store knows of itself; where that is nothing bad, what the last check found."""
        inner = self._inner.state
        return inner if inner.mode is not StoreMode.READ_WRITE else self._found or inner

    async def check(self) -> None:
        """Find out whether the store can be written and read, and remember it.

        Raises:
            StoreTimeoutError: it did not answer in time.
            StoreUnavailableError: it cannot.
        """
        try:
            await self._check()
        except StoreUnavailableError as exc:
            mode = StoreMode.READ_ONLY if isinstance(exc, _WRITES_ALONE) else StoreMode.AWAY
            if self._found is None or (self._found.mode, self._found.reason) != (mode, exc.reason):
                self._found = StoreState(mode, self._clock.now(), exc.reason, exc.message)
            raise
        if self._found is not None and self._found.mode is not StoreMode.READ_WRITE:
            self._found = StoreState(StoreMode.READ_WRITE, self._clock.now())

    async def _check(self) -> None:
        try:
            async with asyncio.timeout(self._check_s):
                await self._inner.check()
        except TimeoutError:
            raise StoreTimeoutError(f"store {self.name!r} did not answer a check in {self._check_s:g} s") from None
