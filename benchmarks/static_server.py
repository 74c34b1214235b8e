"""A web server that costs next to nothing: sendfile from the page cache, in a process of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import socketserver
from collections.abc import Iterator
from pathlib import Path


class _Handler(socketserver.StreamRequestHandler):
    directory: Path

    def handle(self) -> None:
        request = self.rfile.readline().split()
        while self.rfile.readline() not in (b"\r\n", b""):
            pass
        path = self.directory / Path(request[1].decode()).name
        with path.open("rb") as file, contextlib.suppress(OSError):
            size = os.fstat(file.fileno()).st_size
            self.request.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size)
            sent = 0
            while sent < size:
                sent += os.sendfile(self.request.fileno(), file.fileno(), sent, size - sent)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def _serve(directory: Path, listener: socket.socket) -> None:
    handler = type("Handler", (_Handler,), {"directory": directory})
    server = _Server(listener.getsockname(), handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.serve_forever()


@contextlib.contextmanager
def static_server(directory: Path) -> Iterator[str]:
    """Serve ``directory``; yields the URL."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(directory, listener), daemon=True)
    process.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    try:
        yield url
    finally:
        process.terminate()
        process.join()
