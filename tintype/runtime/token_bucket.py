"""How fast something may go: so many bytes a second, over any longer while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

Sleep = Callable[[float], Awaitable[object]]


class TokenBucket:
    """Lets ``rate`` bytes a second through; 0 is as fast as it goes. What was not used is kept for one second."""

    def __init__(
        self, rate: float, *, monotonic: Callable[[], float] = time.monotonic, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._rate = rate
        self._monotonic = monotonic
        self._sleep = sleep
        self._tokens = rate
        self._filled_at = monotonic()

    async def take(self, size: int) -> None:
        """Wait until ``size`` bytes may go; more than a second's worth is a debt that the next ones wait for."""
        if not self._rate:
            return
        now = self._monotonic()
        self._tokens = min(self._rate, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        self._tokens -= size
        if self._tokens < 0:
            await self._sleep(-self._tokens / self._rate)
