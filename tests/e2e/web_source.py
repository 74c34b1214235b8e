"""A web server on loopback that serves one directory at a chosen speed, for imports that must take a while."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

PIECE = 64 * 1024


@contextlib.contextmanager
def web_source(
    directory: Path, *, bytes_per_s: float | None = None, gate: threading.Event | None = None
) -> Iterator[str]:
    """Serve ``directory``; yields the URL. Behind the first piece of a file it waits until the ``gate`` is open."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = directory / Path(self.path).name
            if not path.is_file():
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(path.stat().st_size))
            self.end_headers()
            with path.open("rb") as file, contextlib.suppress(OSError):
                while piece := file.read(PIECE):
                    self.wfile.write(piece)
                    if gate:
                        gate.wait()
                    if bytes_per_s:
                        time.sleep(len(piece) / bytes_per_s)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that was killed is no error here."""

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
