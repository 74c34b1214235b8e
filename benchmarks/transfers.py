"""Uploads and downloads through the SDK, against cp and a bare socket."""

from __future__ import annotations

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
            images: list[str] = []

            async def upload() -> None:
                image = await client.images.create(name="bench", disk_format="raw", container_format="bare")
                await client.operations.wait(await client.images.upload(image.id, disks.raw), timeout_s=600)
                images.append(image.id)

            async def download() -> None:
                await client.images.download(images[0], directory / "downloaded.img")

            await upload()
            taken = await side_by_side(
                runs,
                {
                    "upload": upload,
                    "download": download,
                    "cp": lambda: by_hand.copy(disks.raw, directory),
                    "socket": lambda: by_hand.bare_socket(disks.raw, directory),
                },
            )
            by_hand.remove(directory)
    rows = [
        [name, str(taken[name]), taken[name].ratio(taken["cp"]), taken[name].ratio(taken["socket"])]
        for name in ("upload", "download")
    ]
    rows += [[name, str(taken[name]), "", ""] for name in ("cp", "socket")]
    return table(["transfer", "s", "÷ cp", "÷ bare asyncio socket, file to file"], rows)
