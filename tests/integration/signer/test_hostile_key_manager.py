"""A key manager that sends too much, too slowly, or sends its caller elsewhere: unavailable, within the deadline."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.signer.barbican_settings import BarbicanSection
from services.signer.keys.barbican import BarbicanCertificates
from tests.contract.certificate_sources import UNKNOWN_ID
from tintype.domain.errors import ConfigurationError, KeyManagerUnavailableError
from tintype.runtime.bounded_http import MAX_ANSWER_BYTES

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def speaking(answer: Answer) -> Iterator[str]:
    """A server that answers everything in one way; its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):
                answer(self)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def send(status: int, content: bytes, **headers: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def drip(handler: http.server.BaseHTTPRequestHandler) -> None:
    """One byte after the other, and no end."""
    send(200, b"{")(handler)
    stopped = threading.Event()
    while not stopped.wait(0.05):
        handler.wfile.write(b" ")


def section(url: str, root: Path, **settings: object) -> BarbicanSection:
    (root / "password").write_text("password\n")
    (root / "password").chmod(0o600)
    usual = {"auth_url": f"{url}/v3", "username": "signer", "project": "images", "password_file": root / "password"}
    return BarbicanSection.model_validate({**usual, "timeout_s": 1, **settings})


async def refusal(url: str, root: Path, **settings: object) -> str:
    source = BarbicanCertificates(section(url, root, **settings), monotonic=lambda: 0.0)
    try:
        with pytest.raises(KeyManagerUnavailableError) as refused:
            await source.certificate(UNKNOWN_ID)
    finally:
        await source.aclose()
    return str(refused.value)


@pytest.mark.parametrize(
    "answer",
    [
        send(200, b""),
        send(200, b"<html>"),
        send(200, b"[]"),
        send(200, b"{}"),
        send(200, json.dumps({"versions": {"values": [None]}}).encode()),
        send(200, b"[" * 100_000),
        send(200, b" " * (MAX_ANSWER_BYTES + 1)),
        send(200, b"\x1f\x8b not gzip", Content_Encoding="gzip"),
        send(201, b"{}", X_Subject_Token="t"),
        send(401, b"{}"),
        send(404, b"{}"),
        send(429, b"{}"),
        send(500, b"\xff"),
        send(503, b"{}"),
        drip,
    ],
)
async def test_whatever_a_key_manager_answers_the_image_waits(tmp_path: Path, answer: Answer) -> None:
    with speaking(answer) as url:
        message = await refusal(url, tmp_path)
    assert "html" not in message


async def test_a_key_manager_that_redirects_gets_no_password_sent_elsewhere(tmp_path: Path) -> None:
    asked: list[str] = []

    def note(handler: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)

    with (
        speaking(note) as elsewhere,
        speaking(send(307, b"", Location=f"{elsewhere}/v3/auth/tokens")) as url,
    ):
        await refusal(url, tmp_path)
    assert asked == []


async def test_a_server_without_a_certificate_of_the_named_authorities_is_not_asked(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no authority")
    with pytest.raises(ConfigurationError, match="ca_file"):
        BarbicanCertificates(section("https://127.0.0.1:1", tmp_path, ca_file=tmp_path / "ca.pem"), monotonic=float)
    with pytest.raises(ConfigurationError, match="ca_file"):
        BarbicanCertificates(section("https://127.0.0.1:1", tmp_path, ca_file=tmp_path / "none"), monotonic=float)
