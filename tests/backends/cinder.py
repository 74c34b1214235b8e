"""A real Cinder on loopback, whose volumes are in a real Ceph.

It lives in a virtual environment of its own below ~/.cache/tintype, which is made on demand, with an empty database.
Ceph's Python bindings are the system's (``tools/install-system-packages ceph``), built for one version of Python: both
Cinder and os-brick in the tests' own process need them.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import importlib.util
import json
import os
import shutil
import signal
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

from tests.backends.ceph import Ceph
from tests.backends.frozen import freeze
from tests.backends.ports import free_port
from tintype.adapters.cinder.settings import CinderStoreSettings

PACKAGES = ("cinder==29.0.0", "os-brick==7.1.1")
PROJECT = "d0000000000000000000000000000000"
MULTIATTACH, SINGLE = "several", "single"
START_TIMEOUT_S = 90
BINDINGS = Path("/usr/lib/python3/dist-packages")

_PROGRAM = ("-P", Path(__file__).with_name("cinder_server.py"))
"""-P: its directory has modules that are called as Cinder's own."""


class Cinder:
    """One Cinder with a directory of its own; it can be killed, frozen and started again."""

    def __init__(self, directory: Path, home: Path, ceph: Ceph) -> None:
        self._directory = directory
        self._python = home / "venv" / "bin" / "python"
        self._ceph = ceph
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        (directory / "cinder.conf").write_text(
            _CONF.format(directory=directory, venv=home / "venv", port=self._port, ceph=ceph.conf)
        )

    @property
    def endpoint(self) -> str:
        """Its API, without the project."""
        return f"http://127.0.0.1:{self._port}/v3"

    @property
    def keyring(self) -> Path:
        """The key of Cinder's user in Ceph."""
        return self._ceph.keyring("cinder")

    def settings(self, **fields: Any) -> CinderStoreSettings:
        """Of a store in it, with short deadlines."""
        standard: dict[str, Any] = {
            "type": "cinder",
            "endpoint": self.endpoint,
            "project": PROJECT,
            "volume_type": MULTIATTACH,
            "ceph_keyring": self.keyring,
            "timeout_s": 20,
            "wait_s": 30,
            "probe_attach": False,
        }
        return CinderStoreSettings(**{**standard, **fields})

    def start(self) -> None:
        """Start it, and wait until it can make volumes."""
        with (self._directory / "cinder.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._python, *_PROGRAM, self._directory / "cinder.conf"],
                env=_environment(self._ceph),
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(OSError, KeyError, ValueError):
                services = self.call("GET", "/os-services")["services"]
                if sum(service["state"] == "up" for service in services) == 2:
                    return
            time.sleep(0.05)
        pytest.fail(f"Cinder did not start:\n{(self._directory / 'cinder.log').read_text(errors='replace')[-3000:]}")

    def make_types(self) -> None:
        """A type whose volumes can be attached several times, and one whose can not."""
        for name, specs in ((MULTIATTACH, {"multiattach": "<is> True"}), (SINGLE, {})):
            self.call("POST", "/types", {"volume_type": {"name": name, "extra_specs": specs}})

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask it as an administrator."""
        request = urllib.request.Request(
            f"{self.endpoint}/{PROJECT}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "X-Auth-Token": f"admin:{PROJECT}",
                "Content-Type": "application/json",
                "OpenStack-API-Version": "volume 3.54",
            },
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            content = answer.read()
        found: dict[str, Any] = json.loads(content) if content else {}
        return found

    def volumes(self) -> list[dict[str, Any]]:
        """All there are, whosever they are."""
        found: list[dict[str, Any]] = self.call("GET", "/volumes/detail")["volumes"]
        return found

    def empty(self) -> None:
        """Remove every attachment and volume, and wait until they are gone."""
        for attachment in self.call("GET", "/attachments")["attachments"]:
            with contextlib.suppress(urllib.error.HTTPError):
                self.call("DELETE", f"/attachments/{attachment['id']}")
        for volume in self.volumes():
            with contextlib.suppress(urllib.error.HTTPError):
                self.call("POST", f"/volumes/{volume['id']}/action", {"os-force_delete": {}})
        end = time.monotonic() + START_TIMEOUT_S
        while self.volumes():
            if time.monotonic() > end:
                pytest.fail(f"Cinder does not delete {self.volumes()}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """It takes connections from now on, and answers nothing."""
        assert self._process is not None
        freeze(self._process.pid)

    def thaw(self) -> None:
        """It goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def cinder_service(ceph: Ceph) -> Iterator[Cinder]:
    """A running Cinder. Nothing of it is left behind but its environment."""
    require_bindings()
    home = _prepared()
    ceph.start_manager()  # the driver asks how much room there is
    directory = Path(tempfile.mkdtemp(prefix="cinder-"))
    try:
        shutil.copy(home / "cinder.db", directory)
        for name in ("state", "locks"):
            (directory / name).mkdir()
        cinder = Cinder(directory, home, ceph)
        try:
            cinder.start()
            cinder.make_types()
            yield cinder
        finally:
            cinder.kill()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def require_bindings() -> None:
    """Let this process, and those that it gives its path to, import Ceph's bindings of the system and nothing else.

    Skips the test where they are built for another version of Python, as nobody could make up for that.
    """
    if importlib.util.find_spec("rbd") is not None:
        return
    libraries = _bindings()
    if not libraries:
        if list(BINDINGS.glob("rbd.cpython-*.so")):
            pytest.skip(f"the system's bindings of Ceph are not for Python {sys.version_info[0]}.{sys.version_info[1]}")
        pytest.fail("these tests need Ceph: run tools/install-system-packages ceph")
    links = Path(tempfile.mkdtemp(prefix="ceph-bindings-"))
    _link(links)
    sys.path.append(str(links))
    atexit.register(shutil.rmtree, links, ignore_errors=True)


def _bindings() -> list[Path]:
    tag = f"cpython-{sys.version_info[0]}{sys.version_info[1]}-"
    return [path for name in ("rados", "rbd") for path in BINDINGS.glob(f"{name}.{tag}*.so")]


def _link(directory: Path) -> None:
    for library in _bindings():
        if not (directory / library.name).exists():
            (directory / library.name).symlink_to(library)


def _prepared() -> Path:
    """Where Cinder and its empty database are; made now, if they are not there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tintype"
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    home = cache / "-".join(("cinder", *(package.partition("==")[2] for package in PACKAGES), version))
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other processes of this test run
        if not (home / "complete").exists():
            shutil.rmtree(home / "venv", ignore_errors=True)
            _install(home)
            (home / "complete").touch()
    return home


def _install(home: Path) -> None:
    python = home / "venv" / "bin" / "python"
    conf = home / "cinder.conf"
    conf.write_text(_CONF.format(directory=home, venv=home / "venv", port=1, ceph="/nonexistent"))
    (home / "cinder.db").unlink(missing_ok=True)
    quiet = ("--quiet", "--disable-pip-version-check")
    commands: tuple[list[str | Path], ...] = (
        [sys.executable, "-m", "venv", home / "venv"],
        [python, "-m", "pip", "install", *quiet, *PACKAGES],
        [python, *_PROGRAM, conf, "--make-database"],
    )
    for argv in commands:
        done = subprocess.run(argv, capture_output=True, text=True, cwd=home, env=_environment())
        if done.returncode != 0:
            pytest.fail(
                f"these tests need {' and '.join(PACKAGES)} in {home}, and they cannot be made ready "
                f"(is there a network?):\n{(done.stdout + done.stderr)[-2000:]}"
            )
    packages = next((home / "venv" / "lib").glob("python3*/site-packages"))
    _link(packages)


def _environment(ceph: Ceph | None = None) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "LD_"))}
    return {
        **inherited,
        "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONWARNINGS": "ignore",
        **({"CEPH_ARGS": f"--keyring={ceph.keyring('cinder')}"} if ceph else {}),
    }


_CONF = """
[DEFAULT]
host = box
state_path = {directory}/state
transport_url = fake:/
auth_strategy = noauth
api_paste_config = {venv}/etc/cinder/api-paste.ini
resource_query_filters_file = {venv}/etc/cinder/resource_filters.json
osapi_volume_listen = 127.0.0.1
osapi_volume_listen_port = {port}
osapi_volume_workers = 1
enabled_backends = rbd
default_volume_type = __DEFAULT__
# Outside its own launcher no service tells that it lives.
service_down_time = 86400
periodic_interval = 2
backend_stats_polling_interval = 3
scheduler_driver_init_wait_time = 1
rpc_response_timeout = 60
quota_volumes = 100
# A volume takes 1 GiB of what the scheduler believes to be free, and the Ceph of the tests has few.
scheduler_default_filters = AvailabilityZoneFilter,CapabilitiesFilter
[database]
connection = sqlite:///{directory}/cinder.db
[oslo_concurrency]
lock_path = {directory}/locks
[coordination]
backend_url = file://{directory}/state
[rbd]
volume_driver = cinder.volume.drivers.rbd.RBDDriver
volume_backend_name = rbd
rbd_pool = volumes
rbd_user = cinder
rbd_ceph_conf = {ceph}
rbd_secret_uuid = 11111111-1111-1111-1111-111111111111
"""
