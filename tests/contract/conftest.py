"""An empty log for each test, on each adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tests.backends.shared_servers import RunningNats
from tests.contract.event_logs import EventLogHarness, MemoryHarness, NatsHarness


@pytest_asyncio.fixture(params=["memory", pytest.param("nats", marks=pytest.mark.nats)])
async def logs(request: pytest.FixtureRequest, nats_server: RunningNats) -> AsyncIterator[EventLogHarness]:
    """An empty log that any number of participants may open."""
    if request.param == "memory":
        yield MemoryHarness()
        return
    async with AsyncExitStack() as stack:
        yield await NatsHarness.make(nats_server.url, stack)
