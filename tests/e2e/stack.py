"""The whole of Tintype as a user runs it: `tintype up` in a directory, with its processes in reach."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 60

SERVICES = ("catalog", "importer", "converter", "signer", "nats")


@dataclass
class Stack:
    """One embedded stack; ``environment`` is added to that of the supervisor, ``options`` to its command line."""

    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """Where the stack keeps its data."""
        return self.directory / "data"

    @property
    def client_config(self) -> Path:
        """What the SDK and the CLI read."""
        return self.data / "client.toml"

    @property
    def endpoints(self) -> dict[str, object]:
        """The ready file's content."""
        content: dict[str, object] = json.loads((self.directory / "ready.json").read_text())
        return content

    def start(self) -> None:
        """Run `tintype up`, and wait until every service is healthy."""
        ready = self.directory / "ready.json"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tintype.cli", "up", "--dir", str(self.data), "--ready-file", str(ready)]
        command += self.options
        with (self.directory / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env={**os.environ, **self.environment}, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the stack did not start: {(self.directory / 'up.log').read_text()[-3000:]}")
            time.sleep(0.02)

    def stop(self) -> int:
        """Stop the stack as Ctrl-C does; its exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=STOP_TIMEOUT_S)

    def pids(self) -> dict[str, int]:
        """The processes of the running stack by name, the supervisor's as ``up``."""
        if self.process is None:
            return {}
        found = {"up": self.process.pid}
        for pid in descendants(self.process.pid):
            words = command_line(pid)
            for name in SERVICES:
                if f"services.{name}" in words or (name == "nats" and any("nats-server" in w for w in words[:1])):
                    found[name] = pid
        return found

    def kill(self, name: str) -> None:
        """SIGKILL one process, by its name; nothing if it is not there just now."""
        pid = self.pids().get(name)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_everything(self) -> None:
        """SIGKILL the supervisor, which takes all others along."""
        if self.process is None:
            return
        pids = list(self.pids().values())
        self.process.kill()
        self.process.wait()
        deadline = time.monotonic() + 10
        while (alive := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < deadline:
            time.sleep(0.02)
        if alive:
            raise AssertionError(f"processes outlived their supervisor: {[command_line(pid) for pid in alive]}")


def descendants(pid: int) -> Iterator[int]:
    """All processes below ``pid``."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                yield child
                yield from descendants(child)


def command_line(pid: int) -> list[str]:
    """The words that a process was started with; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def is_alive(pid: int) -> bool:
    """Whether a process runs, and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def stored_files(stack: Stack) -> list[str]:
    """Every file below the stack's store, relative to it."""
    root = stack.data / "store"
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
