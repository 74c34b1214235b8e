"""What somebody does without an image service: the plain tools, one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from pathlib import Path

CHUNK = 1024 * 1024


async def shell(command: str, directory: Path) -> None:
    """Run a shell line that must succeed."""
    process = await asyncio.create_subprocess_shell(command, cwd=directory, stdout=asyncio.subprocess.DEVNULL)
    if await process.wait() != 0:
        raise RuntimeError(f"failed: {command}")


async def curl_and_hash(url: str, directory: Path) -> None:
    """Download a file, then hash it."""
    await shell(f"curl -sSf -o by-hand.img {url} && sha512sum by-hand.img", directory)


async def curl_convert_and_hash(url: str, directory: Path) -> None:
    """Download a qcow2, hash it, convert it to raw, hash that."""
    await curl_and_hash(url, directory)
    convert = "qemu-img convert -f qcow2 -O raw by-hand.img by-hand.raw"
    await shell(f"{convert} && sha512sum by-hand.raw", directory)


async def durable_curl_and_hash(url: str, directory: Path) -> None:
    """Download a file, make it durable, then hash it."""
    await shell(f"curl -sSf -o by-hand.img {url} && sync by-hand.img && sha512sum by-hand.img", directory)


async def durable_curl_convert_and_hash(url: str, directory: Path) -> None:
    """Download a qcow2, hash it, convert it to raw, make that durable, hash that."""
    await curl_and_hash(url, directory)
    convert = "qemu-img convert -f qcow2 -O raw by-hand.img by-hand.raw"
    await shell(f"{convert} && sync by-hand.raw && sha512sum by-hand.raw", directory)


async def copy(source: Path, directory: Path) -> None:
    """cp."""
    await shell(f"cp {source} copied.img", directory)


async def bare_socket(source: Path, directory: Path) -> None:
    """The same bytes over a bare asyncio socket, from a file into a file."""
    received = asyncio.Event()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with (directory / "received.img").open("wb", buffering=0) as file:
            while data := await reader.read(CHUNK):
                file.write(data)
        writer.close()
        received.set()

    def send(port: int) -> None:
        with contextlib.closing(socket.create_connection(("127.0.0.1", port))) as peer, source.open("rb") as file:
            while data := file.read(CHUNK):
                peer.sendall(data)

    server = await asyncio.start_server(receive, "127.0.0.1", 0, limit=CHUNK)
    async with server:
        sender = threading.Thread(target=send, args=(server.sockets[0].getsockname()[1],))
        sender.start()
        await received.wait()
        sender.join()


def remove(directory: Path) -> None:
    """Remove what the others left."""
    for name in ("by-hand.img", "by-hand.raw", "copied.img", "received.img", "downloaded.img"):
        (directory / name).unlink(missing_ok=True)
