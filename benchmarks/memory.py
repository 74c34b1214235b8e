"""The memory of each service, and the stalls of its event loop, during a large import with conversion."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import subprocess
from collections.abc import Iterator
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import tintype.client
from benchmarks.disks import MIB, make_sparse_raw
from benchmarks.imports import import_image
from benchmarks.measure import table
from benchmarks.stack import SERVICES, longest_stalls_ms, running_stack
from benchmarks.static_server import static_server
from tintype.runtime.loop_stalls import INTERVAL_S

SIZE = 4096 * MIB


@contextlib.contextmanager
def idle_loop() -> Iterator[Synchronized[float]]:
    """An event loop that does nothing, in a process of its own: how long the machine lets it stand still, in ms."""
    context = multiprocessing.get_context("spawn")
    longest = context.Value("d", 0.0)
    process = context.Process(target=_idle, args=(longest,), daemon=True)
    process.start()
    try:
        yield longest
    finally:
        process.terminate()
        process.join()


def _idle(longest: Synchronized[float]) -> None:
    asyncio.run(_measure_stalls(longest))


async def _measure_stalls(longest: Synchronized[float]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + INTERVAL_S
        await asyncio.sleep(INTERVAL_S)
        longest.value = max(longest.value, (loop.time() - due) * 1000)


async def report(directory: Path) -> str:
    """The table of peaks."""
    raw = make_sparse_raw(directory / "large.raw", SIZE, SIZE)
    qcow2 = directory / "large.qcow2"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(qcow2)], check=True)
    raw.unlink()
    with static_server(directory) as url, running_stack(directory) as stack, idle_loop() as control:
        async with tintype.client.connect(stack.client_config) as client:
            await import_image(client, f"{url}/{qcow2.name}", "qcow2")
        peaks = {name: stack.peak_rss_mib(name) for name in SERVICES}
    qcow2.unlink()
    stalls = longest_stalls_ms(directory)
    rows = [[name, f"{peaks[name]:.0f}", f"{stalls.get(name, 0):.0f}"] for name in SERVICES]
    rows.append(["*an idle loop beside them*", "", f"{control.value:.0f}"])
    measured = table(["service", "peak RSS, MiB (goal ≤ 200)", "longest stall of the event loop, ms (goal ≤ 50)"], rows)
    note = "An idle event loop that does nothing stands still as long as most services do: what exceeds it is ours."
    return f"{measured}\n\n{note}"
