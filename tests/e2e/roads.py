"""Going the road of an image as a user does, and looking at what came of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.web_source import web_source
from tintype.client import Client, Image, ImportMethod, Status

DEADLINE_S = 60


async def imported(
    client: Client, directory: Path, content: bytes, disk_format: str, container_format: str = "bare", **more: Any
) -> Image:
    """The image that becomes of these bytes."""
    image = await client.images.create(name="image", disk_format=disk_format, container_format=container_format, **more)
    (directory / "source").write_bytes(content)
    with web_source(directory) as url:
        operation = await client.images.import_(image.id, method=ImportMethod.WEB_DOWNLOAD, uri=f"{url}/source")
        await client.operations.wait(operation, timeout_s=DEADLINE_S)
    image = await client.images.get(image.id)
    assert image.status is Status.ACTIVE
    return image


async def happened(client: Client, image: Image, kind: type) -> Any:
    """The event of this kind in the image's history."""
    (found,) = [each.payload async for each in client.images.history(image.id) if isinstance(each.payload, kind)]
    return found


async def downloaded(client: Client, image: Image, directory: Path) -> bytes:
    """The image's bytes, verified."""
    await client.images.download(image.id, directory / "copy")
    return (directory / "copy").read_bytes()


def values(image: Image) -> dict[str, object]:
    """The facts without their sources."""
    return {key: fact.value for key, fact in image.read_facts.items()}


def offline(path: Path, *options: str) -> dict[str, Any]:
    """What `tintype inspect` says of a local file."""
    command = [sys.executable, "-m", "tintype.cli", "inspect", str(path), "--output", "json", *options]
    answer: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=100).stdout)
    return answer
