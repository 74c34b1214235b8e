"""A real Swift on loopback: proxy, account, container and object server, with memcached for its tokens.

It speaks both of its own and, through s3api, S3. The servers live in a virtual environment of their own below
~/.cache/tintype, which is made on demand; whoever has no network for the first time is told so.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.backends.frozen import freeze

PACKAGES = ("swift==2.38.0",)
START_TIMEOUT_S = 60
ATTEMPTS = 3
SERVERS = ("account", "container", "object")
ACCOUNT = "AUTH_images"
USER, KEY = "images:tintype", "tintype-key"
POWERLESS_USER, POWERLESS_KEY = "images:nobody", "nobody-key"
"""A user of the same account who has no right to anything."""
RESELLER_USER, RESELLER_KEY = "admin:admin", "admin-key"
"""May set the quota of every account."""
MAX_FILE_SIZE = 5 * 1024**3 + 2
"""Swift's own default."""

_RINGS = Path(__file__).with_name("swift_rings.py")
# Below those that the kernel gives to outgoing connections, so that none takes one while its server is down.
_PORTS = range(20_000, 32_000)


@dataclass(frozen=True, slots=True)
class SwiftOptions:
    """What a cluster does otherwise than by default."""

    max_file_size: int = MAX_FILE_SIZE
    """The largest single object; a small one is met cheaply."""

    token_life_s: int = 86_400


