"""Writing to and reading from a store, decorators included, against the system's own program on the same bytes."""

from __future__ import annotations

import asyncio
import os
import resource
from pathlib import Path

from benchmarks import by_hand
from benchmarks.disks import MIB
from benchmarks.measure import side_by_side, table
from tintype.adapters.filesystem.settings import FileStoreSettings
from tintype.adapters.stores import open_store
from tintype.ports.image_store import ImageStore

KEY = "6f1c1a44-8a3e-4cf4-9d0c-0d3c1f9f0a01/9b2d1a44-8a3e-4cf4-9d0c-0d3c1f9f0b01/bench"


async def report(directory: Path, source: Path, runs: int) -> str:
    """The table of the stores that need no server of their own, and this process's peak of memory."""
    store = await open_store("main", FileStoreSettings(path=directory / "store"))
    size = source.stat().st_size

    async def settle() -> None:
        by_hand.remove(directory)
        await asyncio.to_thread(os.sync)

    async def write_anew() -> None:
        await write(store, source)

    async def read_whole() -> None:
        await read_into(store, directory / "downloaded.img")

    try:
        taken = await side_by_side(
            runs,
            {
                "write": write_anew,
                "cp, sync": lambda: by_hand.shell(f"cp {source} copied.img && sync copied.img", directory),
                "read": read_whole,
                "cp": lambda: by_hand.copy(source, directory),
            },
            settle,
        )
    finally:
        await store.aclose()
    rate = {name: size / MIB / sample.median for name, sample in taken.items()}
    rows = [
        ["file", verb, f"{rate[verb]:.0f}", f"{rate[tool]:.0f}", taken[tool].ratio(taken[verb]), tool]
        for verb, tool in (("write", "cp, sync"), ("read", "cp"))
    ]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    head = ["store", "", "MiB/s", "native, MiB/s", "ratio of throughputs (goal ≥ 0.9)", "native tool"]
    return f"{table(head, rows)}\n\nPeak RSS with {size // MIB} MiB: {peak:.0f} MiB (goal ≤ 200)."


async def write(store: ImageStore, source: Path) -> None:
    """Put the file in the place of what an earlier run wrote."""
    writer = await store.open_write(KEY, replace=True)
    with source.open("rb") as file:
        while data := await asyncio.to_thread(file.read, MIB):
            await writer.append(data)
    await writer.commit(size=writer.offset, digests={})


async def read_into(store: ImageStore, target: Path) -> None:
    """Read the bytes into a file."""
    with target.open("wb") as file:
        async for piece in store.read(KEY):
            await asyncio.to_thread(file.write, piece)
