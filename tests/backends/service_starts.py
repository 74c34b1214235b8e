"""Starts of services that end by themselves, each service in one process that makes all of its attempts.

``python -m tests.backends.service_starts SERVICE`` reads ``[{"name": …, "environment": {…}, "toml": …}]`` from standard
input, runs the service's own ``main`` on each, and writes ``{name: [exit code, standard error]}``. To start a process
costs more than all attempts of one together.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tintype.runtime.service import main

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 110


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a service is started with; ``toml`` is the text of its file, which there is none of where it is ``None``."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    toml: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a start ended, and what it said."""

    code: int
    said: str

    @property
    def last_line(self) -> str:
        """The line that tells why."""
        return self.said.splitlines()[-1] if self.said else ""


def run_all(service: str, attempts: Sequence[Attempt], directory: Path) -> dict[str, Ended]:
    """Make all attempts of one service, in a process of its own, in ``directory``."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TINTYPE_")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.backends.service_starts", service],
        input=json.dumps([asdict(attempt) for attempt in attempts]),
        env={**inherited, "PYTHONPATH": str(ROOT)},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name: Ended(*ended) for name, ended in json.loads(done.stdout).items()}


def _attempt(service: str, attempt: Attempt) -> tuple[int, str]:
    module = importlib.import_module(f"services.{service}.app")
    settings = importlib.import_module(f"services.{service}.settings")
    file = Path(f"{attempt.name}.toml")
    if attempt.toml is not None:
        file.write_text(attempt.toml)
    os.environ.update(attempt.environment)
    with tempfile.TemporaryFile() as told:
        kept = os.dup(2)
        os.dup2(told.fileno(), 2)
        try:
            main(
                getattr(settings, f"{service.title()}Settings"),
                service,
                "A start.",
                module.build,
                ["--config", str(file)] if attempt.toml is not None else [],
            )
        except SystemExit as exc:
            code = exc.code
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            for name in attempt.environment:
                del os.environ[name]
        told.seek(0)
        return int(code or 0), told.read().decode()


if __name__ == "__main__":
    asked = [Attempt(**each) for each in json.load(sys.stdin)]
    json.dump({attempt.name: _attempt(sys.argv[1], attempt) for attempt in asked}, sys.stdout)