class SwiftCluster:
    """One Swift with a directory of its own; each of its servers can be stopped, killed and started again."""

    def __init__(self, directory: Path, venv: Path, options: SwiftOptions) -> None:
        self._directory = directory
        self._venv = venv
        self._options = options
        self._ports: dict[str, int] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._is_full = False

    @property
    def url(self) -> str:
        """The proxy: also the endpoint of S3, whose region is ``us-east-1``."""
        return f"http://127.0.0.1:{self._ports['proxy']}"

    @property
    def port(self) -> int:
        """The proxy's."""
        return self._ports["proxy"]

    @property
    def auth_url(self) -> str:
        """Where :data:`USER` gets a token for :data:`KEY` (version 1)."""
        return f"{self.url}/auth/v1.0"

    @property
    def storage_url(self) -> str:
        """The account."""
        return f"{self.url}/v1/{ACCOUNT}"

    @property
    def s3_access_key(self) -> str:
        """The same user, as S3 knows it: containers of the account are its buckets."""
        return USER

    @property
    def s3_secret_key(self) -> str:
        """The user's secret."""
        return KEY

    def pid(self, name: str) -> int:
        """That of ``proxy``, ``account``, ``container``, ``object`` or ``memcached``."""
        return self._processes[name].pid

    def token(self, user: str = USER, key: str = KEY) -> str:
        """A token of a user."""
        request = urllib.request.Request(self.auth_url, headers={"X-Auth-User": user, "X-Auth-Key": key})
        with urllib.request.urlopen(request, timeout=START_TIMEOUT_S) as answer:
            return str(answer.headers["X-Auth-Token"])

    def make_container(self, prefix: str = "test") -> str:
        """A container, or bucket, that nobody else has; its name is answered."""
        name = f"{prefix}-{uuid.uuid4().hex[:12]}"
        self.request("PUT", f"/{name}")
        return name

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        account: str = ACCOUNT,
        as_reseller: bool = False,
    ) -> bytes:
        """What Swift answers about a path below the account, asked past any adapter.

        Raises:
            urllib.error.HTTPError: an answer from 300 on.
        """
        token = self.token(RESELLER_USER, RESELLER_KEY) if as_reseller else self.token()
        request = urllib.request.Request(
            f"{self.url}/v1/{account}{path}", body, {"X-Auth-Token": token, **(headers or {})}, method=method
        )
        with urllib.request.urlopen(request, timeout=START_TIMEOUT_S) as answer:
            return bytes(answer.read())

    def object_files(self) -> Sequence[Path]:
        """The files that the object server has now, of whatever object: for damaging one."""
        return sorted((self._directory / "disks" / "disk").glob("objects/**/*.data"))

    def forget_tokens(self) -> None:
        """All tokens that were given are unknown from now on."""
        with socket.create_connection(("127.0.0.1", self._ports["memcached"]), START_TIMEOUT_S) as connection:
            connection.sendall(b"flush_all\r\n")
            assert connection.recv(64) == b"OK\r\n"

    def start(self) -> None:
        """Start what is not running, at the same place as before, and wait until it answers."""
        missing = [name for name in (*SERVERS, "proxy", "memcached") if not self._is_running(name)]
        for name in missing:
            self._processes[name] = self._spawn(name)
        for name in missing:
            self._await(name)

    def choose_ports(self) -> None:
        """Take ports that are free now, and write them into the configuration and the rings."""
        names = (*SERVERS, "proxy", "memcached")
        self._ports = dict(zip(names, _free_ports(len(names)), strict=True))
        self._configure()
        rings = [f"{name}={self._ports[name]}" for name in SERVERS]
        # Isolated, or it would take this file, which is beside it, for Swift's package.
        program: list[str | Path] = [self._python, "-I", "-W", "ignore", _RINGS, self._directory]
        _run([*program, *rings], "the rings of Swift cannot be made")

    def kill(self, *names: str) -> None:
        """End these servers, or all, at once."""
        for name in names or tuple(self._processes):
            self._processes[name].kill()
            self._processes[name].wait()

    def pause(self, name: str) -> None:
        """It accepts connections from now on, and answers none."""
        freeze(self._processes[name].pid)

    def resume(self, name: str) -> None:
        """It goes on."""
        self._processes[name].send_signal(signal.SIGCONT)

    def fill(self) -> None:
        """The disk beneath the objects has no room left, as the object server sees it."""
        self._set_full(True)

    def relieve(self) -> None:
        """There is room again."""
        self._set_full(False)

    def stop(self) -> None:
        """End all."""
        for process in self._processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()  # nothing is to be kept, and a polite end takes seconds
        for process in self._processes.values():
            process.wait()

    @property
    def _python(self) -> Path:
        return self._venv / "bin" / "python"

    def _set_full(self, is_full: bool) -> None:
        self._is_full = is_full
        self._configure()
        self.kill("object")
        self.start()

    def _is_running(self, name: str) -> bool:
        return name in self._processes and self._processes[name].poll() is None

    def _configure(self) -> None:
        directory = self._directory
        (directory / "disks" / "disk").mkdir(parents=True, exist_ok=True)
        (directory / "swift.conf").write_text(_SWIFT.format(max_file_size=self._options.max_file_size))
        for name in SERVERS:
            text = _SERVER.format(directory=directory, name=name, port=self._ports[name])
            if name == "object" and self._is_full:
                text = text.replace("disable_fallocate = true", "fallocate_reserve = 100%")
            (directory / f"{name}.conf").write_text(text)
        (directory / "proxy.conf").write_text(
            _PROXY.format(
                directory=directory,
                port=self._ports["proxy"],
                memcached=self._ports["memcached"],
                token_life=self._options.token_life_s,
            )
        )

    def _spawn(self, name: str) -> subprocess.Popen[bytes]:
        if name == "memcached":
            command: list[str | Path] = [_memcached(), "-l", "127.0.0.1", "-p", str(self._ports[name]), "-U", "0"]
            command += ["-m", "64", "-u", "nobody"]  # the user counts only where it is started by root
        else:
            program = self._venv / "bin" / f"swift-{name}-server"
            told: list[str | Path] = [self._directory / "swift.conf", program, self._directory / f"{name}.conf", "-v"]
            command = [self._python, "-W", "ignore", "-c", _LAUNCHER, *told]
        with (self._directory / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self._directory,
                env={"PATH": os.environ.get("PATH", ""), "HOME": str(self._directory)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _await(self, name: str) -> None:
        end = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end and self._is_running(name):
            if self._answers(name):
                return
            time.sleep(0.05)
        log = (self._directory / f"{name}.log").read_text(errors="replace")
        raise SwiftDidNotStartError(f"{name} did not start:\n{log[-2000:]}")

    def _answers(self, name: str) -> bool:
        try:
            if name == "memcached":
                socket.create_connection(("127.0.0.1", self._ports[name]), START_TIMEOUT_S).close()
            else:
                url = f"http://127.0.0.1:{self._ports[name]}/healthcheck"
                urllib.request.urlopen(url, timeout=START_TIMEOUT_S).close()
        except OSError:
            return False
        return True


class SwiftDidNotStartError(Exception):
    """A server ended before it answered, such as because its port was taken in that very moment."""


@contextlib.contextmanager
def swift_cluster(options: SwiftOptions | None = None) -> Iterator[SwiftCluster]:
    """A running cluster. Nothing of it is left behind but the environment that the next one runs in."""
    venv = _prepared()
    directory = Path(tempfile.mkdtemp(prefix="swift-"))
    cluster = SwiftCluster(directory, venv, options or SwiftOptions())
    try:
        for attempt in range(1, ATTEMPTS + 1):
            cluster.choose_ports()
            try:
                cluster.start()
            except SwiftDidNotStartError as exc:
                cluster.stop()
                if attempt == ATTEMPTS:
                    pytest.fail(str(exc))
            else:
                break
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if len(found) == count:
            break
        with contextlib.suppress(OSError), socket.socket() as attempt:
            attempt.bind(("127.0.0.1", port))
            found.append(port)
    return found


def _memcached() -> str:
    found = shutil.which("memcached", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")
    if found is None:
        pytest.fail("memcached is missing: run `tools/install-system-packages swift`")
    return found


def _prepared() -> Path:
    """The environment of the servers; made now, if it is not there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tintype"
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    home = cache / "-".join(("swift", *(package.partition("==")[2] for package in PACKAGES), version))
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other processes of this test run
        if not (home / "complete").exists():
            shutil.rmtree(home / "venv", ignore_errors=True)
            failure = (
                f"these tests need {' and '.join(PACKAGES)} in {home / 'venv'}, and that cannot be installed "
                "(is there a network?)"
            )
            _run([sys.executable, "-m", "venv", home / "venv"], failure)
            pip: list[str | Path] = [
                home / "venv" / "bin" / "python",
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ]
            _run([*pip, *PACKAGES], failure)
            (home / "complete").touch()
    return home / "venv"


def _run(command: Sequence[str | Path], failure: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.fail(f"{failure}:\n{(done.stdout + done.stderr)[-2000:]}")


# Swift reads its limits when it is imported, from /etc/swift/swift.conf whatever swift_dir says.
_LAUNCHER = """
import runpy, sys
from swift.common import utils
utils.SWIFT_CONF_FILE = sys.argv[1]
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

_SWIFT = """
[swift-hash]
swift_hash_path_suffix = test
swift_hash_path_prefix = test
[storage-policy:0]
name = gold
default = yes
[swift-constraints]
max_file_size = {max_file_size}
"""

_SERVER = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
swift_dir = {directory}
devices = {directory}/disks
mount_check = false
disable_fallocate = true
workers = 0
log_address = /nonexistent
[pipeline:main]
pipeline = healthcheck {name}-server
[app:{name}-server]
use = egg:swift#{name}
[filter:healthcheck]
use = egg:swift#healthcheck
"""

# With one server of each kind there is no other to turn to while one is given a rest after a failure.
_PROXY = f"""
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {{port}}
swift_dir = {{directory}}
workers = 0
log_address = /nonexistent
[pipeline:main]
pipeline = catch_errors healthcheck proxy-logging cache listing_formats bulk tempurl s3api tempauth copy \
container-quotas account-quotas slo dlo versioned_writes symlink proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
error_suppression_interval = 0
node_timeout = 5
[filter:tempauth]
use = egg:swift#tempauth
token_life = {{token_life}}
user_{USER.replace(":", "_")} = {KEY} .admin
user_{POWERLESS_USER.replace(":", "_")} = {POWERLESS_KEY}
user_{RESELLER_USER.replace(":", "_")} = {RESELLER_KEY} .admin .reseller_admin
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
location = us-east-1
allow_multipart_uploads = true
min_segment_size = 5242880
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{{memcached}}
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:proxy-logging]
use = egg:swift#proxy_logging
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:tempurl]
use = egg:swift#tempurl
[filter:copy]
use = egg:swift#copy
[filter:container-quotas]
use = egg:swift#container_quotas
[filter:account-quotas]
use = egg:swift#account_quotas
[filter:slo]
use = egg:swift#slo
[filter:symlink]
use = egg:swift#symlink
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
"""
