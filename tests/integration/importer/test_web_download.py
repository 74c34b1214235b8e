"""Web downloads from servers that behave, and from those that do not: a reason, a queued image, nothing left."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from services.importer.sources import connection
from tests.integration.importer.conftest import CALLER, Importer, MakeImporter, is_active
from tintype.codec.framing import WriteFrame
from tintype.domain.commands import DeleteImage
from tintype.domain.events import StagePurpose
from tintype.domain.image import OperationState
from tintype.domain.lifecycle import Status
from tintype.domain.values import Digest, DiskFormat, ImageId
from tintype.testing.events import an_id, an_image_id

DATA = random.Random(3).randbytes(3_000_000)
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """A web server on loopback that answers every path; yields its URL."""
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def speaking(*scripts: bytes, seen: list[bytes] | None = None) -> AsyncIterator[str]:
    """A server that sends each connection its script, and hangs up; the last script is for all that follow."""
    connections = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        script = scripts[min(connections, len(scripts) - 1)]
        connections += 1
        try:
            request = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            writer.close()
            return
        if seen is not None:
            seen.append(request)
        writer.write(script)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/disk"


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", *lines, "", "")).encode()


async def file(request: web.Request) -> web.StreamResponse:
    return web.Response(body=DATA)


async def refused(importer: Importer, uri: str, **options: object) -> str:
    """Import ``uri``; it fails, the image is queued, the store is empty. The reason."""
    image_id = await importer.request_import(uri, **options)  # type: ignore[arg-type]
    async with importer.working():
        image = await importer.until_ended(image_id)
        await importer.until_files(set())
    assert image.status is Status.QUEUED
    assert image.operation is not None
    assert image.operation.state is OperationState.FAILED
    assert image.failure is not None
    assert "Traceback" not in image.failure.message
    return image.failure.reason


# --- what works -------------------------------------------------------------------------------------------------------


async def test_an_import_goes_all_the_way(importer: Importer) -> None:
    async with serving(file) as url, importer.working():
        digest = Digest("sha512", hashlib.sha512(DATA).hexdigest())
        image_id = await importer.request_import(f"{url}/a%2Fb?c=d", size=len(DATA), digest=digest)
        image = await importer.until(image_id, is_active)
    assert image.data is not None
    assert image.data.blob.digests == {
        "sha256": hashlib.sha256(DATA).hexdigest(),
        "sha512": hashlib.sha512(DATA).hexdigest(),
    }
    assert await importer.read(image_id) == DATA
    assert await importer.read(image_id, 1000, 50) == DATA[1000:1050]
    await importer.until_files({f"blobs/{image.data.locations[0].key}"})


async def test_a_download_that_never_ends_holds_up_no_upload_and_no_purge(make_importer: MakeImporter) -> None:
    importer = await make_importer(concurrency=1)
    begun, ended = asyncio.Event(), asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        begun.set()
        await ended.wait()
        return response

    async with serving(endless) as url, importer.working():
        await importer.request_import(url, name="endless")
        await begun.wait()
        uploaded = await importer.create("uploaded")
        state = await importer.uploads.start(
            CALLER, uploaded, StagePurpose.UPLOAD, size=None, digest=None, request_id="r"
        )

        async def frames() -> AsyncIterator[WriteFrame]:
            yield WriteFrame(str(state.token), 0, True, DATA)

        await importer.uploads.write(CALLER, frames())
        await importer.until(uploaded, is_active)
        await importer.execute(uploaded, DeleteImage())
        await importer.until(uploaded, lambda image: image.is_purged)
        ended.set()


async def test_of_a_converted_image_the_source_goes(importer: Importer) -> None:
    async with serving(file) as url, importer.working(converts=True):
        image_id = await importer.request_import(f"{url}/disk")
        image = await importer.until(image_id, is_active)
        await importer.until_files({f"blobs/{image_id}/{an_id('import image')}/output-1"})
    assert image.data is not None
    assert await importer.read(image_id) == b"converted"


async def test_the_request_is_as_plain_as_can_be(importer: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    seen: list[bytes] = []
    script = head(f"Content-Length: {len(DATA)}", "Set-Cookie: a=b") + DATA
    async with speaking(script, seen=seen) as url, importer.working():
        await importer.until(await importer.request_import(f"{url}/a%2Fb?q=%20"), is_active)
    lines = seen[0].decode().lower().split("\r\n")
    assert seen[0].startswith(b"GET /disk/a%2Fb?q=%20 HTTP/1.1\r\n")
    assert "accept-encoding: identity" in lines
    assert not [line for line in lines if line.startswith(("cookie", "authorization", "referer"))]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(importer: Importer, status: int) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        step = int(request.path[1:])
        if step == 5:
            return web.Response(body=DATA)
        return web.Response(status=status, headers={"Location": f"/{step + 1}"})

    async with serving(answer) as url, importer.working():
        image_id = await importer.request_import(f"{url}/0")
        await importer.until(image_id, is_active)
    assert await importer.read(image_id) == DATA


async def test_a_body_without_an_announced_size_is_taken(importer: Importer) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for begin in range(0, len(DATA), 100_000):
            await response.write(DATA[begin : begin + 100_000])
        await response.write_eof()
        return response

    async with serving(answer) as url, importer.working():
        image_id = await importer.request_import(url)
        await importer.until(image_id, is_active)
    assert await importer.read(image_id) == DATA


async def test_a_broken_download_goes_on_where_it_broke(importer: Importer) -> None:
    seen: list[bytes] = []
    size, cut = len(DATA), 1_000_000
    first = head(f"Content-Length: {size}", 'ETag: "v1"') + DATA[:cut]
    rest = head(
        f"Content-Length: {size - cut}",
        f"Content-Range: bytes {cut}-{size - 1}/{size}",
        'ETag: "v1"',
        status="206 Partial Content",
    )
    async with speaking(first, rest + DATA[cut:], seen=seen) as url, importer.working():
        image_id = await importer.request_import(url)
        await importer.until(image_id, is_active)
    assert await importer.read(image_id) == DATA
    assert len(seen) == 2
    assert f"range: bytes={cut}-\r\n".encode() in seen[1].lower()
    assert b'if-range: "v1"\r\n' in seen[1].lower()


async def test_a_server_that_begins_anew_is_listened_to_from_where_it_matters(importer: Importer) -> None:
    whole = head(f"Content-Length: {len(DATA)}", 'ETag: "v1"')
    async with speaking(whole + DATA[:1_500_000], whole + DATA) as url, importer.working():
        image_id = await importer.request_import(url)
        await importer.until(image_id, is_active)
    assert await importer.read(image_id) == DATA


# --- what does not ----------------------------------------------------------------------------------------------------


async def test_a_host_that_does_not_answer(importer: Importer) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    assert await refused(importer, f"http://127.0.0.1:{port}/") == "SOURCE_UNREACHABLE"


async def test_a_name_that_does_not_resolve(importer: Importer) -> None:
    assert await refused(importer, "http://no-such-host.invalid/") == "SOURCE_UNREACHABLE"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (404, "SOURCE_NOT_FOUND"),
        (403, "SOURCE_NOT_FOUND"),
        (410, "SOURCE_NOT_FOUND"),
        (429, "SOURCE_SERVER_ERROR"),
        (500, "SOURCE_SERVER_ERROR"),
        (503, "SOURCE_SERVER_ERROR"),
        (204, "SOURCE_SERVER_ERROR"),
        (206, "SOURCE_SERVER_ERROR"),
    ],
)
async def test_a_status_that_is_no_success(importer: Importer, status: int, reason: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    async with serving(answer) as url:
        assert await refused(importer, url) == reason


async def test_a_redirect_in_a_circle(importer: Importer) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "/b" if request.path == "/a" else "/a"})

    async with serving(answer) as url:
        assert await refused(importer, f"{url}/a") == "SOURCE_REDIRECTS"


async def test_redirects_without_end(importer: Importer) -> None:
    requests = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal requests
        requests += 1
        return web.Response(status=302, headers={"Location": f"/{requests}"})

    async with serving(answer) as url:
        assert await refused(importer, f"{url}/a") == "SOURCE_REDIRECTS"
    assert requests == 6


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://169.254.169.254/latest/meta-data/", "SOURCE_FORBIDDEN"),
        ("http://[::1]:80/", "SOURCE_FORBIDDEN"),
        ("http://0.0.0.0/", "SOURCE_FORBIDDEN"),
        ("http://0x7f000001/", "SOURCE_FORBIDDEN"),
        ("http://2130706433/", "SOURCE_FORBIDDEN"),
        ("http://[64:ff9b::7f00:1]/", "SOURCE_FORBIDDEN"),
        ("file:///etc/passwd", "SOURCE_FORBIDDEN"),
        ("http://[", "SOURCE_REDIRECTS"),
        ("http://a@b/", "SOURCE_REDIRECTS"),
        ("", "SOURCE_REDIRECTS"),
    ],
)
async def test_a_redirect_to_where_nothing_is_fetched(importer: Importer, location: str, reason: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": location})

    async with serving(answer) as url:
        assert await refused(importer, url) == reason


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1"])
async def test_loopback_is_not_fetched_from_unless_allowed(make_importer: MakeImporter, host: str) -> None:
    importer = await make_importer(allowed_hosts="")
    requests: list[bytes] = []
    async with speaking(b"", seen=requests) as url:
        assert await refused(importer, url.replace("127.0.0.1", host)) == "SOURCE_FORBIDDEN"
    assert requests == []


async def test_the_address_that_was_judged_is_the_one_that_is_connected_to(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that answers differently the second time (DNS rebinding) is asked only once."""
    asked: list[str] = []
    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo

    async def rebinding(host: str, port: int, **options: object) -> list[object]:
        if host != "rebinding.example":
            return await resolve(host, port, **options)  # type: ignore[arg-type,return-value]
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "169.254.169.254"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(loop, "getaddrinfo", rebinding)
    seen: list[bytes] = []
    async with speaking(head(f"Content-Length: {len(DATA)}") + DATA, seen=seen) as url, importer.working():
        image_id = await importer.request_import(url.replace("127.0.0.1", "rebinding.example"))
        await importer.until(image_id, is_active)
    assert asked == ["rebinding.example"]
    assert b"host: rebinding.example:" in seen[0].lower()


