"""A log that was put back from a backup, or is another one, under a catalog whose tables know better, or worse."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from services.catalog import log_identity, projector
from services.catalog.settings import CatalogSection
from tests.integration.catalog.conftest import Catalog, running, until_ready
from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.testing.clock import FakeClock


@pytest.fixture(autouse=True)
def look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_identity, "CONFIRM_DELAY_S", 0)
    monkeypatch.setattr(projector, "LOOK_EVERY_S", 0.01)


def put_back(log: MemoryEventLog, position: int) -> None:
    """Have the log be what it was at a position."""
    del log._events[position:]
    log._histories = {
        image: kept
        for image, events in log._histories.items()
        if (kept := [event for event in events if event.position <= position])
    }


async def names(catalog: Catalog, **more: Any) -> list[str]:
    answer = await catalog.images.ListImages(pb.ListImagesRequest(**more), timeout=20)
    return sorted(image.name for image in answer.images)


async def until_listed(catalog: Catalog, *wanted: str) -> None:
    """Wait until the list is that; while tables are given up and built anew it is refused, as the SDK knows."""
    async with asyncio.timeout(60):
        while await asked(catalog) != sorted(wanted):
            await asyncio.sleep(0.005)


async def asked(catalog: Catalog) -> list[str]:
    try:
        return await names(catalog)
    except grpc.aio.AioRpcError as exc:
        if exc.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return []


async def test_a_catalog_that_starts_on_an_older_log_shows_what_is_in_it(
    catalog_settings: CatalogSection, capsys: pytest.CaptureFixture[str]
) -> None:
    log = MemoryEventLog()
    async with running(catalog_settings, log, FakeClock()) as catalog:
        for name in ("one", "two", "three"):
            await catalog.create(name)
        await until_listed(catalog, "one", "two", "three")
    put_back(log, 1)

    async with running(catalog_settings, log, FakeClock()) as catalog:
        await until_ready(catalog)
        assert await names(catalog) == ["one"]
        created = await catalog.create("new")  # at a position that the tables had seen before
        assert await names(catalog, min_position=created.position) == ["new", "one"]
    told = capsys.readouterr().out
    assert "LOG_REPLACED" in told
    assert "ends at position 1" in told


async def test_a_catalog_that_starts_on_another_log_shows_what_is_in_it(
    catalog_settings: CatalogSection, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(catalog_settings, MemoryEventLog(), FakeClock()) as catalog:
        await catalog.create("one")
        await until_listed(catalog, "one")
    other = MemoryEventLog()
    async with running(CatalogSection(data_dir=catalog_settings.data_dir / "other"), other, FakeClock()) as catalog:
        await catalog.create("another")
        await catalog.create("and more")

    async with running(catalog_settings, other, FakeClock()) as catalog:
        await until_ready(catalog)
        assert await names(catalog) == ["and more", "another"]
    assert "has another event at position 1" in capsys.readouterr().out


async def test_a_log_that_is_put_back_under_running_catalogs_is_noticed_by_each(
    catalog_settings: CatalogSection,
) -> None:
    log = MemoryEventLog()
    async with (
        running(catalog_settings, log, FakeClock()) as one,
        running(catalog_settings, log, FakeClock()) as two,
    ):
        for name in ("one", "two", "three"):
            await one.create(name)
        for catalog in (one, two):
            await until_listed(catalog, "one", "two", "three")

        put_back(log, 2)

        for catalog in (one, two):
            await until_listed(catalog, "one", "two")
        await one.create("new")
        for catalog in (one, two):
            await until_listed(catalog, "new", "one", "two")


async def test_a_log_that_is_put_back_and_goes_on_under_a_running_catalog_is_noticed(
    catalog_settings: CatalogSection,
) -> None:
    """Its head is beyond the tables again before anybody looks."""
    other = MemoryEventLog()
    async with running(CatalogSection(data_dir=catalog_settings.data_dir / "other"), other, FakeClock()) as elsewhere:
        for name in ("first", "second", "third"):
            await elsewhere.create(name)
    log = MemoryEventLog()
    async with running(catalog_settings, log, FakeClock()) as catalog:
        await catalog.create("one")
        await catalog.create("two")
        await until_listed(catalog, "one", "two")

        put_back(log, 1)
        log._events[1:] = other._events[1:]
        log._histories |= {event.image_id: [event] for event in other._events[1:]}

        await until_listed(catalog, "one", "second", "third")


class LaggingLog(MemoryEventLog):
    """A cluster whose new leader is behind for a moment."""

    behind = 0

    async def head(self) -> int:
        if self.behind:
            self.behind -= 1
            return 0
        return await super().head()


async def test_a_leader_that_is_behind_for_a_moment_costs_no_tables(
    catalog_settings: CatalogSection, capsys: pytest.CaptureFixture[str]
) -> None:
    log = LaggingLog()
    async with running(catalog_settings, log, FakeClock()) as catalog:
        await catalog.create("one")
        await until_listed(catalog, "one")
        log.behind = 2
        async with asyncio.timeout(20):
            while log.behind:
                await asyncio.sleep(0.005)
        await until_listed(catalog, "one")
    assert "LOG_REPLACED" not in capsys.readouterr().out
