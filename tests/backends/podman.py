"""A Podman of the tests' own, for machines where no container engine answers: its storage, its socket, its images.

Needs root, and Debian's packages. Images of third parties are built here, from Debian's packages and our wheels, under
the names that deploy/compose.yaml gives them: no registry is asked. All of it is kept below ~/.cache/tintype, so that
only the first run takes its time; containers, networks and volumes are gone when the tests are.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.backends.podman_health import HealthChecks
from tintype.adapters.nats.server import server_binary

PACKAGES = ("podman", "runc", "netavark", "aardvark-dns", "uidmap", "iptables", "debootstrap", "docker-compose")
PROGRAMS = ("podman", "runc", "debootstrap", "docker-compose")
IMAGES = Path(__file__).parent / "container_images"
DEBIAN = "localhost/tintype-tests/debian:bookworm"
BASE = "localhost/tintype-tests/base:1"
PAUSE = "localhost/tintype-tests/pause:1"
STAND_INS: Mapping[str, str] = {
    "base": BASE,
    "pause": PAUSE,
    "nats": "docker.io/library/nats:2.12-alpine",
    "postgresql": "docker.io/library/postgres:17-alpine",
    "nginx": "docker.io/library/nginx:1.29-alpine",
    "prometheus": "docker.io/prom/prometheus:v3.8.0",
}
START_TIMEOUT_S = 20.0

# runc: crun of Debian 12 wants more of cgroups than a container or a small machine has. Limits: the defaults are above
# what root may set where it lacks CAP_SYS_RESOURCE.
_CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=10000:10000"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "{directory}/tmp"
infra_image = "{pause}"
image_default_transport = "containers-storage:"
[network]
network_backend = "netavark"
network_config_dir = "{directory}/networks"
default_subnet = "{subnet}"
"""
_STORAGE_CONF = '[storage]\ndriver = "overlay"\ngraphroot = "{directory}/root"\nrunroot = "{directory}/run"\n'
_REGISTRIES_CONF = 'unqualified-search-registries = ["docker.io"]\nshort-name-mode = "permissive"\n'
# What a site has for its own certificate authority and package index holds while images are built, too.
_OF_THE_SITE = ("/etc/ssl/certs", "/etc/pip.conf")


@dataclass(frozen=True, slots=True)
class Podman:
    """A running engine; ``environment`` is what its clients need."""

    directory: Path
    environment: Mapping[str, str]

    def run(self, *arguments: str, timeout_s: float = 600) -> str:
        """Run ``podman …``; its output.

        Raises:
            AssertionError: it failed.
        """
        done = subprocess.run(
            ["podman", *arguments],
            env={**os.environ, **self.environment},
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert done.returncode == 0, f"podman {' '.join(arguments[:3])} failed: {done.stderr[-2000:]}"
        return done.stdout.strip()


@contextmanager
def private_podman() -> Iterator[Podman]:
    """A Podman that answers on a socket of its own, with every image that the tests do not build themselves."""
    _install()
    directory = Path(os.environ.get("TINTYPE_TEST_PODMAN") or _cache()).absolute()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="podman-") as runtime:
        podman = Podman(directory, _environment(directory, Path(runtime)))
        _write_configuration(directory)
        with _alone(directory):
            _make_images(podman)
        with _service(podman, Path(runtime) / "podman.sock"), HealthChecks(podman.run):
            try:
                yield podman
            finally:
                _clear(podman)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tintype" / "podman"


def _install() -> None:
    if os.geteuid() != 0:
        pytest.fail("these tests need a container engine: start Docker, or Podman with its socket, and set DOCKER_HOST")
    if all(shutil.which(program) for program in PROGRAMS):
        return
    apt = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *PACKAGES]
    subprocess.run(["apt-get", "update", "--quiet"], check=False, stdout=subprocess.DEVNULL)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(apt, check=True, env=environment, stdout=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError) as exc:
        pytest.fail(f"these tests need a container engine, and Podman cannot be installed here: {exc}")


