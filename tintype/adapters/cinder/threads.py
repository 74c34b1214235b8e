"""Blocking calls in bounded pools of threads, given up at a deadline: one that hangs keeps its thread, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from tintype.domain.errors import StoreTimeoutError

R = TypeVar("R")


async def in_thread(pool: Executor, work: Callable[[], R], *, timeout_s: float, what: str) -> R:
    """Do ``work`` in a thread of ``pool``; who waits no longer leaves it to end by itself.

    Raises:
        StoreTimeoutError: it took longer than ``timeout_s``.
    """
    future = asyncio.get_running_loop().run_in_executor(pool, work)
    future.add_done_callback(_looked_at)
    try:
        async with asyncio.timeout(timeout_s):
            return await asyncio.shield(future)
    except TimeoutError as exc:
        raise StoreTimeoutError(f"{what} took longer than {timeout_s:g} s") from exc


def _looked_at(future: asyncio.Future[R]) -> None:
    """An error that nobody waits for any more is no surprise."""
    if not future.cancelled():
        future.exception()
