"""Where the tests that do not harm them get NATS and PostgreSQL from: containers, or programs of this machine.

Containers where an engine answers and has the images, or can get them; else local programs. Which of them is decided
once, before the first test, and stands in the header of the test report with the reason. ``TINTYPE_TEST_SERVERS`` says
``containers`` or ``local`` instead; what cannot be had then fails.
"""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SERVERS = "TINTYPE_TEST_SERVERS"
REASON = "TINTYPE_TEST_SERVERS_REASON"
NATS_IMAGE = "TINTYPE_TEST_NATS_IMAGE"
POSTGRESQL_IMAGE = "TINTYPE_TEST_POSTGRESQL_IMAGE"
CONTAINERS, LOCAL = "containers", "local"
_DEFAULT_IMAGES = {
    NATS_IMAGE: "docker.io/library/nats:2.12-alpine",
    POSTGRESQL_IMAGE: "docker.io/library/postgres:17-alpine",
}
_DEFAULT_SOCKET = Path("/var/run/docker.sock")
_PING_TIMEOUT_S = 5
_PULL_TIMEOUT_S = 120
_NATS_PORT = 4222


@dataclass(frozen=True, slots=True)
class RunningNats:
    """A NATS server that somebody else starts and ends."""

    url: str


def image(variable: str) -> str:
    """The image that the environment names, or the official one."""
    return os.environ.get(variable) or _DEFAULT_IMAGES[variable]


def decide(environment: MutableMapping[str, str]) -> None:
    """Decide where servers come from, for this process and those that inherit its environment."""
    if environment.get(SERVERS):
        environment.setdefault(REASON, f"{SERVERS} says so")
        return
    environment[SERVERS], environment[REASON] = _found(environment)


def header() -> str:
    """The line of the test report."""
    images = f" ({image(NATS_IMAGE)}, {image(POSTGRESQL_IMAGE)})" if in_containers() else ""
    return f"NATS and PostgreSQL: {os.environ[SERVERS]}{images}: {os.environ[REASON]}"


def in_containers() -> bool:
    """Whether servers are started in containers."""
    chosen = os.environ.get(SERVERS, LOCAL)
    if chosen not in (CONTAINERS, LOCAL):
        pytest.fail(f"{SERVERS} must be {CONTAINERS} or {LOCAL}, and is {chosen!r}")
    return chosen == CONTAINERS


@contextmanager
def nats_container() -> Iterator[RunningNats]:
    """A NATS server with JetStream, in a container."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    # Not NatsContainer, whose way of waiting is deprecated.
    server = DockerContainer(image(NATS_IMAGE)).with_command(["-js"]).with_exposed_ports(_NATS_PORT)
    with server.waiting_for(LogMessageWaitStrategy("Server is ready")) as container:
        host, port = container.get_container_host_ip(), container.get_exposed_port(_NATS_PORT)
        yield RunningNats(f"nats://{host}:{port}")


@contextmanager
def postgresql_container() -> Iterator[str]:
    """A PostgreSQL in a container; yields the URL of its database ``postgres``."""
    from testcontainers.community.postgres import PostgresContainer

    server = PostgresContainer(image(POSTGRESQL_IMAGE), username="postgres", dbname="postgres", driver=None)
    with server.with_command(["-c", "fsync=off"]) as container:
        yield f"{container.get_connection_url()}?connect_timeout=5"


def _found(environment: MutableMapping[str, str]) -> tuple[str, str]:
    if "DOCKER_HOST" not in environment and not _DEFAULT_SOCKET.exists():
        return LOCAL, "no container engine is set up here"
    import docker  # type: ignore[import-untyped]
    from docker.errors import DockerException  # type: ignore[import-untyped]
    from requests.exceptions import RequestException

    complaint = ""
    try:
        docker.from_env(timeout=_PING_TIMEOUT_S).close()
    except (DockerException, RequestException) as exc:
        complaint = _short(exc)
    if complaint:
        # Its constructor asks for the version, and leaves the connection open where there is no answer.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
        return LOCAL, f"the container engine does not answer: {complaint}"
    for variable in _DEFAULT_IMAGES:
        try:
            _get(docker, image(variable))
        except (DockerException, RequestException) as exc:
            return LOCAL, f"the container engine has no {image(variable)}: {_short(exc)}"
    return CONTAINERS, "a container engine answers"


def _get(docker: Any, name: str) -> None:
    client = docker.from_env(timeout=_PULL_TIMEOUT_S)
    try:
        client.images.get(name)
    except docker.errors.ImageNotFound:
        client.images.pull(name)
    finally:
        client.close()


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
