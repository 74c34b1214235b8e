"""A private PostgreSQL for tests: in a container, or from installed server programs; without either a loud failure."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.backends.shared_servers import in_containers, postgresql_container

START_TIMEOUT_S = 30


@contextmanager
def postgresql_server() -> Iterator[str]:
    """A running server; yields the URL of its database ``postgres``. Nothing of it is left behind."""
    if in_containers():
        with postgresql_container() as url:
            yield url
        return
    programs = _server_programs()
    if programs is None:
        pytest.fail(
            "these tests need PostgreSQL: install the server programs (Debian and Ubuntu: apt install postgresql), "
            "or start a container engine"
        )
    with _local_server(programs) as url:
        yield url


@contextmanager
def postgresql_database(server_url: str) -> Iterator[str]:
    """A database of its own on a running server; yields its URL."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    try:
        yield server_url.replace("/postgres?", f"/{name}?", 1)
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _server_programs() -> Path | None:
    """The newest directory with PostgreSQL's server programs."""
    installed = Path("/usr/lib/postgresql").glob("*/bin/initdb")  # where Debian has them, off the PATH
    newest_first = sorted(installed, key=lambda path: int(path.parts[-3]), reverse=True)
    on_path = shutil.which("initdb")
    found = newest_first or ([Path(on_path)] if on_path else [])
    return found[0].parent if found else None


@contextmanager
def _local_server(programs: Path) -> Iterator[str]:
    directory = Path(tempfile.mkdtemp(prefix="postgresql-"))
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    try:
        if user:
            shutil.chown(directory, user)
        data = directory / "data"
        init: list[str | Path] = [
            programs / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
        ]
        subprocess.run(init, check=True, user=user, cwd=directory, stdout=subprocess.DEVNULL)
        # A socket in the directory and no TCP port: nobody else can be in the way.
        options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={directory}", "-c", "fsync=off"]
        with (directory / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, *options], user=user, cwd=directory, stdout=log, stderr=log
            )
        try:
            url = f"postgresql://postgres@/postgres?host={directory}"
            _wait_until_it_answers(url, server, directory / "log")
            yield url
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _wait_until_it_answers(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end and server.poll() is None:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"PostgreSQL did not start:\n{log.read_text(errors='replace')[-2000:]}")
