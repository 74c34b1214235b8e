"""Threads beside each other, each of which sees all bytes of an image in their order: one for every hash, and so on."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

R = TypeVar("R")


class Lane:
    """One thread that does the same with every piece, in order."""

    def __init__(self, work: Callable[[bytes | memoryview], None]) -> None:
        self._work = work
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="one-pass")

    def submit(self, pieces: Sequence[bytes | memoryview]) -> asyncio.Future[None]:
        """Begin with the next pieces."""
        return asyncio.get_running_loop().run_in_executor(self._thread, self._do, pieces)

    def _do(self, pieces: Sequence[bytes | memoryview]) -> None:
        for data in pieces:
            self._work(data)

    async def run(self, function: Callable[[], R]) -> R:
        """Do something else, after what was submitted."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def close(self) -> None:
        """End once all that was submitted is done."""
        self._thread.shutdown(wait=False)


class Digests:
    """Several hashes of the same bytes, each in a lane of its own."""

    def __init__(self, algorithms: Iterable[str]) -> None:
        self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in sorted(algorithms)}
        self.lanes = [Lane(taken.update) for taken in self._hashes.values()]

    def submit(self, pieces: Sequence[bytes | memoryview]) -> list[asyncio.Future[None]]:
        """Hash the next pieces."""
        return [lane.submit(pieces) for lane in self.lanes]

    def hex(self) -> dict[str, str]:
        """The digests of all that was hashed: algorithm → lower-case hex."""
        return {name: taken.hexdigest() for name, taken in self._hashes.items()}

    def close(self) -> None:
        """End the lanes."""
        for lane in self.lanes:
            lane.close()