def _environment(directory: Path, runtime: Path) -> Mapping[str, str]:
    volumes = [f"--volume {path}:{path}:ro" for path in _OF_THE_SITE if Path(path).exists()]
    return {
        "CONTAINERS_CONF": str(directory / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(directory / "storage.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(directory / "registries.conf"),
        "BUILDAH_ISOLATION": "chroot",
        "DOCKER_HOST": f"unix://{runtime}/podman.sock",
        "BASE": BASE,
        "BUILD_OPTIONS": " ".join(["--isolation chroot --network host", *volumes]),
        # testcontainers: its reaper is an image that nobody has, and what it takes for a container need not be one.
        "TESTCONTAINERS_RYUK_DISABLED": "true",
        "TESTCONTAINERS_HOST_OVERRIDE": "127.0.0.1",
        "TESTCONTAINERS_CONNECTION_MODE": "docker_host",
    }


def _write_configuration(directory: Path) -> None:
    subnet = os.environ.get("TINTYPE_TEST_SUBNET", "10.199.0.0/24")
    for name in ("root", "run", "networks", "tmp"):
        (directory / name).mkdir(exist_ok=True)
    text = _CONTAINERS_CONF.format(directory=directory, pause=PAUSE, subnet=subnet)
    (directory / "containers.conf").write_text(text)
    (directory / "storage.conf").write_text(_STORAGE_CONF.format(directory=directory))
    (directory / "registries.conf").write_text(_REGISTRIES_CONF)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Two runs at once make the images once."""
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_images(podman: Podman) -> None:
    if not _exists(podman, DEBIAN):
        _import_debian(podman)
    for name, tag in STAND_INS.items():
        if _exists(podman, tag):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            context = shutil.copytree(IMAGES / name, Path(scratch) / name)
            if name == "nats":
                shutil.copy(server_binary(), context / "nats-server")
            podman.run("build", "--quiet", "--isolation", "chroot", "--network", "host", "--tag", tag, str(context))


def _exists(podman: Podman, tag: str) -> bool:
    return tag in podman.run("images", "--format", "{{.Repository}}:{{.Tag}}").split()


def _import_debian(podman: Podman) -> None:
    """An image of the smallest Debian that there is."""
    with tempfile.TemporaryDirectory(dir=podman.directory) as scratch:
        root = Path(scratch) / "root"
        made = subprocess.run(
            ["unshare", "--mount", "debootstrap", "--variant=minbase", "bookworm", str(root)],
            check=False,
            capture_output=True,
            text=True,
        )
        assert made.returncode == 0, f"debootstrap failed: {(made.stdout + made.stderr)[-2000:]}"
        archive = Path(scratch) / "root.tar"
        left_out = [f"--exclude=./{path}/*" for path in ("proc", "sys", "dev", "var/cache/apt", "var/lib/apt/lists")]
        subprocess.run(["tar", "-C", str(root), *left_out, "-cf", str(archive), "."], check=True)
        podman.run("import", "--quiet", "--change", 'CMD ["bash"]', str(archive), DEBIAN)


@contextmanager
def _service(podman: Podman, socket: Path) -> Iterator[None]:
    with (podman.directory / "service.log").open("wb") as log:
        service = subprocess.Popen(
            ["podman", "system", "service", "--time", "0", f"unix://{socket}"],
            env={**os.environ, **podman.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + START_TIMEOUT_S
        while not socket.exists():
            if service.poll() is not None or time.monotonic() > end:
                pytest.fail(f"podman did not start: {(podman.directory / 'service.log').read_text()[-2000:]}")
            time.sleep(0.05)
        yield
    finally:
        service.terminate()
        with suppress(subprocess.TimeoutExpired):
            service.wait(10)
        if service.poll() is None:
            service.kill()
            service.wait()


def _clear(podman: Podman) -> None:
    """Whatever a failed test left behind goes: other runs of the tests on this machine have storage of their own."""
    podman.run("pod", "rm", "--all", "--force", "--time", "1")
    podman.run("rm", "--all", "--force", "--time", "1")
    podman.run("volume", "prune", "--force")
    podman.run("network", "prune", "--force")
    # An exec through the API leaves a conmon for five minutes, to tell how it ended.
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes().split(b"\0")
            if command[0].endswith(b"conmon") and str(podman.directory / "root").encode() in b" ".join(command):
                os.kill(int(process.name), signal.SIGTERM)
