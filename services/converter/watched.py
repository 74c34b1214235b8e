"""Blocking work in a thread that tells how far it is, and that ends when its caller is cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
U = TypeVar("U")

Tell = Callable[[int], None]
"""Takes how many bytes are done; must be called again and again, since that is where cancelled work ends."""


class _StoppedError(Exception):
    """The caller does not wait any more."""


async def watched(work: Callable[[Tell], T], on_progress: Tell) -> T:
    """Run ``work`` in a thread. ``on_progress`` is called in the event loop with what the work tells.

    A cancellation arrives when the work has ended, so that the files which it reads and writes may be removed.
    """
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def tell(done: int) -> None:
        if stop.is_set():
            raise _StoppedError
        loop.call_soon_threadsafe(on_progress, done)

    running = asyncio.ensure_future(asyncio.to_thread(work, tell))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # seen: most often it is that of the stop
        raise


async def both(first: Coroutine[Any, Any, T], second: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """Do two things at once. Where one fails the other is cancelled, and the failure is raised as it is."""
    try:
        async with asyncio.TaskGroup() as tasks:
            doing_first, doing_second = tasks.create_task(first), tasks.create_task(second)
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    return doing_first.result(), doing_second.result()
