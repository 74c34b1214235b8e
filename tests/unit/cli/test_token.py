"""`tintype token create`: the entry for the services' file, and the token for its owner alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tintype.cli.app import app
from tintype.domain.errors import NotPermittedError
from tintype.runtime.auth import proven_caller
from tintype.runtime.tokens import Tokens


def create(*words: str) -> str:
    answered = CliRunner().invoke(app, ["token", "create", *words])
    assert answered.exit_code == 0, answered.output
    return answered.output


def test_a_service_knows_the_caller_by_what_was_made(tmp_path: Path) -> None:
    token, file = tmp_path / "ann.token", tmp_path / "tokens.toml"
    file.write_text(create("ann", "--for", "acme", "--for", "lab", "--token-file", str(token)))
    secret = token.read_text().strip()
    assert secret not in file.read_text()
    assert token.stat().st_mode & 0o777 == 0o600
    shown = (("authorization", f"Bearer {secret}"),)
    caller = proven_caller(Tokens(file), shown)
    assert (caller.actor, caller.project, caller.is_admin) == ("ann", "acme", False)
    with pytest.raises(NotPermittedError):
        proven_caller(Tokens(file), (*shown, ("tintype-admin", "true")))


def test_json_has_the_same_entry(tmp_path: Path) -> None:
    told = json.loads(
        create("root", "--for", "*", "--administrator", "--token-file", str(tmp_path / "t"), "-o", "json")
    )
    assert told == {
        "actor": "root",
        "sha256": told["sha256"],
        "projects": ["*"],
        "admin": True,
        "token_file": str(tmp_path / "t"),
    }


@pytest.mark.parametrize("words", [["two words"], ["ann", "--for", "../x"], [""]])
def test_what_no_service_would_take_is_refused(tmp_path: Path, words: list[str]) -> None:
    answered = CliRunner().invoke(app, ["token", "create", *words, "--token-file", str(tmp_path / "t")])
    assert answered.exit_code == 2
    assert not (tmp_path / "t").exists()


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("another's")
    answered = CliRunner().invoke(app, ["token", "create", "ann", "--token-file", str(tmp_path / "t")])
    assert answered.exit_code == 2
    assert "name another file" in " ".join(answered.output.split())
    assert (tmp_path / "t").read_text() == "another's"
