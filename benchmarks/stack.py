"""A `tintype up` to measure, set up for a fair comparison: the hash that `sha512sum` computes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT = {"TINTYPE_IMPORTER__ALLOWED_HOSTS": "127.0.0.1", "TINTYPE_IMPORTER__HASH_ALGORITHM": "sha512"}
SERVICES = ("catalog", "importer", "converter", "signer")


@dataclass(frozen=True)
class RunningStack:
    """A running stack: its directory, and its processes by name."""

    directory: Path
    pids: Mapping[str, int]

    @property
    def client_config(self) -> Path:
        """What the SDK reads."""
        return self.directory / "data" / "client.toml"

    def stored_bytes(self) -> int:
        """How much is in the store, or on its way into it."""
        return sum(path.stat().st_size for path in (self.directory / "data" / "store").rglob("*") if path.is_file())

    def peak_rss_mib(self, name: str) -> float:
        """The most memory that a service has had resident, in MiB."""
        status = Path(f"/proc/{self.pids[name]}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(found[1]) / 1024 if found else 0.0


@contextlib.contextmanager
def running_stack(directory: Path, environment: Mapping[str, str] = ENVIRONMENT) -> Iterator[RunningStack]:
    """Run `tintype up` below ``directory``."""
    ready = directory / "ready.json"
    command = [sys.executable, "-m", "tintype.cli", "up", "--dir", str(directory / "data"), "--ready-file", str(ready)]
    with (directory / "up.log").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log)
    try:
        while not ready.exists():
            if process.poll() is not None:
                raise RuntimeError((directory / "up.log").read_text())
            time.sleep(0.05)
        yield RunningStack(directory, _pids(process.pid))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        ready.unlink(missing_ok=True)


def longest_stalls_ms(directory: Path) -> dict[str, float]:
    """How long each service's event loop stood still at the most, as it said when it stopped."""
    stalls: dict[str, float] = {}
    for name in SERVICES:
        for line in (directory / "data" / "logs" / f"{name}.log").read_text().splitlines():
            with contextlib.suppress(ValueError, AttributeError):
                stall = json.loads(line).get("longest_stall_ms")
                if stall is not None:
                    stalls[name] = max(stalls.get(name, 0.0), stall)
    return stalls


def _pids(root: int) -> dict[str, int]:
    found: dict[str, int] = {}
    todo = [root]
    while todo:
        pid = todo.pop()
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        found.update({name: pid for name in SERVICES if f"services.{name}" in words})
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            todo += map(int, task.read_text().split())
    return found
