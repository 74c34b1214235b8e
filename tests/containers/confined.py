"""Containers as a strict orchestrator runs them: without privileges, and with a root file system that is read-only."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from docker.models.containers import Container  # type: ignore[import-untyped]
from docker.types import Mount  # type: ignore[import-untyped]

from tests.backends.containers import ContainerEngine
from tools.deployment import DEPLOY, find_engine

START_TIMEOUT_S = 120


def confinement() -> Mapping[str, Any]:
    """What every container of ours is run with."""
    options = ["no-new-privileges:true"]
    if not find_engine().is_podman:  # as deploy/compose.docker.yaml
        options += [seccomp(DEPLOY / "seccomp/converter.json"), "apparmor=unconfined"]
    data = Mount("/var/lib/tintype", None)  # a volume without a name, which takes its owner from the image
    return {
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": options,
        "tmpfs": {"/tmp": "mode=1777"},
        "mounts": [data],
    }


def seccomp(profile: Path) -> str:
    """A system call filter as the engine wants it: Podman by its path, Docker by its content."""
    return f"seccomp={profile if find_engine().is_podman else profile.read_text()}"


@contextmanager
def running(engine: ContainerEngine, image: str, **options: Any) -> Iterator[Container]:
    """A container that is removed in the end, whatever it does."""
    container = engine.client().containers.run(image, detach=True, **options)
    try:
        yield container
    finally:
        container.remove(force=True, v=True)


def wait_until_healthy(container: Container) -> None:
    """Wait for its health check to succeed.

    Raises:
        AssertionError: it ended, or did not become healthy in time; with the end of its log.
    """
    end = time.monotonic() + START_TIMEOUT_S
    while True:
        container.reload()
        state = container.attrs["State"]
        if state.get("Health", {}).get("Status") == "healthy":
            return
        assert state["Status"] == "running" and time.monotonic() < end, container.logs(tail=20).decode()
        time.sleep(0.2)


def output_of(container: Container, *command: str) -> tuple[int, str]:
    """What a command in it prints, and its exit code."""
    exit_code, output = container.exec_run(list(command))
    return exit_code, output.decode()
