"""A deployment of its own for tests, made by the commands that an operator gives."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.backends.containers import ContainerEngine
from tools.deployment import ROOT

SCRAPE_TIMEOUT_S = 90
TINTYPE = str(Path(sys.executable).with_name("tintype"))


@dataclass(frozen=True, slots=True)
class Deployment:
    """What `make up` brings up, under a name of its own, with secrets in a directory of its own."""

    engine: ContainerEngine
    directory: Path
    environment: Mapping[str, str]

    @property
    def project(self) -> str:
        """What the engine knows it by."""
        return self.environment["COMPOSE_PROJECT_NAME"]

    @property
    def client_config(self) -> Path:
        """With which the operator's clients are ready."""
        return self.directory / "secrets" / "client.toml"

    def make(self, *command: str, **environment: str) -> str:
        """What `make COMMAND` does, less the installing and building; its output.

        Raises:
            AssertionError: it failed.
        """
        done = subprocess.run(
            [sys.executable, "-m", "tools.deployment", *command],
            cwd=ROOT,
            env={**os.environ, **self.environment, **environment},
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return done.stdout

    def tintype(self, *command: str, config: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run the operator's command line."""
        env = {**os.environ, "TINTYPE_CONFIG": str(config or self.client_config)}
        return subprocess.run([TINTYPE, *command], env=env, check=False, capture_output=True, text=True)

    def answer(self, *command: str) -> Any:
        """What ``tintype … --output json`` answers.

        Raises:
            AssertionError: it failed.
        """
        done = self.tintype(*command, "--output", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def scraped(self, services: Collection[str]) -> Mapping[str, str]:
        """How Prometheus finds each job, once it has found all of them up, or has had its time."""
        url = f"http://{self.environment['TINTYPE_PROMETHEUS_LISTEN']}/api/v1/targets?state=active"
        end = time.monotonic() + SCRAPE_TIMEOUT_S
        while True:
            with urllib.request.urlopen(url, timeout=10) as answer:
                targets = json.load(answer)["data"]["activeTargets"]
            found = {target["labels"]["job"]: target["health"] for target in targets}
            if list(found.values()) == ["up"] * len(services) or time.monotonic() > end:
                return found
            time.sleep(0.5)

    def left(self) -> Mapping[str, list[str]]:
        """What there is of it."""
        client = self.engine.client()
        own = {"label": f"com.docker.compose.project={self.project}"}
        return {
            "containers": [found.name for found in client.containers.list(all=True, filters=own)],
            "networks": [found.name for found in client.networks.list(filters=own)],
            "volumes": [found.name for found in client.volumes.list(filters=own)],
        }


def new_deployment(engine: ContainerEngine, directory: Path, name: str, **environment: str) -> Deployment:
    """A deployment that is not up yet, on free ports of loopback."""
    (directory / "certificates").mkdir()
    listen = dict(zip(("TINTYPE_LISTEN", "TINTYPE_NATS_LISTEN", "TINTYPE_PROMETHEUS_LISTEN"), _free(3), strict=True))
    places = {
        "COMPOSE_PROJECT_NAME": name,
        "TINTYPE_SECRETS": str(directory / "secrets"),
        "TINTYPE_CERTIFICATES": str(directory / "certificates"),
    }
    return Deployment(engine, directory, {**listen, **places, **environment})


def _free(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses
