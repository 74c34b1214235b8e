"""A real Ceph on loopback: one monitor, one OSD that keeps its data in memory, and on demand a manager and a gateway.

From Debian's packages (``tools/install-system-packages ceph``). Each cluster lives in a directory of its own, and is
thrown away. Pools ``images``, ``volumes`` and ``vms``; users ``client.tintype`` (what docs/stores/rbd.md asks for) and
``client.cinder`` (writes volumes, clones images). Nothing here imports Ceph's Python bindings, which Debian builds for
its own interpreter only: what needs them runs there, in :meth:`Ceph.commands`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.backends.frozen import freeze
from tests.backends.ports import free_port

SYSTEM_PYTHON = "/usr/bin/python3"
"""The interpreter that Debian's ``rados`` and ``rbd`` are built for."""

START_TIMEOUT_S = 60
POOLS = ("images", "volumes", "vms")
WATCH_TIMEOUT_S = 5
"""Seconds until the OSD gives up a client that was killed; 30 unless it is told otherwise."""

MEMORY_BYTES = 4 * 1024**3
"""So much the OSD has room for; what is not written takes no memory."""

PROGRAMS = ("ceph-mon", "ceph-osd", "ceph-mgr", "ceph-authtool", "monmaptool", "rbd", "radosgw", "radosgw-admin")
ALL = {"mon": "allow *", "osd": "allow *", "mgr": "allow *"}
USERS: Mapping[str, Mapping[str, str]] = {
    "client.admin": ALL,
    "client.tintype": {
        "mon": "profile rbd",
        "osd": "profile rbd pool=images",
        "mgr": "profile rbd pool=images",
    },
    "client.cinder": {
        "mon": "profile rbd",
        "osd": "profile rbd pool=volumes, profile rbd pool=vms, profile rbd-read-only pool=images",
        "mgr": "profile rbd pool=volumes, profile rbd pool=vms",
    },
    "client.gateway": {"mon": "allow rwx", "osd": "allow rwx", "mgr": "allow rw"},
}
_DAEMONS: Mapping[str, Mapping[str, str]] = {
    "mon.": {"mon": "allow *"},
    "osd.0": {"mon": "allow profile osd", "osd": "allow *", "mgr": "allow profile osd"},
    "mgr.x": {"mon": "allow profile mgr", "osd": "allow *", "mds": "allow *"},
}


@dataclass(frozen=True, slots=True)
class GatewayUser:
    """A user of the gateway, over S3 (``access_key``, ``secret_key``) and Swift (``UID:swift``, ``swift_key``)."""

    uid: str
    access_key: str
    secret_key: str
    swift_key: str


GATEWAY_USERS = (
    GatewayUser("tester", "AKTESTER", "SKTESTER", "testing"),
    GatewayUser("stranger", "AKSTRANGER", "SKSTRANGER", "strange"),
)