async def test_a_body_that_is_shorter_than_announced(importer: Importer) -> None:
    async with speaking(head("Content-Length: 100000") + b"x" * 1000) as url:
        assert await refused(importer, url) == "SOURCE_INTERRUPTED"


async def test_a_body_that_stays_shorter_however_often_it_is_resumed(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = head("Content-Length: 100000", 'ETag: "v1"') + b"x" * 1000
    async with speaking(script) as url:
        assert await refused(importer, url) == "SOURCE_INTERRUPTED"


async def test_a_file_that_changes_while_it_is_downloaded(importer: Importer) -> None:
    first = head(f"Content-Length: {len(DATA)}", 'ETag: "v1"') + DATA[:1_000_000]
    other = head(f"Content-Length: {len(DATA)}", 'ETag: "v2"') + DATA[:1_000_000]
    async with speaking(first, other, first, other, other) as url:
        assert await refused(importer, url) == "SOURCE_INTERRUPTED"


@pytest.mark.parametrize("excess", [1, 5000, 1_000_000])
async def test_a_body_that_is_longer_than_announced(importer: Importer, excess: int) -> None:
    async with speaking(head(f"Content-Length: {len(DATA)}") + DATA + b"x" * excess) as url:
        assert await refused(importer, url) == "SIZE_MISMATCH"


async def test_a_small_body_that_is_longer_than_announced(importer: Importer) -> None:
    # All in one segment: what follows is no second answer, so the server does not speak HTTP.
    async with speaking(head("Content-Length: 1000") + b"x" * 5000) as url:
        assert await refused(importer, url) == "SOURCE_SERVER_ERROR"


@pytest.mark.parametrize("expected", [len(DATA) - 1, len(DATA) + 1, 0])
async def test_another_size_than_expected(importer: Importer, expected: int) -> None:
    async with serving(file) as url:
        assert await refused(importer, url, size=expected) == "SIZE_MISMATCH"


async def test_an_announced_size_beyond_the_limit_is_refused_before_the_first_byte(importer: Importer) -> None:
    async with speaking(head(f"Content-Length: {2**50}") + b"x") as url:
        assert await refused(importer, url) == "IMAGE_TOO_LARGE"


async def test_an_endless_body(make_importer: MakeImporter) -> None:
    importer = await make_importer(max_image_bytes=2_000_000)

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    async with serving(answer) as url:
        assert await refused(importer, url) == "IMAGE_TOO_LARGE"


async def test_a_wrong_digest(importer: Importer) -> None:
    async with serving(file) as url:
        assert await refused(importer, url, digest=Digest("sha256", "00" * 32)) == "DIGEST_MISMATCH"


async def test_an_empty_file(importer: Importer) -> None:
    async with speaking(head("Content-Length: 0")) as url:
        assert await refused(importer, url) == "EMPTY_IMAGE"


async def test_another_format_than_declared(importer: Importer) -> None:
    async with serving(file) as url:
        assert await refused(importer, url, disk_format=DiskFormat.QCOW2) == "FORMAT_MISMATCH"


async def test_a_compressed_answer(importer: Importer) -> None:
    async with speaking(head("Content-Length: 3", "Content-Encoding: gzip") + b"xyz") as url:
        assert await refused(importer, url) == "SOURCE_ENCODING"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"220 smtp.example.org ESMTP\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        head("X: " + "x" * 100_000),
        head(*(f"X-{number}: x" for number in range(1000))),
        head("Content-Length: -5"),
        head("Content-Length: 5", "Content-Length: 6") + b"xxxxx",
        head("Content-Length: 99999999999999999999999999"),
    ],
)
async def test_an_answer_that_is_not_http(importer: Importer, answer: bytes) -> None:
    async with speaking(answer) as url:
        assert await refused(importer, url) in ("SOURCE_SERVER_ERROR", "IMAGE_TOO_LARGE")


async def test_a_server_that_is_silent(make_importer: MakeImporter) -> None:
    importer = await make_importer(source_stall_timeout_s=0.1, source_connect_timeout_s=0.1)

    async def silent(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(3600)
        return web.Response()

    async with serving(silent) as url:
        assert await refused(importer, url) == "SOURCE_UNREACHABLE"


async def test_a_server_that_drips(make_importer: MakeImporter, monkeypatch: pytest.MonkeyPatch) -> None:
    importer = await make_importer(source_stall_timeout_s=0.2)

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 10_000_000
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.01)

    async with serving(drip) as url:
        assert await refused(importer, url) == "SOURCE_INTERRUPTED"
    assert connection.MIN_PROGRESS_SIZE > 1000


async def test_an_https_server_that_does_not_speak_tls(make_importer: MakeImporter) -> None:
    importer = await make_importer(source_connect_timeout_s=0.2, source_stall_timeout_s=0.2)
    async with serving(file) as url:
        assert await refused(importer, url.replace("http://", "https://")) == "SOURCE_CERTIFICATE"


async def test_a_deleted_image_is_purged_to_the_last_byte(importer: Importer) -> None:
    async with serving(file) as url, importer.working():
        image_id = await importer.request_import(url)
        await importer.until(image_id, is_active)
        await importer.execute(image_id, DeleteImage())
        image = await importer.until(image_id, lambda image: image.is_purged)
    assert image.status is Status.DELETED
    assert importer.files() == set()


