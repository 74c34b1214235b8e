"""The container engine of the tests: the one that answers here, else a Podman of their own, else a loud failure."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker  # type: ignore[import-untyped]
from docker.errors import DockerException  # type: ignore[import-untyped]

from tests.backends.podman import private_podman


@dataclass(frozen=True, slots=True)
class ContainerEngine:
    """An engine that answers; ``environment`` is what every client of it needs, `make up` included."""

    environment: Mapping[str, str]

    def client(self) -> docker.DockerClient:
        """A client of its Docker-compatible interface."""
        return docker.from_env(environment={**os.environ, **self.environment}, timeout=120)


@contextmanager
def container_engine() -> Iterator[ContainerEngine]:
    """The engine, whose address is in this process's environment while the context lasts."""
    if _answers():
        yield ContainerEngine({})
        return
    with private_podman() as podman:
        before = dict(os.environ)
        os.environ.update(podman.environment)
        try:
            yield ContainerEngine(podman.environment)
        finally:
            os.environ.clear()
            os.environ.update(before)


def _answers() -> bool:
    scheme, _, path = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").partition("://")
    if scheme == "unix" and not Path(path).exists():
        return False  # docker's client would leave a socket open that it could not connect
    try:
        with closing(docker.from_env(timeout=5)) as client:
            client.ping()
    except DockerException:
        return False
    return True
