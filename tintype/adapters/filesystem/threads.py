"""Blocking file work in a bounded pool of threads, each call under a deadline.

A call that hangs, as on a mount whose server is gone, is given up: its caller is told, and another thread takes the
place of the one that hangs, up to a bound. When the call returns after all, what it made is undone.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from tintype.adapters.filesystem.file_errors import translated
from tintype.domain.errors import StoreTimeoutError, StoreUnavailableError

R = TypeVar("R")

TIMEOUT_S = 30.0
MAX_HUNG = 32
"""So many hung threads are replaced; with more of them the pool shrinks, and calls fail at their deadline."""


class _Job:
    """One call: waiting, running in a thread, done, or given up."""

    def __init__(self, work: Callable[[], Any], undo: Callable[[Any], None] | None) -> None:
        self._work = work
        self._undo = undo
        self._lock = threading.Lock()
        self._is_done = self._is_given_up = False
        self.thread: threading.Thread | None = None
        self.future: Future[Any] = Future()

    def run(self) -> bool:
        """Do it, unless it is given up; ``True`` if that happened while it ran."""
        if not self._begin():
            return False
        result: Any = None
        error: BaseException | None = None
        try:
            result = self._work()
        except BaseException as exc:
            error = exc
        with self._lock:
            self._is_done = True
            was_given_up = self._is_given_up
        if was_given_up:
            self._take_back(result, error)
        elif error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)
        return was_given_up

    def _begin(self) -> bool:
        with self._lock:
            if not self._is_given_up:
                self.thread = threading.current_thread()
            return not self._is_given_up

    def give_up(self) -> bool:
        """Nobody waits for it any more; ``False`` if it is done by now."""
        with self._lock:
            self._is_given_up = not self._is_done
            return self._is_given_up

    def _take_back(self, result: Any, error: BaseException | None) -> None:
        if error is None and self._undo is not None:
            try:
                self._undo(result)
            except OSError:
                return  # nobody is left to be told


class FileThreads:
    """The threads of one store."""

    def __init__(self, store: str, *, count: int, timeout_s: float = TIMEOUT_S, max_hung: int = MAX_HUNG) -> None:
        self._store = store
        self._count = count
        self._timeout_s = timeout_s
        self._max_hung = max_hung
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._hung = 0
        self._is_closed = False

    @property
    def hung(self) -> int:
        """How many calls were given up and have not returned."""
        return self._hung

    async def run(
        self,
        work: Callable[[], R],
        *,
        undo: Callable[[R], None] | None = None,
        timeout_s: float | None = None,
    ) -> R:
        """Do ``work`` in a thread. A cancelled caller waits for it to end, because it may be using a descriptor.

        What it made, such as an open file, then belongs to nobody: ``undo`` takes it back.

        Raises:
            StoreTimeoutError: it did not end in time; what it uses may be in use for longer.
            StoreFullError, StoreUnavailableError: the operating system refused; see :mod:`.file_errors`.
        """
        end = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        job = _Job(work, undo)
        self._submit(job)
        waiting: asyncio.Future[R] = asyncio.wrap_future(job.future)
        try:
            await _settled(waiting, end)
        except asyncio.CancelledError:
            await self._end_of_cancelled(job, waiting, end, undo)
            raise
        if not waiting.done() and self._give_up(job):
            raise StoreTimeoutError(f"store {self._store!r} did not answer in time")
        try:
            return await waiting
        except OSError as exc:
            raise translated(self._store, exc) from exc

    def close(self) -> None:
        """End the threads once their work is done; one that hangs is not waited for."""
        with self._lock:
            self._is_closed = True
            threads = list(self._threads)
        for _ in threads:
            self._jobs.put(None)
        end = time.monotonic() + self._timeout_s
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()) if not self._hung else 0.1)

    def _submit(self, job: _Job) -> None:
        with self._lock:
            if self._is_closed:
                raise StoreUnavailableError(f"store {self._store!r} is closed")
            self._start_one()
        self._jobs.put(job)

    def _start_one(self) -> None:
        if len(self._threads) < self._count:
            thread = threading.Thread(target=self._work, name=f"store-{self._store}", daemon=True)
            self._threads.add(thread)
            thread.start()

    def _work(self) -> None:
        this = threading.current_thread()
        while (job := self._jobs.get()) is not None:
            has_hung = job.run()
            with self._lock:
                self._hung -= has_hung
                if this not in self._threads:
                    return  # it hung, and another one has taken its place
        with self._lock:
            self._threads.discard(this)

    def _give_up(self, job: _Job) -> bool:
        with self._lock:
            if not job.give_up():
                return False
            if job.thread is not None:
                self._hung += 1
                if self._hung <= self._max_hung and not self._is_closed:
                    self._threads.discard(job.thread)
                    self._start_one()  # others may be waiting
        return True

    async def _end_of_cancelled(
        self, job: _Job, waiting: asyncio.Future[R], end: float, undo: Callable[[R], None] | None
    ) -> None:
        await _settled(waiting, end)
        if not waiting.done() and self._give_up(job):
            return
        # Looking at the error is also what marks it as seen: the caller is gone.
        if (await _outcome(waiting)) is None and undo is not None:
            result = waiting.result()
            await self.run(lambda: undo(result))


async def _settled(waiting: asyncio.Future[R], end: float) -> None:
    await asyncio.wait([waiting], timeout=max(0.0, end - time.monotonic()))


async def _outcome(waiting: asyncio.Future[R]) -> BaseException | None:
    await asyncio.wait([waiting])
    return waiting.exception()
