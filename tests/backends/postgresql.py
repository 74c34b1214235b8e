"""A private PostgreSQL for tests: in a container, or from installed server programs; without either a loud failure."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.backends.ports import free_port
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
def encrypted_postgresql_server(certificates: Path) -> Iterator[str]:
    """A server on loopback that shows ``tls.crt`` of a directory, and lets in whoever shows one of ``ca.crt``.

    Yields the URL of its database ``postgres``, which asks for the server's certificate to be verified.
    """
    programs = _server_programs()
    if programs is None:
        pytest.fail("this test needs PostgreSQL's server programs on this machine")
    port = free_port()
    with _directory() as (directory, user):
        data = _initialized(programs, directory, user)
        for name in ("tls.crt", "tls.key", "ca.crt"):
            shutil.copyfile(certificates / name, data / name)
            (data / name).chmod(0o600)
            if user:
                shutil.chown(data / name, user)
        files = {"ssl_cert_file": "tls.crt", "ssl_key_file": "tls.key", "ssl_ca_file": "ca.crt"}
        rules = "local all all trust\nhostssl all all 127.0.0.1/32 trust clientcert=verify-ca\n"
        (data / "pg_hba.conf").write_text(rules)
        settings = {"listen_addresses": "127.0.0.1", "port": str(port), "ssl": "on", **files}
        with _running(programs, directory, user, settings):
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=verify-full"


@contextmanager
def _local_server(programs: Path) -> Iterator[str]:
    with _directory() as (directory, user):
        _initialized(programs, directory, user)
        # A socket in the directory and no TCP port: nobody else can be in the way.
        with _running(programs, directory, user, {"listen_addresses": ""}) as url:
            yield url


@contextmanager
def _directory() -> Iterator[tuple[Path, str | None]]:
    """A directory for a server, and the user that it runs as."""
    directory = Path(tempfile.mkdtemp(prefix="postgresql-"))
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    try:
        if user:
            shutil.chown(directory, user)
        yield directory, user
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _initialized(programs: Path, directory: Path, user: str | None) -> Path:
    data = directory / "data"
    options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
    command: list[str | Path] = [programs / "initdb", "-D", data, *options]
    subprocess.run(command, check=True, user=user, cwd=directory, stdout=subprocess.DEVNULL)
    return data


@contextmanager
def _running(programs: Path, directory: Path, user: str | None, settings: Mapping[str, str]) -> Iterator[str]:
    every = {"unix_socket_directories": str(directory), "fsync": "off", **settings}
    options = [part for name, value in every.items() for part in ("-c", f"{name}={value}")]
    command: list[str | Path] = [programs / "postgres", "-D", directory / "data", *options]
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(command, user=user, cwd=directory, stdout=log, stderr=log)
    try:
        url = f"postgresql://postgres@:{settings.get('port', '5432')}/postgres?host={directory}"
        _wait_until_it_answers(url, server, directory / "log")
        yield url
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


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
