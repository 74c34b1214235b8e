"""A router on loopback: nginx in front of all replicas, without TLS, and otherwise as deploy/router has it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tintype.embedded.directory import StackDirectory
from tintype.runtime.child_process import bound

START_TIMEOUT_S = 10
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tintype"
_UNPACKED = _CACHE / "nginx" / "usr" / "sbin" / "nginx"
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def nginx_program() -> str:
    """The path of nginx; a loud failure where there is none."""
    found = (
        str(_UNPACKED) if _UNPACKED.exists() else shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    )
    if found is None:
        pytest.fail("nginx is missing: run `tools/install-system-packages router`")
    return found


@contextmanager
def router(directory: Path, replicas: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Route each service's calls to its ``HOST:PORT``s in turn; yields the address to call."""
    program = nginx_program()
    port = StackDirectory(directory).ports(["router"])["router"]
    config = directory / "nginx.conf"
    config.write_text(_config(directory, port, replicas))
    with (directory / "nginx.log").open("ab") as log:
        process = subprocess.Popen(bound([program, "-e", "stderr", "-c", str(config)]), stdout=log, stderr=log)
    try:
        _wait_until_it_listens(process, port, directory / "nginx.log")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _config(directory: Path, port: int, replicas: Mapping[str, Sequence[str]]) -> str:
    upstreams = "\n".join(
        f"    upstream {service} {{ {_servers(addresses)} keepalive 16; }}" for service, addresses in replicas.items()
    )
    locations = "\n".join(
        f"        location /tintype.api.{service}.v1. {{ grpc_pass grpc://{service}; }}" for service in replicas
    )
    asked = " ".join(f"{service} {service};" for service in replicas)
    by_metadata = r"grpc\.health\.v1\.Health|tintype\.api\.runtime\.v1\.RuntimeService"
    temporary = "\n".join(f"    {name}_temp_path {directory / name};" for name in _TEMPORARY)
    return f"""daemon off;
worker_processes 1;
pid {directory / "nginx.pid"};
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
{temporary}
{upstreams}
    map $http_tintype_service $asked {{ default catalog; {asked} }}
    server {{
        listen 127.0.0.1:{port} http2;
        client_max_body_size 0;
        client_body_timeout 1h;
        keepalive_timeout 1h;
        keepalive_requests 1000000;
        http2_max_concurrent_streams 512;
        http2_body_preread_size 1m;
        grpc_connect_timeout 5s;
        grpc_send_timeout 1h;
        grpc_read_timeout 24h;
        grpc_buffer_size 64k;
        grpc_next_upstream error timeout;
        grpc_next_upstream_tries 3;
{locations}
        location ~ "^/({by_metadata})/" {{ grpc_pass grpc://$asked; }}
    }}
}}
"""


def _servers(addresses: Sequence[str]) -> str:
    return " ".join(f"server {address} max_fails=0;" for address in addresses)


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    pytest.fail(f"nginx did not start:\n{log.read_text(errors='replace')[-2000:]}")
