"""Tells the world of changes of stores' states, without ever being in a store's way.

A store tells its state while it is being used. It is noted there, and told from here: of each store the newest state,
again and again until the log has taken it.
"""

from __future__ import annotations

import asyncio
import socket

import structlog

from tintype.domain.errors import TintypeError
from tintype.ports.image_store import StoreState
from tintype.ports.store_states import StoreStateChanged, StoreStateLog

log = structlog.get_logger(__name__)

_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 30.0


class StoreStateTeller:
    """Tells of the stores that ``service`` uses; :meth:`note` goes where stores tell their states."""

    def __init__(self, service: str, *, host: str = "") -> None:
        self._service = service
        self._host = host or socket.gethostname()
        self._untold: dict[str, StoreState] = {}
        self._is_there = asyncio.Event()

    def note(self, store: str, state: StoreState) -> None:
        """Remember that the store is in that state, to tell it soon; neither blocks nor raises."""
        self._untold[store] = state
        self._is_there.set()

    async def run(self, states: StoreStateLog) -> None:
        """Tell what is noted, until cancelled."""
        delay_s = _FIRST_DELAY_S
        while True:
            await self._is_there.wait()
            try:
                await self._tell(states)
                delay_s = _FIRST_DELAY_S
            except TintypeError as exc:
                log.warning("a store's state was not told", reason=exc.reason, error=str(exc))
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, _LONGEST_DELAY_S)

    async def _tell(self, states: StoreStateLog) -> None:
        while self._untold:
            store, state = next(iter(self._untold.items()))
            await states.append(StoreStateChanged(store, state, self._service, self._host))
            if self._untold.get(store) is state:
                del self._untold[store]
        self._is_there.clear()
