"""Imports by web download, against curl, sha512sum and qemu-img one after the other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import tintype.client
from benchmarks import by_hand
from benchmarks.disks import Disks
from benchmarks.measure import side_by_side, table
from benchmarks.stack import RunningStack, running_stack
from benchmarks.static_server import static_server
from tintype.client import Client, ImportMethod


async def import_image(client: Client, url: str, disk_format: str) -> str:
    """Import, and wait until the image is active; its id."""
    image = await client.images.create(name="bench", disk_format=disk_format, container_format="bare")
    operation = await client.images.import_(image.id, method=ImportMethod.WEB_DOWNLOAD, uri=url)
    await client.operations.wait(operation, timeout_s=600)
    return image.id


async def remove_images(client: Client, stack: RunningStack) -> None:
    """Delete every image, and wait until its bytes are gone and the disk is quiet."""
    async for image in client.images.list():
        await client.images.delete(image.id)
    while await asyncio.to_thread(stack.stored_bytes):  # noqa: ASYNC110  # the bytes are what is waited for
        await asyncio.sleep(0.05)
    await asyncio.to_thread(os.sync)


async def report(directory: Path, disks: Disks, runs: int) -> str:
    """The table of imports."""
    rows = []
    with static_server(directory) as url, running_stack(directory) as stack:
        async with tintype.client.connect(stack.client_config) as client:

            async def settle() -> None:
                by_hand.remove(directory)
                await remove_images(client, stack)

            for title, path, disk_format, plain, durable in (
                (
                    "web download, no conversion",
                    disks.raw,
                    "raw",
                    by_hand.curl_and_hash,
                    by_hand.durable_curl_and_hash,
                ),
                (
                    "web download, qcow2 → raw",
                    disks.qcow2,
                    "qcow2",
                    by_hand.curl_convert_and_hash,
                    by_hand.durable_curl_convert_and_hash,
                ),
            ):
                source = f"{url}/{path.name}"
                contestants: dict[str, Callable[[], Awaitable[object]]] = {
                    "tintype": partial(import_image, client, source, disk_format),
                    "by hand": partial(plain, source, directory),
                    "durable": partial(durable, source, directory),
                }
                taken = await side_by_side(runs, contestants, settle)
                ours, theirs, safe = taken["tintype"], taken["by hand"], taken["durable"]
                rows.append([title, str(ours), str(theirs), ours.ratio(theirs), str(safe), ours.ratio(safe)])
    head = ["import", "Tintype, s", "by hand, s", "ratio (goal ≤ 1.0)", "by hand with sync of the result, s", "ratio"]
    return table(head, rows)
