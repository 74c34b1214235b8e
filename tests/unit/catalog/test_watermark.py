"""Waiting for the projection."""

from __future__ import annotations

import asyncio

import pytest

from services.catalog.watermark import Watermark
from tintype.domain.errors import ProjectionLagError
from tintype.testing.events import an_image_id

IMAGE, OTHER = an_image_id("image"), an_image_id("other")


async def test_who_waits_is_woken_when_the_position_is_reached() -> None:
    watermark = Watermark()
    waiting = asyncio.ensure_future(watermark.reach(3))
    for position in (1, 2):
        await watermark.advance(position, ())
        assert not waiting.done()
    await watermark.advance(5, ())
    await waiting
    await watermark.reach(5, timeout_s=0)
    assert watermark.position == 5


async def test_a_position_that_does_not_come_is_a_lag() -> None:
    watermark = Watermark()
    await watermark.advance(7, ())
    with pytest.raises(ProjectionLagError, match="at position 7, not yet at 8"):
        await watermark.reach(8, timeout_s=0)


async def test_the_position_never_falls() -> None:
    watermark = Watermark()
    await watermark.advance(7, ())
    await watermark.advance(3, ())
    assert watermark.position == 7


async def test_changes_of_one_image_are_told_to_those_who_wait_for_it() -> None:
    watermark = Watermark()
    async with watermark.changes(IMAGE) as first, watermark.changes(IMAGE) as second, watermark.changes(OTHER) as other:
        await watermark.advance(1, {IMAGE})
        assert (first.is_set(), second.is_set(), other.is_set()) == (True, True, False)
    await watermark.advance(2, {IMAGE, OTHER})
    assert not watermark._waiting
