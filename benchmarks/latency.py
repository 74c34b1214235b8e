"""How long a small image takes from creation to active, one after the other."""

from __future__ import annotations

import os
import time
from pathlib import Path

import tintype.client
from benchmarks.disks import MIB
from benchmarks.measure import percentile, table
from benchmarks.stack import running_stack

IMAGES = 200


async def report(directory: Path) -> str:
    """The table of latencies."""
    small = directory / "small.raw"
    small.write_bytes(os.urandom(MIB))
    taken_ms: list[float] = []
    with running_stack(directory) as stack:
        async with tintype.client.connect(stack.client_config) as client:
            for _ in range(IMAGES):
                begin = time.perf_counter()
                image = await client.images.create(name="small", disk_format="raw", container_format="bare")
                await client.operations.wait(await client.images.upload(image.id, small))
                taken_ms.append((time.perf_counter() - begin) * 1000)
    row = [f"create, upload, active ({IMAGES} images)"]
    row += [f"{percentile(taken_ms, percent):.0f}" for percent in (50, 99)]
    return table(["1 MiB image", "p50, ms", "p99, ms"], [row])