async def test_what_a_killed_worker_left_is_removed_before_the_step_begins_anew(importer: Importer) -> None:
    image_id = await importer_with_leftover(importer)
    async with serving(file) as url, importer.working():
        await importer.request_import(url, name="other")
        await importer.until(an_image_id("other"), is_active)
        await importer.until_ended(image_id)
        await importer.until_files({name for name in importer.files() if str(an_image_id("other")) in name})


async def test_what_another_worker_may_be_about_to_record_stays_until_the_operation_ends(importer: Importer) -> None:
    seen: list[set[str]] = []

    async def look(request: web.Request) -> web.StreamResponse:
        seen.append(importer.files())
        return await file(request)

    async with serving(look) as url, importer.working():
        key = f"{an_image_id()}/{an_id('import image')}/source-slow"
        writer = await importer.store.open_write(key)
        await writer.append(b"whole")
        await writer.commit(size=5, digests={})
        image = await importer.until(await importer.request_import(url), is_active)
        assert image.data is not None
        await importer.until_files({f"blobs/{image.data.locations[0].key}"})
    assert [f"blobs/{key}" in names for names in seen] == [True]


async def importer_with_leftover(importer: Importer) -> ImageId:
    image_id = await importer.request_import("http://127.0.0.1:1/")
    writer = await importer.store.open_write(f"{image_id}/{an_id('import image')}/source-dead")
    await writer.append(b"half")
    await writer.close()
    return image_id
