"""How long to wait before the server is asked again."""

from __future__ import annotations

import asyncio
import random

_FIRST_DELAY_S = 0.02
_LONGEST_DELAY_S = 2.0


class Backoff:
    """Waits longer each time, and never for ever the same."""

    def __init__(self) -> None:
        self._delay_s = _FIRST_DELAY_S

    def reset(self) -> None:
        """Begin with the shortest wait again."""
        self._delay_s = _FIRST_DELAY_S

    async def wait(self) -> None:
        """Wait, and double the next wait."""
        await asyncio.sleep(self._delay_s * random.uniform(0.5, 1.5))  # noqa: S311  # jitter
        self._delay_s = min(self._delay_s * 2, _LONGEST_DELAY_S)
