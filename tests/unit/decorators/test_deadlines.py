"""Calls that hang."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.decorators.failing_store import KEY, FailingStore, put, read
from tintype.adapters.decorators.deadlines import Deadlines
from tintype.domain.errors import BlobNotFoundError, StoreTimeoutError

SOON_S = 0.01
LONG_S = 60.0


async def test_nobody_waits_for_a_call_that_hangs_however_deep() -> None:
    inner = FailingStore()
    inner.hang = asyncio.Event()
    store = Deadlines(inner, SOON_S)
    with pytest.raises(StoreTimeoutError):
        await store.check()
    inner.hang.set()
    await store.aclose()


async def test_a_writer_that_was_opened_too_late_is_closed() -> None:
    inner = FailingStore()
    inner.hang = asyncio.Event()
    store = Deadlines(inner, SOON_S)
    with pytest.raises(StoreTimeoutError):
        await store.open_write(KEY)
    inner.hang.set()
    await store.aclose()
    assert inner.calls == ["open_write", "close"]


async def test_a_write_ends_only_when_no_late_call_is_at_it_any_more() -> None:
    inner = FailingStore()
    store = Deadlines(inner, SOON_S)
    writer = await store.open_write(KEY)
    inner.hang = asyncio.Event()
    with pytest.raises(StoreTimeoutError):
        await writer.append(b"late")
    with pytest.raises(StoreTimeoutError):
        await writer.abort()
    assert inner.calls == ["open_write", "append"]
    inner.hang.set()
    await store.aclose()
    assert inner.calls == ["open_write", "append", "abort"]
    with pytest.raises(BlobNotFoundError):
        await inner.stat(KEY)


async def test_bytes_that_were_written_late_are_not_written_twice() -> None:
    inner = FailingStore()
    store = Deadlines(inner, 1.0)
    writer = await store.open_write(KEY)
    inner.hang = asyncio.Event()
    appending = asyncio.create_task(writer.append(b"late"))
    while "append" not in inner.calls:
        await asyncio.sleep(0)
    appending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await appending
    inner.hang.set()
    with pytest.raises(StoreTimeoutError, match="after their time"):
        await writer.append(b"late")
    await writer.close()
    assert (await store.stat(KEY)).size == 4


async def test_what_keeps_its_time_passes() -> None:
    store = Deadlines(FailingStore(), LONG_S)
    await put(store, b"0123456789")
    assert await read(store, 2, 5) == b"23456"
    await store.delete(KEY)
    assert [blob async for blob in store.list()] == []
    await store.aclose()
