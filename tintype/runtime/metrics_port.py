"""HTTP for Prometheus and for probes: ``/metrics``, ``/livez`` and ``/readyz``, on a port of its own.

It runs in threads, so that it answers also while the event loop stands still: ``/livez`` tells just that. Anybody may
call who reaches the port: there are few places, a request has little time, and nothing of it is read but its first line
and its headers.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from socketserver import TCPServer
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, make_wsgi_app

from tintype.domain.errors import ConfigurationError
from tintype.runtime.health_port import Readiness

log = structlog.get_logger(__name__)

MAX_REQUESTS = 8
"""At once; who comes then is turned away."""

REQUEST_TIMEOUT_S = 10.0
"""From its first byte to the last one of the answer."""

LOOP_TIMEOUT_S = 5.0
"""How long the event loop may stand still without being taken for dead."""

_POLL_S = 0.2

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@asynccontextmanager
async def metrics_port(listen: str, readiness: Readiness, registry: CollectorRegistry = REGISTRY) -> AsyncIterator[str]:
    """Answer while the context lasts; yields the address, with the port that was taken.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    host, _, port = listen.rpartition(":")
    app = make_app(readiness, asyncio.get_running_loop(), registry)
    try:
        server = await asyncio.to_thread(BoundedServer, host.removeprefix("[").removesuffix("]"), int(port), app)
    except OSError as exc:
        raise ConfigurationError(f"metrics_listen: {listen} cannot be listened on: {exc.strerror}") from exc
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), name="metrics", daemon=True)
    thread.start()
    try:
        yield f"{host}:{server.server_port}"
    finally:
        await asyncio.to_thread(server.close)
        await asyncio.to_thread(thread.join)


def make_app(readiness: Readiness, loop: asyncio.AbstractEventLoop, registry: CollectorRegistry = REGISTRY) -> App:
    """The three paths, as a WSGI application."""
    metrics: App = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            match environ["PATH_INFO"]:
                case "/metrics":
                    return metrics(environ, start_response)
                case "/livez":
                    status = _status(_is_alive(loop))
                case "/readyz":
                    status = _status(readiness.is_ready)
                case _:
                    status = "404 Not Found"
        except Exception:  # what is measured is asked of many parts: none of them may end the thread
            log.exception("metrics were not told")
            status = "500 Internal Server Error"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{status.partition(' ')[2].lower()}\n".encode()]

    return app


def _status(is_well: bool) -> str:
    return "200 OK" if is_well else "503 Service Unavailable"


def _is_alive(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the event loop runs what it is given."""
    seen = threading.Event()
    try:
        loop.call_soon_threadsafe(seen.set)
    except RuntimeError:  # it is closed
        return False
    return seen.wait(LOOP_TIMEOUT_S)


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:
        """Tell nobody: probes come every few seconds."""


class BoundedServer(WSGIServer):
    """Listens at once; :meth:`serve_forever` answers a few requests at a time, each for a limited time."""

    request_queue_size = 32

    def __init__(self, host: str, port: int, app: App) -> None:
        """Listen on that address.

        Raises:
            OSError: it cannot be listened on.
        """
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family = found[0][0]
        self._pool = ThreadPoolExecutor(MAX_REQUESTS, thread_name_prefix="metrics")
        self._lock = threading.Lock()
        self._deadlines: dict[socket.socket, float] = {}
        super().__init__(found[0][4], _Handler)  # type: ignore[arg-type]  # host and port come first, in IPv6 too
        self.set_app(app)

    def server_bind(self) -> None:
        """Bind; the name that ``HTTPServer`` would ask the resolver for is of no use to anybody."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Have it answered in a thread, if there is one."""
        with self._lock:
            has_place = len(self._deadlines) < MAX_REQUESTS
            if has_place:
                self._deadlines[request] = time.monotonic() + REQUEST_TIMEOUT_S
        if has_place:
            self._pool.submit(self._answer, request, client_address)
        else:
            self.shutdown_request(request)

    def service_actions(self) -> None:
        """Cut off whoever takes too long; called again and again while serving."""
        now = time.monotonic()
        with self._lock:
            for request, deadline in self._deadlines.items():
                if now > deadline:
                    _cut_off(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a connection that breaks is its client's affair."""

    def close(self) -> None:
        """Stop, and cut off whoever is being answered."""
        self.shutdown()
        with self._lock:
            for request in self._deadlines:
                _cut_off(request)
        self._pool.shutdown()
        self.server_close()

    def _answer(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception:
            self.handle_error(request, client_address)
        finally:
            with self._lock:  # first, so that nobody cuts off a socket of another that has its number
                del self._deadlines[request]
            self.shutdown_request(request)


def _cut_off(request: socket.socket) -> None:
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)
