"""NATS servers that Tintype refuses: too old, with a stream that somebody changed, with an expired certificate."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tintype.adapters.nats.connection import NatsConnection, NatsSettings
from tintype.adapters.nats.server import ServerTls, server_binary
from tintype.codec.streams import MINIMUM_SERVER_VERSION
from tintype.codec.subjects import EVERY_EVENT, STREAM

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tintype" / "old-nats"
PROGRAM = CACHE / "usr" / "sbin" / "nats-server"
START_TIMEOUT_S = 60


@contextmanager
def old_nats_server(directory: Path) -> Iterator[tuple[str, str]]:
    """The distribution's own, unpacked for the tests and never installed; yields its URL and its version.

    The URL is empty where that one is new enough.
    """
    version = _version()
    if tuple(map(int, version.split(".")[:2])) >= MINIMUM_SERVER_VERSION:
        yield "", version
        return
    with _running([str(PROGRAM), "-a", "127.0.0.1", "-p", "-1"], directory) as url:
        yield url, version


@contextmanager
def changed_nats_server(directory: Path, **flags: object) -> Iterator[str]:
    """One whose stream of events has other flags than Tintype gives it; yields its URL."""
    command = [server_binary(), "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", str(directory / "data")]
    with _running(command, directory) as url:
        asyncio.run(_make_stream(url, {"name": STREAM, "subjects": [EVERY_EVENT], "storage": "file", **flags}))
        yield url


async def _make_stream(url: str, config: Mapping[str, object]) -> None:
    connection = await NatsConnection.open(NatsSettings((url,), connect_timeout_s=START_TIMEOUT_S))
    answer = await connection.api(f"STREAM.CREATE.{STREAM}", config)
    await connection.close()
    assert "error" not in answer, answer


@contextmanager
def encrypted_nats_server(directory: Path, tls: ServerTls) -> Iterator[str]:
    """One that shows whatever certificate it is given; yields its URL."""
    with configured_nats_server(directory, tls.configuration()) as url:
        yield url


@contextmanager
def configured_nats_server(directory: Path, more: str) -> Iterator[str]:
    """One on loopback with more in its configuration; yields its URL."""
    config = directory / "nats-server.conf"
    config.write_text(f"host: 127.0.0.1\nport: -1\n{more}")
    with _running([server_binary(), "-c", str(config)], directory) as url:
        yield url


@contextmanager
def _running(command: Sequence[str], directory: Path) -> Iterator[str]:
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--ports_file_dir", str(directory)], stdout=log, stderr=log)
    try:
        yield _url(directory, process)
    finally:
        process.kill()
        process.wait()


def _version() -> str:
    if not PROGRAM.exists():
        _unpack()
    answer = subprocess.run([str(PROGRAM), "--version"], check=True, capture_output=True, text=True, timeout=60).stdout
    found = re.search(r"v(\d+\.\d+\.\d+)", answer)
    assert found, answer
    return found[1]


def _unpack() -> None:
    """Unpack the distribution's package, which needs a network once; from then on it is kept."""
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE.parent) as work:
        command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", "nats-server"]
        subprocess.run(command, cwd=work, check=True, timeout=100)
        (package,) = Path(work).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", str(package), str(Path(work) / "unpacked")], check=True, timeout=60)
        try:
            (Path(work) / "unpacked").rename(CACHE)
        except OSError:  # another worker was faster
            if not PROGRAM.exists():
                raise


def _url(directory: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        for path in directory.glob("*.ports"):
            try:
                return str(json.loads(path.read_text())["nats"][0])
            except (ValueError, KeyError, IndexError):
                pass  # not yet written to its end
        assert process.poll() is None, (directory / "log").read_text()
        assert time.monotonic() < deadline, "nats-server did not start"
        time.sleep(0.02)
