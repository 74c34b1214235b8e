"""Runs the health checks of containers: Podman leaves that to systemd, which the machine of the tests may lack."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

STARTING_INTERVAL_S = 1.0
POLL_S = 0.5
_NANOSECONDS = 1_000_000_000


class HealthChecks:
    """A thread that asks each container as often as its image or compose file says, and more often while it starts."""

    def __init__(self, podman: Callable[..., str]) -> None:
        self._podman = podman
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health checks", daemon=True)
        self._intervals: dict[str, float] = {}
        self._due: dict[str, float] = {}

    def __enter__(self) -> HealthChecks:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(POLL_S):
            try:
                for container, is_starting in self._containers().items():
                    self._check(container, is_starting)
            except (AssertionError, ValueError, subprocess.TimeoutExpired):  # a container that went away meanwhile
                continue

    def _containers(self) -> dict[str, bool]:
        found: dict[str, bool] = {}
        for state in ("starting", "healthy", "unhealthy"):
            for container in self._podman("ps", "--quiet", "--filter", f"health={state}").split():
                found[container] = state != "healthy"
        return found

    def _check(self, container: str, is_starting: bool) -> None:
        now = time.monotonic()
        if now < self._due.get(container, 0.0):
            return
        if container not in self._intervals:
            health = json.loads(self._podman("inspect", "--format", "{{json .Config.Healthcheck}}", container))
            self._intervals[container] = health["Interval"] / _NANOSECONDS
        with suppress(AssertionError):  # unhealthy is an exit code
            self._podman("healthcheck", "run", container)
        self._due[container] = now + (STARTING_INTERVAL_S if is_starting else self._intervals[container])
