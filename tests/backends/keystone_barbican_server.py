"""Runs in the servers' own environment: one of Keystone and Barbican, on a socket that its parent has opened."""

from __future__ import annotations

import socket
import sys
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer


class Server(ThreadingMixIn, WSGIServer):
    """Several requests at once."""

    daemon_threads = True


def application_of(name: str, directory: str) -> Any:
    """The server's application."""
    sys.argv = sys.argv[:1]  # Keystone would read what it does not know
    if name == "keystone":
        from keystone.wsgi.api import application

        return application
    from paste import deploy

    return deploy.loadapp(f"config:{directory}/barbican-api-paste.ini")


def main(name: str, descriptor: str, directory: str) -> None:
    """Serve until ended."""
    listening = socket.socket(fileno=int(descriptor))
    server = Server(listening.getsockname(), WSGIRequestHandler, bind_and_activate=False)
    server.socket = listening
    server.server_name, server.server_port = listening.getsockname()
    server.setup_environ()
    server.set_app(application_of(name, directory))
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:4])
