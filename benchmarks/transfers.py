"""Uploads and downloads through the SDK, plain, signed and proven, against cp and a bare socket."""

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
from benchmarks.stack import running_stack


async def report(directory: Path, disks: Disks, runs: int) -> str:
    """The table of transfers."""
    with running_stack(directory) as stack:
        async with tintype.client.connect(stack.client_config) as client:
            kept = await client.images.create(name="kept", disk_format="raw", container_format="bare")
            signer = tintype.client.ServiceSigner()
            await client.operations.wait(await client.images.upload(kept.id, disks.raw, sign=signer), timeout_s=600)

            async def upload(sign: tintype.client.ServiceSigner | None) -> None:
                image = await client.images.create(name="bench", disk_format="raw", container_format="bare")
                sent = await client.images.upload(image.id, disks.raw, sign=sign)
                await client.operations.wait(sent, timeout_s=600)

            download = partial(client.images.download, kept.id, directory / "downloaded.img")

            async def settle() -> None:
                by_hand.remove(directory)
                async for image in client.images.list(name="bench"):
                    await client.images.delete(image.id)
                while await asyncio.to_thread(stack.stored_bytes) > disks.size:  # noqa: ASYNC110  # as in imports
                    await asyncio.sleep(0.05)
                await asyncio.to_thread(os.sync)

            contestants: dict[str, Callable[[], Awaitable[object]]] = {
                "upload": partial(upload, None),
                "upload, signed by the service": partial(upload, signer),
                "download": download,
                "download, signature and custody proven": partial(download, verify=tintype.client.Verify.CUSTODY),
                "cp": partial(by_hand.copy, disks.raw, directory),
                "socket": partial(by_hand.bare_socket, disks.raw, directory),
            }
            taken = await side_by_side(runs, contestants, settle)
    rows = [
        [name, str(taken[name]), taken[name].ratio(taken["cp"]), taken[name].ratio(taken["socket"])]
        for name in contestants
        if name not in ("cp", "socket")
    ]
    rows += [[name, str(taken[name]), "", ""] for name in ("cp", "socket")]
    return table(["transfer", "s", "÷ cp", "÷ bare asyncio socket, file to file"], rows)
