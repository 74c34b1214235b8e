"""The proxy that other tests break their connections with does what it says."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import Iterator

import pytest

from tests.backends.faulty_proxy import (
    Answer,
    CorruptAnswer,
    CorruptRequest,
    CutAnswer,
    CutRequest,
    Fault,
    FaultyProxy,
    Hold,
    RewriteAnswer,
    faulty_proxy,
)

BODY = bytes(range(256)) * 1024


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with what it was sent."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[FaultyProxy]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        with faulty_proxy("127.0.0.1", server.server_port) as proxy:
            yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def put(proxy: FaultyProxy, target: str = "/", timeout_s: float = 30) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=timeout_s)
    try:
        connection.request("PUT", target, BODY)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_it_does_no_harm_until_it_is_told_to(proxy: FaultyProxy) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
    for _ in range(3):  # one connection
        connection.request("PUT", "/", BODY)
        assert connection.getresponse().read() == BODY
    connection.close()
    assert [request.method for request in proxy.requests] == ["PUT"] * 3


@pytest.mark.parametrize("fault", [CutRequest(after=1000), CutAnswer(), CutAnswer(after=1000)])
def test_a_connection_that_is_cut_is_seen_so(proxy: FaultyProxy, fault: Fault) -> None:
    proxy.add(fault)
    with pytest.raises((OSError, http.client.HTTPException)):
        put(proxy)
    assert put(proxy) == (200, BODY)


def test_an_answer_can_end_early_without_a_word(proxy: FaultyProxy) -> None:
    proxy.add(CutAnswer(after=1000, is_reset=False))
    with pytest.raises(http.client.IncompleteRead) as caught:
        put(proxy)
    assert caught.value.partial == BODY[:1000]


@pytest.mark.parametrize("fault", [CorruptRequest(at=70_000), CorruptAnswer(at=70_000)])
def test_one_bit_is_another(proxy: FaultyProxy, fault: Fault) -> None:
    proxy.add(fault)
    found = put(proxy)[1]
    assert [index for index in range(len(BODY)) if found[index] != BODY[index]] == [70_000]


def test_it_answers_for_the_server_what_it_is_told_to_and_no_oftener(proxy: FaultyProxy) -> None:
    proxy.add(Answer(matches=lambda request: request.target == "/x", status=503, body=b"slow down", skip=1))
    assert [put(proxy, target)[0] for target in ("/", "/x", "/x", "/x")] == [200, 200, 503, 200]


def test_the_head_of_an_answer_can_be_another(proxy: FaultyProxy) -> None:
    proxy.add(RewriteAnswer(rewrite=lambda head: head.replace(b" 200 OK", b" 201 OK")))
    assert put(proxy) == (201, BODY)


def test_what_is_held_or_frozen_is_not_answered(proxy: FaultyProxy) -> None:
    proxy.add(Hold())
    with pytest.raises(TimeoutError):
        put(proxy, timeout_s=0.3)
    proxy.freeze()
    with pytest.raises(TimeoutError):
        put(proxy, timeout_s=0.3)
    proxy.thaw()
    assert put(proxy) == (200, BODY)


def test_what_is_slow_takes_its_time(proxy: FaultyProxy) -> None:
    proxy.slow_down(1)
    with pytest.raises(TimeoutError):
        put(proxy, timeout_s=0.3)
    proxy.mend()
    assert put(proxy) == (200, BODY)


def test_what_is_refused_is_reset(proxy: FaultyProxy) -> None:
    proxy.refuse()
    with pytest.raises(OSError, match=r"reset|closed"):
        put(proxy)
    proxy.accept()
    assert put(proxy) == (200, BODY)
