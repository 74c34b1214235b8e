"""The command that looks at a store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.importer.check_store import main


def settings(directory: Path) -> str:
    file = directory / "settings.toml"
    file.write_text(f'[stores.main]\npath = "{directory}/images"\nrequire_mount = false\n')
    return str(file)


def test_every_finding_is_told_with_its_grade(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["main", "--config", settings(tmp_path), "--output", "json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert {"name": "access", "grade": "good"}.items() <= next(f for f in findings if f["name"] == "access").items()


def test_a_store_that_cannot_be_used_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = settings(tmp_path)
    (tmp_path / "images").write_text("a file, where the directory should be")
    assert main(["main", "--config", file]) != 0
    assert "check_store: " in capsys.readouterr().err


def test_a_store_that_is_not_set_up_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["other", "--config", settings(tmp_path)]) == 2
    assert "stores.other" in capsys.readouterr().err
