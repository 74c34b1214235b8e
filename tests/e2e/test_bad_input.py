"""What must not become an image does not: a clear reason, the image queued again, nothing left in the store."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tintype.client
from tests.e2e.stack import Stack, stored_files
from tests.e2e.web_source import web_source
from tintype.client import Client, ImportMethod, Operation, OperationFailedError, Status

DEADLINE_S = 60


async def import_(client: Client, uri: str, disk_format: str = "qcow2", **expected: object) -> tuple[str, Operation]:
    image = await client.images.create(name="bad", disk_format=disk_format, container_format="bare")
    operation = await client.images.import_(image.id, method=ImportMethod.WEB_DOWNLOAD, uri=uri, **expected)  # type: ignore[arg-type]
    with contextlib.suppress(OperationFailedError):
        await client.operations.wait(operation, timeout_s=DEADLINE_S)
    return image.id, await client.operations.get(operation)


async def is_refused(stack: Stack, client: Client, uri: str, reason: str, **options: object) -> None:
    """The import fails with ``reason``; the image is queued, says why, and owns no byte."""
    image_id, operation = await import_(client, uri, **options)  # type: ignore[arg-type]
    assert operation.failure is not None
    assert operation.failure.reason == reason, operation.failure
    image = await client.images.get(image_id)
    assert image.status is Status.QUEUED
    assert image.failure == operation.failure
    async with asyncio.timeout(DEADLINE_S):
        while any(image_id in name for name in stored_files(stack)):
            await asyncio.sleep(0.05)
    await client.images.delete(image_id)


@contextlib.contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Answers each connection with whatever ``answer`` sends."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer, contextlib.suppress(OSError):
                peer.recv(65536)
                answer(peer)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/disk.qcow2"
    finally:
        listener.close()


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


async def test_a_host_that_does_not_answer(stack: Stack, client: Client) -> None:
    await is_refused(stack, client, f"http://127.0.0.1:{closed_port()}/disk", "SOURCE_UNREACHABLE")


async def test_a_file_that_is_not_there(stack: Stack, client: Client, disks: Path) -> None:
    with web_source(disks) as url:
        await is_refused(stack, client, f"{url}/nothing", "SOURCE_NOT_FOUND")


async def test_a_redirect_loop(stack: Stack, client: Client) -> None:
    def redirect(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 302 Found\r\nLocation: /disk.qcow2\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with raw_server(redirect) as url:
        await is_refused(stack, client, url, "SOURCE_REDIRECTS")


async def test_a_redirect_to_an_address_that_is_not_public(stack: Stack, client: Client) -> None:
    def redirect(peer: socket.socket) -> None:
        head = "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest/meta-data\r\nContent-Length: 0\r\n\r\n"
        peer.sendall(head.encode())

    with raw_server(redirect) as url:
        await is_refused(stack, client, url, "SOURCE_FORBIDDEN")


@pytest.mark.parametrize(
    "uri",
    ["http://169.254.169.254/", "http://[::1]/", "http://0.0.0.0/", "http://10.0.0.1/", "http://[64:ff9b::7f00:1]/"],
)
async def test_an_address_that_is_not_public(stack: Stack, client: Client, uri: str) -> None:
    await is_refused(stack, client, uri, "SOURCE_FORBIDDEN")


async def test_a_body_that_is_shorter_than_announced(stack: Stack, client: Client) -> None:
    def cut(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 1000)

    with raw_server(cut) as url:
        await is_refused(stack, client, url, "SOURCE_INTERRUPTED", disk_format="raw")


async def test_a_body_that_is_larger_than_expected(stack: Stack, client: Client, disks: Path) -> None:
    with web_source(disks) as url:
        await is_refused(stack, client, f"{url}/disk.raw", "SIZE_MISMATCH", disk_format="raw", expected_size=4096)


async def test_other_bytes_than_expected(stack: Stack, client: Client, disks: Path) -> None:
    digest = "sha256:" + hashlib.sha256(b"other").hexdigest()
    with web_source(disks) as url:
        await is_refused(stack, client, f"{url}/disk.raw", "DIGEST_MISMATCH", disk_format="raw", expected_digest=digest)


@pytest.mark.parametrize("declared", ["raw", "vmdk", "vdi", "vhd", "vhdx"])
async def test_another_format_than_declared(stack: Stack, client: Client, disks: Path, declared: str) -> None:
    with web_source(disks) as url:
        await is_refused(stack, client, f"{url}/disk.qcow2", "FORMAT_MISMATCH", disk_format=declared)


async def test_an_empty_file(stack: Stack, client: Client, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with web_source(tmp_path) as url:
        await is_refused(stack, client, f"{url}/empty", "EMPTY_IMAGE", disk_format="raw")


async def test_a_truncated_qcow2(stack: Stack, client: Client, disks: Path, tmp_path: Path) -> None:
    whole = (disks / "disk.qcow2").read_bytes()
    (tmp_path / "cut.qcow2").write_bytes(whole[: len(whole) // 2])
    with web_source(tmp_path) as url:
        await is_refused(stack, client, f"{url}/cut.qcow2", "TRUNCATED")


async def test_an_import_into_an_image_of_an_absurd_name_is_never_begun(client: Client) -> None:
    with pytest.raises(tintype.client.ClientError) as refused:
        await client.images.create(name="x" * 256, disk_format="raw", container_format="bare")
    assert refused.value.reason == "INVALID_NAME"


async def test_an_absurd_size_is_never_begun(client: Client) -> None:
    image = await client.images.create(name="bad", disk_format="raw", container_format="bare")
    with pytest.raises(tintype.client.ClientError) as refused:
        await client.images.import_(
            image.id, method=ImportMethod.WEB_DOWNLOAD, uri="http://127.0.0.1/", expected_size=2**62
        )
    assert refused.value.reason == "IMAGE_TOO_LARGE"
