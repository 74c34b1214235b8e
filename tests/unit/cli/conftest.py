"""The command line, run in this process against services in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.unit.client.fake_services import FakeServices, serving_in_thread
from tintype.cli.app import app


@dataclass(frozen=True)
class Outcome:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def answer(self) -> dict[str, object]:
        """The object that it printed as JSON."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    @property
    def error(self) -> dict[str, object]:
        """The error that it printed as JSON."""
        found = json.loads(self.err)["error"]
        assert isinstance(found, dict)
        return found


Tintype = Callable[..., Outcome]


@pytest.fixture
def services() -> Iterator[FakeServices]:
    with serving_in_thread(FakeServices()) as running:
        yield running


@pytest.fixture
def config(services: FakeServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "client.toml"
    path.write_text(
        f'[client]\ncatalog = "{services.target}"\nimporter = "{services.target}"\n'
        f'signer = "{services.target}"\nretry_s = 0.2\nresume_attempts = 1\n'
    )
    monkeypatch.setenv("TINTYPE_CONFIG", str(path))
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def tintype(config: Path) -> Tintype:
    def run(*arguments: str, stdin: bytes = b"") -> Outcome:
        result = CliRunner().invoke(app, list(arguments), input=stdin, prog_name="tintype")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run
