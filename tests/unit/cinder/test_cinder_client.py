"""What Cinder, or whoever answers in its place, may say."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import ValidationError

from tintype.adapters.cinder.client import CinderClient, StateConflictError
from tintype.adapters.cinder.settings import CinderStoreSettings
from tintype.adapters.cinder.volumes import Volumes
from tintype.domain.errors import (
    BlobNotFoundError,
    StoreAccessDeniedError,
    StoreBusyError,
    StoreMissingError,
    StoreQuotaExceededError,
    StoreTimeoutError,
    StoreUnavailableError,
    TintypeError,
)

PROJECT = "d0000000000000000000000000000000"


class Answering:
    """A server that gives one answer to everything."""

    def __init__(self) -> None:
        self.status, self.content, self.headers = 200, b"{}", {"Content-Type": "application/json"}
        self.seen: list[tuple[str, str | None]] = []
        answering = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answering.seen.append((self.path, self.headers.get("OpenStack-API-Version")))
                self.send_response(answering.status)
                for name, value in answering.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answering.content)))
                self.end_headers()
                self.wfile.write(answering.content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def says(self, status: int, content: object) -> None:
        self.status = status
        self.content = content if isinstance(content, bytes) else json.dumps(content).encode()


@pytest.fixture
def cinder() -> Iterator[Answering]:
    answering = Answering()
    thread = threading.Thread(target=answering.server.serve_forever, args=(0.01,))
    thread.start()
    yield answering
    answering.server.shutdown()
    thread.join()
    answering.server.server_close()


@pytest.fixture
def client(cinder: Answering) -> Iterator[CinderClient]:
    endpoint = f"http://127.0.0.1:{cinder.server.server_address[1]}/v3"
    client = CinderClient("main", CinderStoreSettings(type="cinder", endpoint=endpoint, project=PROJECT, timeout_s=10))
    yield client
    client.close()


@pytest.mark.parametrize(
    ("status", "said", "error"),
    [
        (400, "Invalid volume: status must be available", StateConflictError),
        (401, "who are you?", StoreAccessDeniedError),
        (403, "Policy doesn't allow it", StoreAccessDeniedError),
        (404, "Volume x could not be found.", BlobNotFoundError),
        (404, "Volume type with name x could not be found.", StoreMissingError),
        (409, "in use", StateConflictError),
        (413, "VolumeSizeExceedsAvailableQuota", StoreQuotaExceededError),
        (429, "slow down", StoreBusyError),
        (500, "The server has either erred", StoreUnavailableError),
        (503, "no", StoreUnavailableError),
        (504, "no", StoreTimeoutError),
    ],
)
def test_each_refusal_has_its_own_reason(
    client: CinderClient, cinder: Answering, status: int, said: str, error: type[TintypeError]
) -> None:
    cinder.says(status, {"badRequest": {"code": status, "message": said}})
    with pytest.raises(error) as caught:
        client.call("GET", "/volumes")
    assert type(caught.value) is error
    assert said in caught.value.message


@pytest.mark.parametrize("content", [b"<html>", b"[1]", b"\xff", b"[" * 100_000, b" " * (2 << 20), b"null"])
def test_an_answer_that_is_none_is_refused(client: CinderClient, cinder: Answering, content: bytes) -> None:
    cinder.says(200, content)
    with pytest.raises(StoreUnavailableError):
        client.call("GET", "/volumes")


def test_what_a_server_says_is_told_in_part_and_in_one_line(client: CinderClient, cinder: Answering) -> None:
    cinder.says(500, {"x": {"message": "a\n\x1b[31m" + "b" * 10_000}})
    with pytest.raises(StoreUnavailableError) as caught:
        client.call("GET", "/volumes")
    assert caught.value.message.isprintable() and len(caught.value.message) < 400


def test_a_redirect_is_not_followed_with_the_token(client: CinderClient, cinder: Answering) -> None:
    cinder.says(302, {})
    cinder.headers["Location"] = f"http://127.0.0.1:{cinder.server.server_address[1]}/elsewhere"
    client.call("GET", "/volumes")
    assert cinder.seen == [(f"/v3/{PROJECT}/volumes", "volume 3.54")]


@pytest.mark.parametrize(
    "page", [{"volumes": 7}, {}, {"volumes": [{"id": "x", "metadata": {"tintype_store": "main"}}] * 100}]
)
async def test_a_list_that_is_none_ends(client: CinderClient, cinder: Answering, page: object) -> None:
    cinder.says(200, page)
    volumes = Volumes("main", client, timeout_s=10, wait_s=1)
    with pytest.raises(StoreUnavailableError):
        assert [volume async for volume in volumes.matching()] == []
    await volumes.aclose()


async def test_a_list_that_repeats_itself_ends(client: CinderClient, cinder: Answering) -> None:
    identifier = "6f1c1a44-8a3e-4cf4-9d0c-0d3c1f9f0a01"
    cinder.says(200, {"volumes": [{"id": identifier}] * 100})
    volumes = Volumes("main", client, timeout_s=10, wait_s=1)
    assert [volume async for volume in volumes.matching()] == []
    assert len(cinder.seen) == 2
    await volumes.aclose()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"endpoint": "http://cinder/v3"},
        {"endpoint": "file:///etc", "project": PROJECT},
        {"endpoint": "http://user:secret@cinder/v3", "project": PROJECT},
        {"auth_url": "http://keystone/v3", "username": "tintype", "project": "images"},
        {"auth_url": "http://keystone/v3", "password_file": "/x"},
        {"auth_url": "http://keystone/v3", "password_file": "/x", "username": "tintype"},
        {"username": "tintype", "endpoint": "http://cinder/v3", "project": PROJECT},
    ],
)
def test_settings_that_do_not_say_who_asks_whom_are_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        CinderStoreSettings.model_validate({"type": "cinder", **fields})
