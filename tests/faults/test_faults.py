"""Whatever breaks: no committed image is lost, no part of one is visible, nothing is left, and it is told why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.backends.store_backend import CannotBeBrokenError, StoreBackend
from tests.faults.backends import BACKENDS, Making
from tests.faults.faults import DATA, FAULTS, KEPT, NOBODY, VICTIM, Scene, put, read
from tintype.domain.errors import BlobNotFoundError, TintypeError
from tintype.ports.image_store import ImageStore

_RECOVERY_S = 30.0


@pytest.fixture(params=[pytest.param(making, id=name, marks=marks) for name, making, marks in BACKENDS])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreBackend]:
    making: Making = request.param
    made = making(request, tmp_path)
    yield made
    await made.aclose()


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_loses_no_image_shows_no_part_and_leaves_nothing(
    fault: str, backend: StoreBackend, tmp_path: Path, tell: Callable[[str, str, str], None]
) -> None:
    store = await backend.open()
    try:
        await put(store, KEPT)
        try:
            reason = await FAULTS[fault](Scene(backend, store, tmp_path))
        except CannotBeBrokenError as exc:
            tell(fault, backend.name, f"– ({exc})")
            await store.delete(VICTIM)
        else:
            if reason != NOBODY:
                assert reason in backend.told[fault].reasons, backend.told[fault].why
            tell(fault, backend.name, "invisible; removed by a sweep" if reason == NOBODY else f"`{reason}`")
        async with asyncio.timeout(_RECOVERY_S):
            await recovered(store)
        await require_nothing_lost_and_nothing_left(store, backend)
    finally:
        await store.aclose()


async def recovered(store: ImageStore) -> None:
    """Wait until the store works again by itself, and nothing holds what was being written."""
    while True:
        try:
            await store.check()
            if not any([blob.is_leased async for blob in store.list()]):
                return
        except TintypeError:
            pass
        await asyncio.sleep(0.1)


async def require_nothing_lost_and_nothing_left(store: ImageStore, backend: StoreBackend) -> None:
    assert await read(store, KEPT) == DATA
    with pytest.raises(BlobNotFoundError):
        await read(store, VICTIM)
    left = [blob async for blob in store.list()]
    assert [blob.key for blob in left if blob.is_committed] == [KEPT]
    for blob in left:  # as the sweep does
        await store.delete(blob.key)
    assert await backend.remains() == []
