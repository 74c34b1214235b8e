"""Prometheus' own programs, for tests of what it is to read: unpacked, or on the PATH."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.backends.ports import free_port

START_TIMEOUT_S = 30
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tintype" / "prometheus"


def program(name: str) -> str:
    """The path of ``prometheus`` or ``promtool``; a loud failure where there is none."""
    unpacked = _CACHE / "usr" / "bin" / name
    found = str(unpacked) if unpacked.exists() else shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is missing: run `tools/install-system-packages monitoring`")
    return found


def promtool(*arguments: str | Path, directory: Path | None = None) -> None:
    """Run promtool, and fail with what it says unless it is content."""
    command = [program("promtool"), *map(str, arguments)]
    ended = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{ended.stdout}{ended.stderr}"


@dataclass(frozen=True)
class Prometheus:
    """A running server."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What the expression gives now: a sample for each series."""
        result: list[dict[str, Any]] = self._get("query", {"query": expression})["data"]["result"]
        return result

    def values_since(self, begin: float, expression: str) -> list[float]:
        """All values that the expression has had since a moment (in seconds of Unix time), of all its series."""
        times = {"start": str(begin), "end": str(time.time()), "step": "1"}
        series = self._get("query_range", {"query": expression, **times})["data"]["result"]
        return [float(value) for each in series for _, value in each["values"]]

    def label_values(self, label: str, series: str) -> list[str]:
        """The values of a label among the series that a selector names."""
        values: list[str] = self._get(f"label/{label}/values", {"match[]": series})["data"]
        return values

    def _get(self, path: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as exc:
            raise AssertionError(f"{parameters}: {exc.read().decode()}") from exc
        return answer


@contextmanager
def prometheus_server(
    directory: Path, targets: Mapping[str, Sequence[str]], *, scrape_interval: str = "1s"
) -> Iterator[Prometheus]:
    """A server on loopback that scrapes the targets of each job; nothing of it is left behind but ``directory``."""
    config = {
        "global": {"scrape_interval": scrape_interval},
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": list(addresses)}]} for job, addresses in targets.items()
        ],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        program("prometheus"),
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={address}",
        "--web.console.libraries=",
        "--web.console.templates=",
    ]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        _await_ready(f"http://{address}/-/ready", process, directory / "prometheus.log")
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(timeout=START_TIMEOUT_S)


def _await_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.05)
    raise RuntimeError(f"prometheus did not start: {log.read_text()[-3000:]}")
