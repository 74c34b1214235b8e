"""Imports by web download, against curl, sha512sum and qemu-img one after the other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import tintype.client
from benchmarks import by_hand
from benchmarks.disks import Disks
from benchmarks.measure import side_by_side, table
from benchmarks.stack import running_stack
from benchmarks.static_server import static_server
from tintype.client import Client, ImportMethod


async def import_image(client: Client, url: str, disk_format: str) -> None:
    """Import, wait until it is active, and delete it again."""
    image = await client.images.create(name="bench", disk_format=disk_format, container_format="bare")
    operation = await client.images.import_(image.id, method=ImportMethod.WEB_DOWNLOAD, uri=url)
    await client.operations.wait(operation, timeout_s=600)
    await client.images.delete(image.id)


async def report(directory: Path, disks: Disks, runs: int) -> str:
    """The table of imports."""
    rows = []
    with static_server(directory) as url, running_stack(directory) as stack:
        async with tintype.client.connect(stack.client_config) as client:
            for title, path, disk_format, plain in (
                ("web download, no conversion", disks.raw, "raw", by_hand.curl_and_hash),
                ("web download, qcow2 → raw", disks.qcow2, "qcow2", by_hand.curl_convert_and_hash),
            ):
                taken = await side_by_side(
                    runs,
                    {
                        "tintype": lambda p=path, f=disk_format: import_image(client, f"{url}/{p.name}", f),  # type: ignore[misc]
                        "by hand": lambda p=path, h=plain: h(f"{url}/{p.name}", directory),  # type: ignore[misc]
                    },
                )
                by_hand.remove(directory)
                await asyncio.sleep(1)  # the bytes of the last image are being removed
                rows.append(
                    [title, str(taken["tintype"]), str(taken["by hand"]), taken["tintype"].ratio(taken["by hand"])]
                )
    return table(["import", "Tintype, s", "curl, sha512sum, qemu-img convert, s", "ratio (goal ≤ 1.0)"], rows)
