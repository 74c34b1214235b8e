"""One thread for a library that may not be called from two at once, and that may never come back."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class OneThread:
    """Runs calls one after the other. Nobody waits for the thread: a call that hangs does not keep the process."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def run(self, work: Callable[[], T], timeout_s: float) -> T:
        """What ``work`` returns; a call whose time is up before its turn is never begun.

        Raises:
            TimeoutError: it did not come back in time.
        """
        call: Future[T] = Future()
        self._calls.put((call, work))
        async with asyncio.timeout(timeout_s):
            return await asyncio.wrap_future(call)

    def _work(self) -> None:
        while True:
            call, work = self._calls.get()
            if not call.set_running_or_notify_cancel():
                continue
            try:
                call.set_result(work())
            except BaseException as exc:
                call.set_exception(exc)
