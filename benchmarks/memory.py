"""The memory of each service, and the stalls of its event loop, during a large import with conversion."""

from __future__ import annotations

import subprocess
from pathlib import Path

import tintype.client
from benchmarks.disks import MIB, make_sparse_raw
from benchmarks.imports import import_image
from benchmarks.measure import table
from benchmarks.stack import SERVICES, longest_stalls_ms, running_stack
from benchmarks.static_server import static_server

SIZE = 4096 * MIB


async def report(directory: Path) -> str:
    """The table of peaks."""
    raw = make_sparse_raw(directory / "large.raw", SIZE, SIZE)
    qcow2 = directory / "large.qcow2"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(qcow2)], check=True)
    raw.unlink()
    with static_server(directory) as url, running_stack(directory) as stack:
        async with tintype.client.connect(stack.client_config) as client:
            await import_image(client, f"{url}/{qcow2.name}", "qcow2")
        peaks = {name: stack.peak_rss_mib(name) for name in SERVICES}
    qcow2.unlink()
    stalls = longest_stalls_ms(directory)
    rows = [[name, f"{peaks[name]:.0f}", f"{stalls.get(name, 0):.0f}"] for name in SERVICES]
    return table(["service", "peak RSS, MiB (goal ≤ 200)", "longest stall of the event loop, ms (goal ≤ 50)"], rows)
