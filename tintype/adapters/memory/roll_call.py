"""Who is there, among those that share the object."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tintype.codec import service_info
from tintype.ports.service_info import ServiceInfo


class MemoryRollCall:
    """Everybody answers at once."""

    def __init__(self) -> None:
        self._present: list[Callable[[], ServiceInfo]] = []

    async def answer(self, info: Callable[[], ServiceInfo]) -> None:
        """Answer whoever asks; see :meth:`tintype.ports.service_info.RollCall.answer`."""
        self._present.append(info)
        try:
            await asyncio.Event().wait()
        finally:
            self._present.remove(info)

    async def ask(self, wait_s: float) -> Sequence[ServiceInfo]:
        """Who answers; see :meth:`tintype.ports.service_info.RollCall.ask`."""
        await asyncio.sleep(0)  # whoever has just begun to answer is heard
        # Through the wire's form and back, as over NATS.
        found = [service_info.decode(service_info.encode(info())) for info in self._present]
        return sorted(found, key=lambda info: (info.service, info.instance))