class Ceph:
    """One cluster in ``directory``; its parts can be killed, frozen and started again."""

    def __init__(self, directory: Path, memory_bytes: int = MEMORY_BYTES) -> None:
        self._directory = directory
        self._memory_bytes = memory_bytes
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._gateway_port = 0
        self.fsid = str(uuid.uuid4())

    @property
    def conf(self) -> Path:
        """The configuration file, for clients too; it names no user and no keyring of theirs."""
        return self._directory / "ceph.conf"

    def keyring(self, user: str) -> Path:
        """The key of ``client.NAME``, which may be given as ``NAME``."""
        return self._directory / f"{user if user.startswith('client.') else f'client.{user}'}.keyring"

    # --- the cluster --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Make the cluster and start it; ready means that each pool has taken a write."""
        port = free_port()
        for name in ("mon", "osd", "mgr", "gateway", "run", "log"):
            (self._directory / name).mkdir()
        self.conf.write_text(
            _CONF.format(
                directory=self._directory,
                fsid=self.fsid,
                port=port,
                watch=WATCH_TIMEOUT_S,
                memory_bytes=self._memory_bytes,
            )
        )
        self._make_keys()
        _run("monmaptool", "--create", "--fsid", self.fsid, "--addv", "a", f"[v2:127.0.0.1:{port}]", self._monmap)
        keys = self._directory / "all.keyring"
        _run("ceph-mon", "-c", self.conf, "-i", "a", "--mkfs", "--monmap", self._monmap, "--keyring", keys)
        self._spawn("mon", "ceph-mon", "-i", "a", "--keyring", self._directory / "mon" / "keyring")
        osd = str(uuid.uuid4())
        self.commands([{"prefix": "osd new", "uuid": osd, "id": 0}])
        keyring = self._directory / "osd" / "keyring"
        _run("ceph-osd", "-c", self.conf, "-i", "0", "--mkfs", "--osd-uuid", osd, "--keyring", keyring)
        self._spawn("osd", "ceph-osd", "-i", "0", "--keyring", keyring)
        self.commands(
            [
                *({"prefix": "osd pool create", "pool": pool, "pg_num": 8} for pool in POOLS),
                *({"prefix": "osd pool application enable", "pool": pool, "app": "rbd"} for pool in POOLS),
            ]
        )
        self._await_osd()

    def commands(self, commands: Sequence[Mapping[str, object]]) -> list[str]:
        """Give the monitor commands, as the administrator; their output (``format: json`` asks for JSON).

        Fails the test when the monitor refuses one.
        """
        return self.run_with_bindings(_COMMANDS, json.dumps(commands))

    def run_with_bindings(self, program: str, *arguments: str) -> list[str]:
        """Run a Python program that may import ``rados`` and ``rbd``; it gets the configuration, the administrator's
        keyring and ``arguments``, and prints a JSON list."""
        argv: list[str | Path] = [
            SYSTEM_PYTHON,
            "-I",
            "-c",
            program + _END,
            self.conf,
            self.keyring("admin"),
            *arguments,
        ]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False)
        if done.returncode != 0:
            pytest.fail(f"Ceph refused ({done.returncode}):\n{done.stderr[-2000:]}\n{self._logs()}")
        answers: list[str] = json.loads(done.stdout)
        return answers

    def stop(self) -> None:
        """End everything at once: nothing of it is kept."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()

    # --- what can happen to it ----------------------------------------------------------------------------------------

    def restart_osd(self) -> None:
        """End the OSD in order, which is when one in memory keeps its data on disk, and start it again."""
        self._processes["osd"].send_signal(signal.SIGCONT)
        self._processes["osd"].terminate()
        self._processes["osd"].wait(START_TIMEOUT_S)
        self._spawn("osd", "ceph-osd", "-i", "0", "--keyring", self._directory / "osd" / "keyring")
        self._await_osd()

    def freeze_osd(self) -> None:
        """It keeps its connections from now on, and answers nothing."""
        freeze(self._processes["osd"].pid)

    def thaw_osd(self) -> None:
        """It goes on."""
        self._processes["osd"].send_signal(signal.SIGCONT)
        self._await_osd()

    def fill(self) -> None:
        """The cluster takes no writes from now on: its OSD is above the full ratio, which is lowered for that."""
        self._set_full_ratios(0.000_000_1)
        self._await("full flag", lambda: self._pools_are_full(True))

    def relieve(self) -> None:
        """It has room again."""
        self._set_full_ratios(0.95)
        self._await("room", lambda: self._pools_are_full(False))

    def set_quota(self, pool: str, max_bytes: int) -> None:
        """Let a pool hold no more (0: no limit); the manager, which this starts, has to see that it is too much."""
        self.start_manager()
        self.commands([{"prefix": "osd pool set-quota", "pool": pool, "field": "max_bytes", "val": str(max_bytes)}])

    def await_flag(self, pool: str, flag: str, is_set: bool) -> None:
        """Wait until the map says so."""
        self._await(f"flag {flag}", lambda: self.has_flag(pool, flag) == is_set)

    def has_flag(self, pool: str, flag: str) -> bool:
        """Whether the map of the OSDs says that of a pool (``full``, ``full_quota``)."""
        pools = json.loads(self._ask({"prefix": "osd dump"}))["pools"]
        return any(found["pool_name"] == pool and flag in found["flags_names"].split(",") for found in pools)

    # --- further daemons ----------------------------------------------------------------------------------------------

    def start_manager(self) -> None:
        """A manager: sizes of pools, quotas, ``ceph df`` and placement statistics come from it; RBD needs none."""
        if "mgr" not in self._processes:
            self._spawn("mgr", "ceph-mgr", "-i", "x")
            self._await("manager", lambda: json.loads(self._ask({"prefix": "mgr dump"}))["available"])

    def start_gateway(self) -> str:
        """An object gateway (S3 and Swift v1) with :data:`GATEWAY_USERS`; its URL."""
        if "gateway" not in self._processes:
            self._gateway_port = free_port()
            self._spawn(
                "gateway",
                "radosgw",
                "-n",
                "client.gateway",
                "--keyring",
                self.keyring("gateway"),
                f"--rgw-frontends=beast endpoint=127.0.0.1:{self._gateway_port}",
                f"--rgw-data={self._directory / 'gateway'}",
                f"--rgw-swift-url={self.gateway_url}",
            )
            self._await("gateway", lambda: _answers(self.gateway_url))
            for user in GATEWAY_USERS:
                self._make_gateway_user(user)
        return self.gateway_url

    @property
    def gateway_url(self) -> str:
        """S3 is here; Swift's sign-in below ``/auth/v1.0``."""
        return f"http://127.0.0.1:{self._gateway_port}"

    def set_bucket_quota(self, bucket: str, max_bytes: int) -> None:
        """Let a bucket of the gateway hold no more."""
        admin = ("radosgw-admin", "-c", self.conf, "-n", "client.gateway", "--keyring", self.keyring("gateway"))
        where = ("--quota-scope", "bucket", "--bucket", bucket)
        _run(*admin, "quota", "set", *where, "--max-size", str(max_bytes))
        _run(*admin, "quota", "enable", *where)

    def kill_gateway(self) -> None:
        """End the gateway at once; :meth:`start_gateway` takes another port then."""
        process = self._processes.pop("gateway")
        process.kill()
        process.wait()

    def freeze_gateway(self) -> None:
        """It takes connections from now on, and answers nothing."""
        freeze(self._processes["gateway"].pid)

    def thaw_gateway(self) -> None:
        """It goes on."""
        self._processes["gateway"].send_signal(signal.SIGCONT)

    # --- how ----------------------------------------------------------------------------------------------------------

    @property
    def _monmap(self) -> Path:
        return self._directory / "monmap"

    def _make_keys(self) -> None:
        daemons = {"osd.0": "osd", "mgr.x": "mgr"}  # the monitor makes its own, and wants an empty directory
        everyone = self._directory / "all.keyring"
        for name, caps in {**_DAEMONS, **USERS}.items():
            path = self._directory / daemons[name] / "keyring" if name in daemons else self.keyring(name)
            grants = [part for system, cap in caps.items() for part in ("--cap", system, cap)]
            _run("ceph-authtool", "-C", path, "--gen-key", "-n", name, *grants)
            create = () if everyone.exists() else ("-C",)
            _run("ceph-authtool", *create, everyone, "--import-keyring", path)

    def _make_gateway_user(self, user: GatewayUser) -> None:
        admin = ("radosgw-admin", "-c", self.conf, "-n", "client.gateway", "--keyring", self.keyring("gateway"))
        keys = ("--access-key", user.access_key, "--secret", user.secret_key)
        made = subprocess.run(
            [*admin, "user", "create", "--uid", user.uid, "--display-name", user.uid, *keys],
            capture_output=True,
            check=False,
        )
        if made.returncode == 0:  # else it is there: the gateway was started before
            subuser = ("--subuser", f"{user.uid}:swift", "--access", "full", "--key-type", "swift")
            _run(*admin, "subuser", "create", "--uid", user.uid, *subuser, "--secret", user.swift_key)

    def _spawn(self, name: str, program: str, *arguments: str | Path) -> None:
        with (self._directory / "log" / f"{name}.out").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [_program(program) or program, "-c", self.conf, "-f", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
            )

    def _set_full_ratios(self, ratio: float) -> None:
        names = ("osd set-nearfull-ratio", "osd set-backfillfull-ratio", "osd set-full-ratio")
        self.commands([{"prefix": name, "ratio": ratio} for name in names])

    def _pools_are_full(self, full: bool) -> bool:
        return all(self.has_flag(pool, "full") == full for pool in POOLS)

    def _ask(self, command: Mapping[str, object]) -> str:
        return self.commands([{**command, "format": "json"}])[0]

    def _await(self, what: str, is_there: Callable[[], bool]) -> None:
        end = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end and all(process.poll() is None for process in self._processes.values()):
            if is_there():
                return
            time.sleep(0.1)
        pytest.fail(f"Ceph's {what} did not start:\n{self._logs()}")

    def _await_osd(self) -> None:
        """Until each pool has taken a write from *this* OSD: the map may still have the one that was before."""
        self.run_with_bindings(_AWAIT_OSD, str(self._processes["osd"].pid), *POOLS)

    def _logs(self) -> str:
        logs = sorted((self._directory / "log").iterdir())
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-700:]}" for log in logs)


