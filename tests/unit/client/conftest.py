"""A client against services in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.client.fake_services import FakeServices, serving
from tintype.client import Client, ClientConfig
from tintype.client.transport import Transport


async def no_sleep(delay_s: float) -> None:
    """Time stands still."""


@pytest.fixture
async def services() -> AsyncIterator[FakeServices]:
    async with serving(FakeServices()) as running:
        yield running


@pytest.fixture
async def client(services: FakeServices) -> AsyncIterator[Client]:
    target = services.target
    config = ClientConfig(catalog=target, importer=target, signer=target, actor="tester", project="p1")
    transport = Transport(config, sleep=no_sleep)
    yield Client(transport)
    await transport.close()
