"""A real Keystone and a real Barbican on loopback, with a few users, for tests of the key manager.

The servers live in a virtual environment of their own below ~/.cache/tintype, which is made on demand, with the
databases as they are before the first test; each site begins with a copy of those. Whoever has no network for the first
time is told so.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from barbicanclient.client import Client
from keystoneauth1.identity import v3
from keystoneauth1.session import Session

from tests.backends.frozen import freeze

PACKAGES = ("keystone==30.0.0", "barbican==23.0.0")
START_TIMEOUT_S = 90
PROJECTS: Mapping[str, Mapping[str, str]] = {
    "service": {"barbican": "service"},
    "images": {"signer": "member", "publisher": "member"},
    "other": {"stranger": "member"},
}
"""Project → user → role. Each user's password is :func:`password_of` its name."""

_SERVER = Path(__file__).with_name("keystone_barbican_server.py")


def password_of(user: str) -> str:
    """A user's password."""
    return f"{user}-password"


class Site:
    """One Keystone and one Barbican with a directory of their own; both can be stopped, killed and started again."""

    def __init__(self, directory: Path, python: Path) -> None:
        self._directory = directory
        self._python = python
        self._ports: dict[str, int] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def auth_url(self) -> str:
        """Keystone's."""
        return f"{self._url('keystone')}/v3"

    @property
    def barbican_url(self) -> str:
        """Barbican's."""
        return self._url("barbican")

    def start(self) -> None:
        """Start what is not running, at the same place as before, and wait until it answers."""
        sockets = {name: self._listening(name) for name in ("keystone", "barbican") if not self._is_running(name)}
        _configure(self._directory, self.auth_url, self.barbican_url)
        for name, listening in sockets.items():
            self._processes[name] = self._spawn(name, listening)
            listening.close()
        for name in sockets:
            self._await(name)

    def kill(self, name: str) -> None:
        """End ``keystone`` or ``barbican`` at once."""
        self._processes[name].kill()
        self._processes[name].wait()

    def pause(self, name: str) -> None:
        """It accepts connections from now on, and answers none."""
        freeze(self._processes[name].pid)

    def resume(self, name: str) -> None:
        """It goes on."""
        self._processes[name].send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End both."""
        for process in self._processes.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def session(self, user: str) -> Session:
        """A signed-in user of Keystone."""
        project = next(name for name, users in PROJECTS.items() if user in users)
        return Session(
            v3.Password(
                self.auth_url,
                username=user,
                password=password_of(user),
                user_domain_id="default",
                project_name=project,
                project_domain_id="default",
            ),
            timeout=30,
        )

    def barbican(self, user: str) -> Any:
        """Barbican, as a user sees it."""
        return Client(session=self.session(user), endpoint=self.barbican_url)

    def _url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}"

    def _is_running(self, name: str) -> bool:
        return name in self._processes and self._processes[name].poll() is None

    def _listening(self, name: str) -> socket.socket:
        """A socket that takes connections before there is a process, so that no port is lost to somebody else."""
        listening = socket.create_server(("127.0.0.1", self._ports.get(name, 0)))
        self._ports[name] = listening.getsockname()[1]
        return listening

    def _spawn(self, name: str, listening: socket.socket) -> subprocess.Popen[bytes]:
        with (self._directory / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [self._python, _SERVER, name, str(listening.fileno()), self._directory],
                env=_environment(self._directory),
                cwd=self._directory,
                pass_fds=[listening.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _await(self, name: str) -> None:
        end = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end and self._is_running(name):
            try:
                urllib.request.urlopen(self._url(name), timeout=START_TIMEOUT_S).close()
            except urllib.error.HTTPError as answer:  # 300: which version shall it be?
                answer.close()
                return
            except OSError:
                time.sleep(0.05)
            else:
                return
        log = (self._directory / f"{name}.log").read_text(errors="replace")
        pytest.fail(f"{name} did not start:\n{log[-2000:]}")


@contextlib.contextmanager
def keystone_barbican() -> Iterator[Site]:
    """A running site. Nothing of it is left behind but what the next one begins with."""
    home = _prepared()
    directory = Path(tempfile.mkdtemp(prefix="keystone-barbican-"))
    try:
        shutil.copytree(home / "state", directory, dirs_exist_ok=True)
        site = Site(directory, home / "venv" / "bin" / "python")
        try:
            site.start()
            yield site
        finally:
            site.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _prepared() -> Path:
    """Where the servers and their first state are; made now, if they are not there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tintype"
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    home = cache / "-".join(("keystone-barbican", *(package.partition("==")[2] for package in PACKAGES), version))
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other processes of this test run
        if not (home / "complete").exists():
            for part in ("venv", "state"):
                shutil.rmtree(home / part, ignore_errors=True)
            _install(home / "venv")
            _make_state(home)
            (home / "complete").touch()
    return home


def _install(venv: Path) -> None:
    pip: list[str | Path] = [
        venv / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        *PACKAGES,
    ]
    make: list[str | Path] = [sys.executable, "-m", "venv", venv]
    for command in (make, pip):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.fail(
                f"these tests need {' and '.join(PACKAGES)} in {venv}, and they cannot be installed "
                f"(is there a network?):\n{(done.stdout + done.stderr)[-2000:]}"
            )


