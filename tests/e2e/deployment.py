"""A deployment on one machine: several processes of each service, as `python -m services.NAME`.

Each process has a home, a working directory and a directory for temporary files of its own. What two of them have in
common is the log, the database and the stores, as if each ran on a machine of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tintype.client import ClientConfig
from tintype.embedded.directory import StackDirectory
from tintype.embedded.stack_settings import to_toml
from tintype.runtime.child_process import bound

REPLICAS: Mapping[str, int] = {"catalog": 2, "importer": 3, "converter": 3, "signer": 2}
START_TIMEOUT_S = 90
DRAIN_S = 3.0
STOP_TIMEOUT_S = 30
_POLL_S = 0.02

Tables = Mapping[str, Mapping[str, Any]]


@dataclass
class Replica:
    """One process of a service. It keeps its address when it is started again."""

    service: str
    name: str
    address: str
    directory: Path
    settings: Tables
    process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The running process."""
        assert self.process is not None
        return self.process.pid

    def log(self) -> list[dict[str, Any]]:
        """What it has logged so far, over all its lives."""
        lines = (self.directory / "log").read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def start(self) -> None:
        """Start the process; :meth:`wait_ready` returns when calls are answered."""
        for name in ("home", "tmp"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        settings = self.directory / "settings.toml"
        settings.write_text(to_toml(self.settings))
        ready = self.directory / "ready.json"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", f"services.{self.service}", "--config", str(settings)]
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TINTYPE_")},
            "HOME": str(self.directory / "home"),
            "TMPDIR": str(self.directory / "tmp"),
        }
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                bound([*command, "--ready-file", str(ready)]),
                cwd=self.directory / "home",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_ready(self) -> None:
        """Return once it has said that it answers calls."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (self.directory / "ready.json").exists():
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start: {(self.directory / 'log').read_text()[-3000:]}")
            time.sleep(_POLL_S)

    def stop(self) -> int:
        """Let it drain, as an orchestrator does; its exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=STOP_TIMEOUT_S)

    async def restart(self, end: Callable[[Replica], object] | None = None) -> None:
        """End it, or let it drain, and start it again."""
        code = await asyncio.to_thread(end or Replica.stop, self)
        assert end or code == 0, f"{self.name} did not end in order"
        self.start()  # and not in a thread: the kernel ends the process with the thread that started it
        await asyncio.to_thread(self.wait_ready)

    def kill(self) -> None:
        """End it at any instruction."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@dataclass
class Deployment:
    """Replicas of all services, on one log, one database and the same stores."""

    replicas: list[Replica] = field(default_factory=list)
    nats: str = ""

    def of(self, service: str) -> list[Replica]:
        """The replicas of one service."""
        return [replica for replica in self.replicas if replica.service == service]

    def start(self) -> None:
        """Start all at once, and wait until each answers."""
        for replica in self.replicas:
            replica.start()
        for replica in self.replicas:
            replica.wait_ready()

    def stop(self) -> None:
        """Let all drain."""
        for replica in self.replicas:
            if replica.process is not None:
                replica.process.send_signal(signal.SIGTERM)
        try:
            for replica in self.replicas:
                if replica.process is not None:
                    assert replica.process.wait(STOP_TIMEOUT_S) == 0, replica.log()[-3:]
        finally:
            for replica in self.replicas:
                replica.kill()

    def client(self, *, index: int | None = None, **more: Any) -> ClientConfig:
        """A client of the replicas with that number, or of all in turn."""

        def target(service: str) -> str:
            addresses = [replica.address for replica in self.of(service)]
            return f"ipv4:{','.join(addresses)}" if index is None else addresses[index % len(addresses)]

        targets: dict[str, Any] = {service: target(service) for service in REPLICAS}
        return ClientConfig(**targets, nats=self.nats, **more)


@contextmanager
def deployment(
    directory: Path,
    nats: str,
    database_url: str,
    tables: Tables,
    keys: Path,
    replicas: Mapping[str, int] = REPLICAS,
) -> Iterator[Deployment]:
    """A running deployment. ``tables`` are the settings of all; of the signer's ``keys`` each has a copy."""
    names = [f"{service}-{number}" for service, count in replicas.items() for number in range(count)]
    ports = StackDirectory(directory).ports(names)
    deployed = Deployment(nats=nats)
    for name in names:
        service = name.rpartition("-")[0]
        home = directory / name
        home.mkdir(parents=True)
        own: dict[str, Any] = {"listen": f"127.0.0.1:{ports[name]}", "drain_s": DRAIN_S}
        if service == "catalog":
            own["database_url"] = database_url
        if service == "converter":
            own["scratch_dir"] = str(home / "tmp")
        if service == "signer":
            own["key_dir"] = str(copied_keys(keys, home / "keys"))
        told = {**tables, "nats": {"url": nats}, service: {**tables.get(service, {}), **own}}
        deployed.replicas.append(Replica(service, name, f"127.0.0.1:{ports[name]}", home, told))
    with ExitStack() as stack:
        for replica in deployed.replicas:
            stack.callback(replica.kill)
        deployed.start()
        yield deployed
        deployed.stop()


def copied_keys(keys: Path, directory: Path) -> Path:
    """A copy that its owner alone may read, as a secret is mounted."""
    directory.mkdir(mode=0o700)
    for path in keys.iterdir():
        copy = directory / path.name
        copy.write_bytes(path.read_bytes())
        copy.chmod(path.stat().st_mode & 0o777)
    return directory


def steps_ended(replicas: Sequence[Replica]) -> dict[str, list[str]]:
    """The images whose steps each replica has ended, by its name."""
    return {
        replica.name: [line["image_id"] for line in replica.log() if line.get("event") == "step ended"]
        for replica in replicas
    }