@contextlib.contextmanager
def ceph_cluster(memory_bytes: int = MEMORY_BYTES) -> Iterator[Ceph]:
    """A running cluster, whose OSD keeps up to ``memory_bytes`` in memory. Nothing of it is left behind."""
    missing = [program for program in PROGRAMS if _program(program) is None]
    if missing or not _has_bindings():
        pytest.fail(
            "these tests need Ceph: run tools/install-system-packages ceph "
            f"(missing: {', '.join(missing) or 'python3-rbd and python3-rados'})"
        )
    directory = Path(tempfile.mkdtemp(prefix="ceph-"))
    cluster = Ceph(directory, memory_bytes)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")


def _has_bindings() -> bool:
    argv = [SYSTEM_PYTHON, "-I", "-c", "import rados, rbd"]
    return Path(SYSTEM_PYTHON).exists() and subprocess.run(argv, capture_output=True, check=False).returncode == 0


def _run(program: str, *arguments: str | Path) -> None:
    done = subprocess.run([_program(program) or program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"{program} failed:\n{(done.stdout + done.stderr)[-2000:]}")


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as answer:
        answer.close()
    except OSError:
        return False
    return True


_CONNECT = """
import json, rados, sys, time
cluster = rados.Rados(
    conffile=sys.argv[1], name="client.admin",
    conf={"keyring": sys.argv[2], "rados_osd_op_timeout": "60", "rados_mon_op_timeout": "60"},
)
cluster.connect(timeout=60)
def command(fields):
    code, output, said = cluster.mon_command(json.dumps(fields), b"")
    if code:
        sys.exit("%s: %s %s" % (fields, code, said))
    return output.decode()
"""

# Threads of librados that are still at it when the interpreter winds down may crash it.
_END = """
import os
sys.stdout.flush()
os._exit(0)
"""

_COMMANDS = f"""{_CONNECT}
print(json.dumps([command(fields) for fields in json.loads(sys.argv[3])]))
"""

# An OSD's address ends in its process id. A client that asks the old address backs off for up to 15 s.
_AWAIT_OSD = f"""{_CONNECT}
for _ in range(1200):
    osds = json.loads(command(dict(prefix="osd dump", format="json")))["osds"]
    if osds and osds[0]["up"] and osds[0]["public_addr"].endswith("/" + sys.argv[3]):
        break
    time.sleep(0.05)
else:
    sys.exit("the OSD does not come up")
cluster.wait_for_latest_osdmap()
for pool in sys.argv[4:]:
    with cluster.open_ioctx(pool) as pool_io:
        pool_io.write_full("ready", b"1")
        pool_io.remove_object("ready")
print("[]")
"""

_CONF = """
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{port}/0]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
run_dir = {directory}/run
admin_socket = {directory}/run/$name.$pid.asok
crash_dir = {directory}/run
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_allow_pool_delete = true
mon_warn_on_pool_no_redundancy = false
mon_data_avail_warn = 1
mon_data_avail_crit = 1
paxos_propose_interval = 0.05
max_open_files = 0
objecter_tick_interval = 1
[mon]
mon_data = {directory}/mon
log_file = {directory}/log/$name.log
mon_cluster_log_file = {directory}/log/cluster.log
mon_osd_min_down_reporters = 1
mon_osd_report_timeout = 900
[mgr]
mgr_data = {directory}/mgr
log_file = {directory}/log/$name.log
mgr_initial_modules =
mgr_stats_period = 1
mgr_tick_period = 1
[osd]
osd_data = {directory}/osd
log_file = {directory}/log/$name.log
osd_objectstore = memstore
memstore_device_bytes = {memory_bytes}
osd_memory_target = 939524096
osd_class_update_on_start = true
osd_op_num_shards = 2
osd_mclock_skip_benchmark = true
# What is in memory is written to the directory only when the OSD ends slowly.
osd_fast_shutdown = false
osd_heartbeat_interval = 1
osd_client_watch_timeout = {watch}
[client.gateway]
log_file = {directory}/log/$name.log
rgw_thread_pool_size = 16
rgw_enable_usage_log = false
rgw_run_sync_thread = false
rgw_gc_obj_min_wait = 5
"""