def _make_state(home: Path) -> None:
    state = home / "state"
    for repository in ("fernet", "credential"):
        (state / repository).mkdir(parents=True, mode=0o700)
        for number in "01":  # as `keystone-manage fernet_setup` would
            with open(os.open(state / repository / number, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
                file.write(base64.urlsafe_b64encode(os.urandom(32)))
    (state / "kek").write_bytes(base64.b64encode(os.urandom(32)))
    shutil.copy(home / "venv" / "etc" / "barbican" / "barbican-api-paste.ini", state)
    _configure(state, "http://127.0.0.1:1/v3", "http://127.0.0.1:1")
    bootstrap = ["bootstrap", "--bootstrap-password", password_of("admin"), "--bootstrap-region-id", "RegionOne"]
    for interface in ("public", "internal", "admin"):
        bootstrap += [f"--bootstrap-{interface}-url", "http://127.0.0.1:1/v3"]
    for arguments in (["db_sync"], bootstrap):
        program = home / "venv" / "bin" / "keystone-manage"
        command = [str(program), "--config-file", str(state / "keystone.conf"), *arguments]
        done = subprocess.run(command, env=_environment(state), capture_output=True, text=True)
        if done.returncode != 0:
            pytest.fail(f"keystone-manage {arguments[0]} failed:\n{done.stderr[-2000:]}")
    site = Site(state, home / "venv" / "bin" / "python")
    try:
        site.start()
        _make_users(site)
    finally:
        site.stop()


def _make_users(site: Site) -> None:
    admin = Session(
        v3.Password(
            site.auth_url,
            username="admin",
            password=password_of("admin"),
            user_domain_id="default",
            project_name="admin",
            project_domain_id="default",
        )
    )

    def make(kind: str, **fields: object) -> str:
        answer = admin.post(f"{site.auth_url}/{kind}s", json={kind: fields}).json()
        return str(answer[kind]["id"])

    roles = {role["name"]: role["id"] for role in admin.get(f"{site.auth_url}/roles").json()["roles"]}
    for project, users in PROJECTS.items():
        project_id = make("project", name=project, domain_id="default")
        for user, role in users.items():
            user_id = make("user", name=user, domain_id="default", password=password_of(user))
            admin.put(f"{site.auth_url}/projects/{project_id}/users/{user_id}/roles/{roles[role]}")
    service_id = make("service", type="key-manager", name="barbican")
    for interface in ("public", "internal"):
        url = site.barbican_url
        make("endpoint", interface=interface, region_id="RegionOne", service_id=service_id, url=url)


def _configure(directory: Path, auth_url: str, barbican_url: str) -> None:
    """Write both configurations, and into Keystone's catalog where both are now."""
    (directory / "keystone.conf").write_text(_KEYSTONE.format(directory=directory))
    (directory / ".barbican").mkdir(exist_ok=True)
    (directory / ".barbican" / "barbican.conf").write_text(
        _BARBICAN.format(
            directory=directory,
            url=barbican_url,
            kek=(directory / "kek").read_text(),
            auth_url=auth_url,
            password=password_of("barbican"),
        )
    )
    if (directory / "keystone.db").exists():
        urls = {"identity": auth_url, "key-manager": barbican_url}
        with contextlib.closing(sqlite3.connect(directory / "keystone.db")) as database, database:
            for kind, url in urls.items():
                which = "service_id IN (SELECT id FROM service WHERE type = ?)"
                database.execute(f"UPDATE endpoint SET url = ? WHERE {which}", (url, kind))  # no input


def _environment(directory: Path) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(directory),  # Barbican looks for its configuration there
        "OS_KEYSTONE_CONFIG_FILES": str(directory / "keystone.conf"),
        "PYTHONWARNINGS": "ignore",
    }


_KEYSTONE = """
[database]
connection = sqlite:///{directory}/keystone.db
[fernet_tokens]
key_repository = {directory}/fernet
[fernet_receipts]
key_repository = {directory}/fernet
[credential]
key_repository = {directory}/credential
[cache]
enabled = false
[oslo_policy]
enforce_scope = true
[identity]
password_hash_rounds = 4
"""

# Keystone's middleware looks for the internal endpoint in the catalog.
_BARBICAN = """
[DEFAULT]
host_href = {url}
db_auto_create = true
[database]
connection = sqlite:///{directory}/barbican.db
[queue]
enable = false
[oslo_policy]
enforce_scope = true
enforce_new_defaults = true
[secretstore]
enabled_secretstore_plugins = store_crypto
[crypto]
enabled_crypto_plugins = simple_crypto
[simple_crypto_plugin]
kek = {kek}
[keystone_authtoken]
auth_type = password
auth_url = {auth_url}
www_authenticate_uri = {auth_url}
username = barbican
password = {password}
user_domain_id = default
project_name = service
project_domain_id = default
service_token_roles_required = true
"""
