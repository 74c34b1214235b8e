"""What docs/cli.md and docs/sdk.md say is what the code does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from tintype.cli.app import app
from tintype.cli.exit_codes import MEANINGS
from tintype.client import errors

DOCS = Path(__file__).parents[3] / "docs"


def commands() -> list[str]:
    """Every command line that the document shows."""
    blocks = re.findall(r"```sh\n(.*?)```", (DOCS / "cli.md").read_text(), re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [match[0].partition(" #")[0].strip(") ") for line in lines if (match := re.search(r"tintype [^|#]*", line))]


@pytest.mark.parametrize("line", commands())
def test_every_command_that_is_shown_can_be_typed(line: str) -> None:
    words = shlex.split(line)[1:]
    command = get_command(app)
    context = command.make_context("tintype", words, resilient_parsing=False)
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        _, command, rest = command.resolve_command(context, rest)
        context = command.make_context(command.name, rest, parent=context)


def test_the_exit_codes_are_those_of_the_code() -> None:
    shown = re.findall(r"^\| (\d+) \| (.*) \|$", (DOCS / "cli.md").read_text(), re.M)

    assert shown == [(str(code.value), meaning) for code, meaning in MEANINGS.items()]


def test_every_error_is_in_the_sdks_table() -> None:
    text = (DOCS / "sdk.md").read_text()

    for kind in errors.every_error():
        assert f"`{kind.__name__}`" in text or kind is errors.ClientError
