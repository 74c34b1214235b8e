"""The memory that a process needs which writes an image into a store, and reads it again."""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.file_pipes import KEY, write
from tintype.adapters.store_settings import StoreSettings
from tintype.adapters.stores import open_store
from tintype.runtime.service import keep_freed_memory


async def peak_rss_mib(settings: StoreSettings, source: Path) -> float:
    """Of a process of its own, which does nothing else."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return await asyncio.get_running_loop().run_in_executor(pool, _measure, settings, source)


def _measure(settings: StoreSettings, source: Path) -> float:
    keep_freed_memory()  # as a service does
    asyncio.run(_write_and_read(settings, source))
    # And not getrusage, which gives a process its parent's peak as well.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]  # every process has one


async def _write_and_read(settings: StoreSettings, source: Path) -> None:
    store = await open_store("main", settings)
    try:
        await write(store, source)
        given = hashlib.sha256()
        async for piece in store.read(KEY):
            given.update(piece)
        with source.open("rb") as file:
            if given.digest() != hashlib.file_digest(file, "sha256").digest():
                raise RuntimeError("the store gives other bytes than it got")
    finally:
        await store.aclose()
