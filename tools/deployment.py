"""`make images`, `make up`, `make down`, `make logs`: the composed deployment of deploy/compose.yaml on this machine.

Works with Docker and with Podman behind its Docker-compatible socket; DOCKER_HOST says where the engine is. What a run
chooses comes by environment, as deploy/compose.yaml says, and here:

    BASE=IMAGE          what the images are built on, instead of deploy/Containerfile's default
    BUILD_OPTIONS=…     further options for `docker build` or `podman build`
    CLUSTER=1           three NATS servers
    PROFILES=monitoring Prometheus and Grafana too
    PURGE=1             `down` removes the data and the secrets as well
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import docker  # type: ignore[import-untyped]  # of testcontainers
from docker.errors import DockerException  # type: ignore[import-untyped]

import tintype
from tintype.embedded.stack_settings import SERVICES
from tools.make_secrets import make_secrets

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
TARGETS = (*SERVICES, "cli")
PROJECT = "tintype"
REPOSITORY = "docker.io/tintype"


@dataclass(frozen=True, slots=True)
class Engine:
    """The container engine of this machine, as far as it matters how it is called."""

    is_podman: bool
    compose: Sequence[str]


def find_engine() -> Engine:
    """The engine that answers, and the compose program that there is for it."""
    try:
        with closing(docker.from_env(timeout=10)) as client:
            components = client.version().get("Components", ())
    except DockerException as exc:
        sys.exit(
            "no container engine answers: start Docker, or Podman's socket (`systemctl --user start podman.socket`, "
            f"and DOCKER_HOST=unix://$XDG_RUNTIME_DIR/podman/podman.sock): {str(exc)[:200]}"
        )
    is_podman = any("Podman" in str(component.get("Name")) for component in components)
    if _succeeds("docker", "compose", "version"):
        return Engine(is_podman, ("docker", "compose"))
    if shutil.which("docker-compose"):
        return Engine(is_podman, ("docker-compose",))
    sys.exit("there is neither `docker compose` nor docker-compose: install one (Debian: apt install docker-compose)")


def build_images(engine: Engine, environment: Mapping[str, str]) -> None:
    """Build all images from this tree; what has not changed is taken from earlier builds."""
    program = ["podman", "build", "--format", "docker"] if engine.is_podman else ["docker", "build"]
    version = environment.get("TINTYPE_VERSION", tintype.__version__)
    repository = environment.get("TINTYPE_IMAGES", REPOSITORY)
    arguments = ["--build-arg", f"VERSION={version}", "--build-arg", f"REVISION={_revision()}"]
    if base := environment.get("BASE"):
        arguments += ["--build-arg", f"BASE={base}"]
    arguments += shlex.split(environment.get("BUILD_OPTIONS", ""))
    for target in TARGETS:
        print(f"building {repository}/{target}:{version}", flush=True)
        tag = ["--target", target, "--tag", f"{repository}/{target}:{version}"]
        _run(*program, "--quiet", *arguments, *tag, "--file", str(DEPLOY / "Containerfile"), str(ROOT))


def up(engine: Engine, environment: Mapping[str, str]) -> None:
    """Make what is secret, start everything, and wait until all of it is healthy."""
    endpoint = environment.get("TINTYPE_LISTEN", "127.0.0.1:9292")
    nats = environment.get("TINTYPE_NATS_LISTEN", "127.0.0.1:4222")
    names = [name for name in environment.get("TINTYPE_NAMES", "").split(",") if name]
    secrets = _secrets(environment)
    try:
        make_secrets(secrets, _reachable(endpoint), _reachable(nats), names)
    except (OSError, ValueError) as exc:
        sys.exit(f"{secrets}: {exc}")
    _compose(engine, environment, "up", "--detach")
    print(f"Tintype is up. Clients: export TINTYPE_CONFIG={secrets / 'client.toml'}")


def down(engine: Engine, environment: Mapping[str, str]) -> None:
    """Stop and remove everything; data and secrets only with PURGE."""
    if environment.get("PURGE"):
        _compose(engine, environment, "down", "--volumes", "--remove-orphans")
        shutil.rmtree(_secrets(environment), ignore_errors=True)
        return
    _compose(engine, environment, "down", "--remove-orphans")
    # The copies that the containers had of their configuration and secrets: deploy/ has the originals.
    with closing(docker.from_env()) as client:
        for volume in client.volumes.list(filters={"label": f"com.docker.compose.project={_project(environment)}"}):
            if volume.name.endswith("-configuration"):
                volume.remove()


def _compose(engine: Engine, environment: Mapping[str, str], *command: str) -> None:
    options = [*_compose_options(engine, environment), *command]
    # The path of a system call filter is relative to the file for some versions of compose, and to here for others.
    _run(*engine.compose, *options, env={"TINTYPE_VERSION": tintype.__version__}, directory=DEPLOY)


def _compose_options(engine: Engine, environment: Mapping[str, str]) -> Iterator[str]:
    yield from ("--project-name", _project(environment), "--file", str(DEPLOY / "compose.yaml"))
    if not engine.is_podman:
        yield from ("--file", str(DEPLOY / "compose.docker.yaml"))
    if environment.get("CLUSTER"):
        yield from ("--file", str(DEPLOY / "compose.cluster.yaml"))
    for profile in environment.get("PROFILES", "").split():
        yield from ("--profile", profile)


def _project(environment: Mapping[str, str]) -> str:
    return environment.get("COMPOSE_PROJECT_NAME", PROJECT)


def _secrets(environment: Mapping[str, str]) -> Path:
    return DEPLOY / environment.get("TINTYPE_SECRETS", "secrets")


def _reachable(address: str) -> str:
    """Where a client of this machine finds what listens on ``address``."""
    host, _, port = address.rpartition(":")
    return f"127.0.0.1:{port}" if host in ("", "0.0.0.0", "[::]") else address  # noqa: S104


def _revision() -> str:
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=False, capture_output=True, text=True)
    return found.stdout.strip() or "unknown"


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def _run(*command: str, env: Mapping[str, str] | None = None, directory: Path = ROOT) -> None:
    done = subprocess.run(command, cwd=directory, check=False, env={**(env or {}), **os.environ})
    if done.returncode:
        sys.exit(done.returncode)


def main(arguments: Sequence[str]) -> None:
    """The program: one of the commands, or `compose` with anything of its own."""
    command, *rest = arguments or ["help"]
    environment = dict(os.environ)
    match command:
        case "images":
            build_images(find_engine(), environment)
        case "up":
            up(find_engine(), environment)
        case "down":
            down(find_engine(), environment)
        case "compose":
            _compose(find_engine(), environment, *rest)
        case _:
            sys.exit("usage: python -m tools.deployment images | up | down | compose …")


if __name__ == "__main__":
    main(sys.argv[1:])
